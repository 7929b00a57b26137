//! Text from outside, before people see it.

/// Whether a character steers what shows it instead of being shown: controls, line breaks, and what changes the
/// direction of writing or has no width.
pub fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
