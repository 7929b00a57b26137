//! `runner verify DIR`: whether what a directory holds agrees.

use tokio_prompt_orchestrator::ExitCode;

use super::args::VerifyArgs;
use super::terminal;

/// Prints a line for each check, and what does not agree.
pub fn verify(args: &VerifyArgs) -> ExitCode {
    let verified = match tokio_prompt_orchestrator::verify(&args.dir) {
        Ok(verified) => verified,
        Err(error) => {
            terminal::error(&error);
            return error.exit_code();
        }
    };
    for check in &verified.checks {
        let verdict = match check.wrong {
            0 => "ok",
            _ => "not so",
        };
        terminal::out(&format!("{verdict:6}  {}", terminal::escape(&check.holds)));
        for text in &check.texts {
            terminal::out(&format!("          {}", terminal::escape(text)));
        }
        let more = check.wrong - check.texts.len() as u64;
        if more > 0 {
            terminal::out(&format!("          and {more} more"));
        }
    }
    for name in &verified.strangers {
        terminal::out(&format!(
            "note: {name} is from an earlier run; the last one wrote no such file"
        ));
    }
    let dir = args.dir.display();
    match verified.wrong() {
        0 => {
            terminal::out("everything agrees");
            ExitCode::Success
        }
        wrong => {
            terminal::out(&match wrong {
                1 => "1 thing does not agree".to_owned(),
                wrong => format!("{wrong} things do not agree"),
            });
            if verified.unpublished {
                terminal::out(&format!(
                    "published files are from an earlier run, or not all of them are from this one; \
                     `runner export {dir}` renews them"
                ));
            }
            ExitCode::Storage
        }
    }
}
