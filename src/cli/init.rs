//! `runner init`: a first job of one's own.

use tokio_prompt_orchestrator::words::Usd;
use tokio_prompt_orchestrator::{ExitCode, Starter, StarterError, StarterOptions, starter};

use super::args::InitArgs;
use super::display::many;
use super::runtime;
use super::terminal::{self, err, escape, out};

/// Writes a job and says what to do with it.
pub fn init(args: &InitArgs) -> ExitCode {
    let options = StarterOptions {
        input: args.input.clone(),
        to: args.to.clone(),
        force: args.force,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    match runtime.block_on(starter(&options)) {
        Ok(starter) => {
            print(&starter);
            ExitCode::Success
        }
        Err(StarterError::Problems(problems)) => {
            terminal::problems(&problems);
            ExitCode::Usage
        }
        Err(error) => {
            terminal::error(&error);
            ExitCode::Usage
        }
    }
}

fn print(starter: &Starter) {
    for path in &starter.written {
        err(&format!("wrote {}", escape(&path.display().to_string())));
    }
    out(&format!(
        "{} of {}, each asked about its {}{}",
        many(starter.rows, "row"),
        escape(&starter.input.display().to_string()),
        name(&starter.text),
        match &starter.id {
            Some(id) => format!(" and known by its {}", name(id)),
            None => String::new(),
        }
    ));
    match &starter.wanted {
        Some((column, Some(labels))) => out(&format!(
            "answers are one of {labels} labels and are compared with the column {}",
            name(column)
        )),
        Some((column, None)) => {
            out(&format!(
                "answers are compared with the column {}",
                name(column)
            ));
        }
        None => {}
    }
    out(&asked(starter));
    if let Some((expected, budget)) = starter.cost {
        out(&cost(expected, budget));
    }
    next(starter);
}

fn name(column: &str) -> String {
    format!("`{}`", escape(column))
}

fn asked(starter: &Starter) -> String {
    let models = starter.backends.iter().map(|(backend, model)| match model {
        Some(model) => format!("{backend} ({})", escape(model)),
        None => backend.clone(),
    });
    let models: Vec<String> = models.collect();
    match starter.sends {
        true => format!("asked: {}", models.join(", then ")),
        false => "no key is set (OPENAI_API_KEY, ANTHROPIC_API_KEY) and no server answers on this machine: a scripted echo \
                  answers, which costs nothing"
            .to_owned(),
    }
}

fn cost(expected: Usd, budget: Usd) -> String {
    let expected = expected.about();
    format!("a whole run costs about ${expected}; more than ${budget} is never spent (`budget`)")
}

/// The commands that come next, to be copied.
fn next(starter: &Starter) {
    let job = typed(&starter.job.display().to_string());
    let commands = [
        (format!("runner {job} --limit 5"), "asks the first 5 rows"),
        (
            format!("runner plan {job}"),
            "what the whole will take and cost",
        ),
        (format!("runner {job}"), "asks the others"),
    ];
    let width = commands
        .iter()
        .map(|(command, _)| command.chars().count())
        .max();
    out("\nnext:");
    for (command, what) in commands {
        out(&format!(
            "  {command:<width$}  # {what}",
            width = width.unwrap_or(0)
        ));
    }
}

/// A path as it is typed into a shell.
fn typed(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => escape(&format!("'{}'", path.replace('\'', r"'\''"))),
    }
}
