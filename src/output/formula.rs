//! Text from models and servers that a spreadsheet would take for a formula.

use std::borrow::Cow;

use crate::words::steers;

/// The cell as a spreadsheet shows it, whatever it says: `'` stands before what would be a formula.
pub(super) fn inert(cell: Cow<'_, str>) -> Cow<'_, str> {
    match is_formula(&cell) {
        true => format!("'{cell}").into(),
        false => cell,
    }
}

/// Whether a spreadsheet could take it for a formula. Some look past what is not seen at the start, and some read the wide
/// forms of a sign as the sign. A number is a number, whatever sign it has.
fn is_formula(cell: &str) -> bool {
    let seen = cell.trim_start_matches(is_unseen);
    let begins = |first: char| {
        matches!(
            first,
            '=' | '+'
                | '-'
                | '@'
                | '|'
                | '%'
                | '＝'
                | '＋'
                | '－'
                | '＠'
                | '｜'
                | '％'
                | '﹦'
                | '﹢'
                | '﹣'
                | '﹫'
        )
    };
    seen.starts_with(begins) && !is_number(seen.trim_end())
}

fn is_unseen(character: char) -> bool {
    character.is_whitespace()
        || steers(character)
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Digits with a sign, points and commas, an exponent, a percent sign: in whatever order a country has points and commas.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let unsigned = unsigned.strip_suffix('%').unwrap_or(unsigned);
    let (digits, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((digits, exponent)) => (
            digits,
            exponent.strip_prefix(['+', '-']).unwrap_or(exponent),
        ),
        None => (unsigned, "0"),
    };
    let all = |text: &str, also: &[char]| {
        text.contains(|c: char| c.is_ascii_digit())
            && text
                .chars()
                .all(|c| c.is_ascii_digit() || also.contains(&c))
    };
    all(digits, &['.', ',']) && all(exponent, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_a_formula_gets_an_apostrophe() {
        for cell in [
            "=1",
            " =1",
            "\t@x",
            "\u{feff}\r\n+a",
            "\u{2060}－x",
            "-1+1",
            "-",
            "- a",
            "+1e",
            "%x",
            "|x",
            "--1",
            "-1e1e1",
        ] {
            assert_eq!(inert(cell.into()), format!("'{cell}"));
        }
    }

    #[test]
    fn numbers_and_words_stay_as_they_are() {
        for cell in [
            "", "-5", "+1.5", "1e3", "-1,234.5", "-1.234,5", "-2.5E-7", " -4 ", "-5%", "a=b",
            "1-1", "'=1", "é",
        ] {
            assert_eq!(inert(cell.into()), cell);
        }
    }
}
