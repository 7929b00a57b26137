//! Printing that never fails and never lets foreign text command the terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_prompt_orchestrator::job::Problems;
use tokio_prompt_orchestrator::words::{steers, with_causes};

/// Whether stdout is for results alone.
static RESULTS_ONLY: AtomicBool = AtomicBool::new(false);

/// From now on stdout is for results alone: what [`out`] prints goes to stderr.
pub fn keep_stdout_for_results() {
    RESULTS_ONLY.store(true, Ordering::Relaxed);
}

/// Prints a line to stdout; a closed stdout is not an error.
pub fn out(line: &str) {
    match RESULTS_ONLY.load(Ordering::Relaxed) {
        true => err(line),
        false => {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// Prints a line to stderr; a closed stderr is not an error.
pub fn err(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether stderr is a terminal that takes colors.
pub fn stderr_is_colorful() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    std::io::stderr().is_terminal()
        && unset("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// An error and its causes, on one line.
pub fn error(error: &dyn std::error::Error) {
    err(&format!("error: {}", escape(&with_causes(error))));
}

/// Every problem, then how many.
pub fn problems(problems: &Problems) {
    for problem in &problems.0 {
        err(&problem.render(stderr_is_colorful()));
        err("");
    }
    let count = problems.0.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    err(&format!("{count} {noun} found; nothing was sent"));
}

/// Makes text from outside harmless: control characters, and those that change the direction of
/// writing, are shown as escapes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match steers(character) {
            true => escaped.extend(character.escape_unicode()),
            false => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_command_the_terminal() {
        let hostile = "\x1b]8;;http://x\x07a\r\n\u{202e}b\u{9b}31m é😀";
        let escaped = escape(hostile);
        assert!(
            escaped.chars().all(|c| !c.is_control() && c != '\u{202e}'),
            "{escaped}"
        );
        assert!(escaped.ends_with("é😀"));
    }
}
