//! `--stdout FORMAT`: the results on standard output too, for pipes.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

use tokio_prompt_orchestrator::ExitCode;
use tokio_prompt_orchestrator::job::OutputFormat;
use tokio_prompt_orchestrator::output::file_name;

use super::terminal;

/// Keeps stdout for results, if it is to have any.
pub fn reserve(wanted: Option<OutputFormat>) {
    if wanted.is_some() {
        terminal::keep_stdout_for_results();
    }
}

/// Prints why results cannot go to stdout: a run that writes these does not write them.
pub fn missing(wanted: Option<OutputFormat>, written: &[OutputFormat]) -> Option<ExitCode> {
    let format = wanted.filter(|format| !written.contains(format))?;
    let (name, format) = (file_name(format), format.as_str());
    terminal::err(&format!(
        "error: --stdout {format} needs {name}, which is not written; put `{format}` into `output.formats`, \
         or give `export` --formats {format}"
    ));
    Some(ExitCode::Usage)
}

/// Copies the results among these files to stdout. Returns the exit code: this one, unless that fails.
pub fn copy(wanted: Option<OutputFormat>, files: &[PathBuf], code: ExitCode) -> ExitCode {
    let name = wanted.map(file_name);
    let path = files
        .iter()
        .find(|path| name.is_some_and(|name| path.ends_with(name)));
    let Some(path) = path else {
        return code;
    };
    let copied = File::open(path).and_then(|mut file| {
        let mut out = std::io::stdout().lock();
        if out.is_terminal() {
            // What a model wrote must not command it; pipes and files get every byte.
            for line in BufReader::new(file).split(b'\n') {
                let line = String::from_utf8_lossy(&line?).into_owned();
                writeln!(out, "{}", terminal::guarded(line.trim_end_matches('\r')))?;
            }
        } else {
            std::io::copy(&mut file, &mut out)?;
        }
        out.flush()
    });
    match copied {
        Ok(()) => code,
        // Whoever reads has enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => code,
        Err(error) => {
            terminal::err(&format!(
                "error: cannot write the results to stdout: {error}; they are in {}",
                path.display()
            ));
            match code {
                ExitCode::Success => ExitCode::Unexpected,
                worse => worse,
            }
        }
    }
}
