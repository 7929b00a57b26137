//! `runner completions SHELL` and `runner man`: the command line as shells and readers of manuals know it.

use std::io::{self, Write};
use std::path::Path;

use tokio_prompt_orchestrator::ExitCode;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::terminal;

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::whole(), "runner", &mut script);
    print(&script)
}

/// Prints the page of the program, or writes one for each command.
pub fn man(args: &ManArgs) -> ExitCode {
    match &args.dir {
        Some(dir) => write_all(dir),
        None => {
            let mut page = Vec::new();
            // A vector takes everything.
            let _ = clap_mangen::Man::new(Cli::whole()).render(&mut page);
            print(&page)
        }
    }
}

fn write_all(dir: &Path) -> ExitCode {
    let written = std::fs::create_dir_all(dir);
    match written.and_then(|()| clap_mangen::generate_to(Cli::whole(), dir)) {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            let shown = dir.display();
            terminal::err(&format!(
                "error: cannot write the pages to {shown}: {error}"
            ));
            ExitCode::Unexpected
        }
    }
}

/// As it is: these lines are for programs. A closed stdout is not an error.
fn print(bytes: &[u8]) -> ExitCode {
    let _ = io::stdout().write_all(bytes);
    ExitCode::Success
}
