//! Printing that never fails and never lets foreign text command the terminal, or the service that reads what it shows.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio_prompt_orchestrator::ExitCode;
use tokio_prompt_orchestrator::job::Problems;
use tokio_prompt_orchestrator::words::{steers, with_causes};

/// What services that run builds take for a command: at the start of a line, and anywhere in it.
const COMMANDS: (&str, [&str; 2]) = ("::", ["##vso[", "##["]);

/// What writing to a terminal says that is not there any more. (A disk that fails says so later.)
#[cfg(unix)]
const TERMINAL_IS_GONE: Option<i32> = Some(rustix::io::Errno::IO.raw_os_error());
#[cfg(not(unix))]
const TERMINAL_IS_GONE: Option<i32> = None;

/// Why something could not be printed that should have been.
static LOST: OnceLock<String> = OnceLock::new();

/// Whether stdout is for results alone.
static RESULTS_ONLY: AtomicBool = AtomicBool::new(false);

/// From now on stdout is for results alone: what [`out`] prints goes to stderr.
pub fn keep_stdout_for_results() {
    RESULTS_ONLY.store(true, Ordering::Relaxed);
}

/// Prints lines for people to stdout; a closed stdout is not an error.
pub fn out(text: &str) {
    match RESULTS_ONLY.load(Ordering::Relaxed) {
        true => err(text),
        false => print(&guarded(text)),
    }
}

/// Prints JSON to stdout over several lines.
pub fn json(value: &Value) {
    json_text(&format!("{value:#}"));
}

/// Prints text that is JSON to stdout.
pub fn json_text(text: &str) {
    print(&guarded_json(text.trim_end()));
}

/// Prints lines to stderr; a closed stderr is not an error.
pub fn err(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", guarded(text));
}

/// Prints to stderr what should be looked at, and is no reason to stop.
pub fn warn(message: &str) {
    err(&format!("warning: {message}"));
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // Who closes it does not want to read on.
        if error.kind() != ErrorKind::BrokenPipe && error.raw_os_error() != TERMINAL_IS_GONE {
            let _ = LOST.set(error.to_string());
        }
    }
}

/// The exit code of a command, which is no success if what it had to say could not be printed.
pub fn judged(code: ExitCode) -> ExitCode {
    match LOST.get() {
        Some(why) => {
            err(&format!("error: cannot write to stdout: {why}"));
            match code {
                ExitCode::Success => ExitCode::Unexpected,
                worse => worse,
            }
        }
        None => code,
    }
}

/// Whether stderr is a terminal that takes colors.
pub fn stderr_is_colorful() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && (set("FORCE_COLOR") || (std::io::stderr().is_terminal() && !is_dumb))
}

/// An error and its causes, on one line.
pub fn error(error: &dyn std::error::Error) {
    err(&format!("error: {}", escape(&with_causes(error))));
}

/// Every problem, then how many.
pub fn problems(problems: &Problems) {
    for problem in &problems.0 {
        // What steers is escaped where it is rendered: its colors are our own.
        let rendered = without_commands(problem.render(stderr_is_colorful()));
        let _ = writeln!(std::io::stderr(), "{rendered}\n");
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

/// The lines as they may be shown: whoever made them, nothing in them steers the terminal, and none of them is a command
/// of a service that reads the output of builds.
pub fn guarded(text: &str) -> String {
    let (first, _) = COMMANDS;
    let guarded = text.split('\n').map(|line| {
        let mut line = escape(line);
        if line.trim_start().starts_with(first) {
            line = line.replacen(':', "\\u{3a}", 1);
        }
        without_commands(line)
    });
    guarded.collect::<Vec<_>>().join("\n")
}

/// The text without what services that run builds obey anywhere in a line.
fn without_commands(text: String) -> String {
    let (_, anywhere) = COMMANDS;
    anywhere.iter().fold(text, |text, command| {
        text.replace(command, &command.replacen('#', "\\u{23}", 1))
    })
}

/// The same JSON, in which nothing steers and nothing is a command; outside of its strings there is nothing to be found.
fn guarded_json(text: &str) -> String {
    let mut guarded = String::with_capacity(text.len());
    for character in text.chars() {
        match steers(character) && character != '\n' {
            true => guarded.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => guarded.push(character),
        }
    }
    guarded.replace("##", "#\\u0023")
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

    #[test]
    fn no_line_is_a_command_of_a_build_service() {
        let text = "a\n ::set-env name=x::y\nb ##vso[task.x]##[group]\n# a ## b\u{2028}";
        assert_eq!(
            guarded(text),
            "a\n \\u{3a}:set-env name=x::y\nb \\u{23}#vso[task.x]\\u{23}#[group]\n# a ## b\\u{2028}"
        );
    }

    #[test]
    fn json_stays_what_it_is() {
        let value = serde_json::json!({ "\u{202e}a": "##vso[x]\u{7f}\u{9b}\n\t\u{2028}😀" });
        let text = guarded_json(&format!("{value:#}"));
        assert!(!text.contains(|c| steers(c) && c != '\n'), "{text:?}");
        assert!(!text.contains("##"), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
