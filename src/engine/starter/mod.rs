//! A first job of one's own: what can be found out is found out, the rest is written down to be changed.
//!
//! `look` reads the input and guesses what its columns are for, `servers` sees who can be asked, `draft` writes the job. What is
//! written is sound, whatever the input is called and holds: a job is tried before it is, and what it trips over is left out.

mod draft;
mod look;
mod servers;

use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use super::forecast::ForecastOptions;
use super::runner::{Options, Runner};
use super::yaml;
use crate::input::{InputError, Inputs};
use crate::job::{self, Job, Problems};
use crate::words::Usd;

use draft::Draft;
use look::Look;

/// What an input is called that can be a job's.
const KINDS: [&str; 3] = ["csv", "tsv", "jsonl"];
/// What a CSV file has between its cells if not commas, as a job says it.
const DELIMITERS: [&str; 3] = ["\";\"", "tab", "\"|\""];
/// The file that is written where there is no input.
const EXAMPLE: (&str, &str) = ("reviews.csv", include_str!("reviews.csv"));
/// The file that editors read, beside the job.
const SCHEMA: &str = "job.schema.json";
/// What a first job is made of.
#[derive(Debug, Clone, Default)]
pub struct StarterOptions {
    /// The input; `None`: the only one in the working directory, or an example.
    pub input: Option<PathBuf>,
    /// The job file; `None`: named after the input, in the working directory.
    pub to: Option<PathBuf>,
    /// Whether a job file that is there is replaced.
    pub force: bool,
}

/// A first job that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starter {
    /// The job file.
    pub job: PathBuf,
    /// Every file that was written, the job file last.
    pub written: Vec<PathBuf>,
    /// The input.
    pub input: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    /// The column that is asked about.
    pub text: String,
    /// The column that names a row.
    pub id: Option<String>,
    /// The column with the answers that are wanted, and how many different ones there are if they are labels.
    pub wanted: Option<(String, Option<usize>)>,
    /// Who is asked, in this order: names of backends, and the model of each.
    pub backends: Vec<(String, Option<String>)>,
    /// Whether any of them sends a row over the network.
    pub sends: bool,
    /// What a run will cost, as far as that can be said, and what it may.
    pub cost: Option<(Usd, Usd)>,
}

/// Why there is no first job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StarterError {
    /// There are several inputs, and none was named.
    #[error("there are several inputs here: {}; name one of them", .0.join(", "))]
    Several(Vec<String>),
    /// The job file is there already.
    #[error("{} is there already; name another file with --to, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// A path has no name that can be written in a job file.
    #[error("the path {} cannot be written in a job file: it is no UTF-8 text", .0.display())]
    NoText(PathBuf),
    /// There is nothing in the input.
    #[error("{} is empty: it has no column that could be asked about", .0.display())]
    Nothing(PathBuf),
    /// The input cannot be a job's.
    #[error("the input has problems:\n{0}")]
    Problems(Problems),
    /// The input changed while it was looked at.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Looks at an input and at who can be asked, and writes a job for them. Sends no row.
pub async fn starter(options: &StarterOptions) -> Result<Starter, StarterError> {
    let mut written = Vec::new();
    let (input, example) = match &options.input {
        Some(input) => (input.clone(), None),
        None => match only_input()? {
            Some(input) => (input, None),
            None => (PathBuf::from(EXAMPLE.0), Some(EXAMPLE.1)),
        },
    };
    let job = options.to.clone().unwrap_or_else(|| beside_us(&input));
    if !options.force && job.symlink_metadata().is_ok() {
        return Err(StarterError::Exists(job));
    }
    let folder = job.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        there(folder, "write to the folder")?;
    }
    if let Some(text) = example {
        write(&input, text, false)?;
        written.push(input.clone());
    }
    there(&input, "read the input")?;
    let look = look(&job, &input)?;
    let found = servers::find(&|name| std::env::var(name).ok()).await;
    let (mut draft, runner) = sound(&job, Draft::new(&job, &input, look, found)?)?;
    if draft.pays() {
        let expected = runner.forecast(&ForecastOptions::default()).await;
        let expected = expected.ok().and_then(|forecast| forecast.cost.expected);
        draft.cost = expected.map(|expected| (expected, enough(expected)));
    }
    let schema = job.with_file_name(SCHEMA);
    if schema.symlink_metadata().is_err() {
        write(&schema, &format!("{:#}\n", job::schema()), false)?;
        written.push(schema);
    }
    write(&job, &draft.yaml(), options.force)?;
    written.push(job.clone());
    Ok(draft.told(job, input, written))
}

/// The only input in the working directory.
fn only_input() -> Result<Option<PathBuf>, StarterError> {
    let here = Path::new(".");
    let failed = |source| StarterError::Io {
        doing: "read the folder",
        path: here.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(here).map_err(failed)? {
        let path = PathBuf::from(entry.map_err(failed)?.file_name());
        let kind = path.extension().and_then(|kind| kind.to_str());
        if kind.is_some_and(|kind| KINDS.contains(&kind.to_ascii_lowercase().as_str()))
            && path.is_file()
        {
            found.push(path);
        }
    }
    found.sort();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => {
            let names = found.iter().map(|path| path.display().to_string());
            Err(StarterError::Several(names.collect()))
        }
    }
}

/// The job file of an input: named after it, in the working directory.
fn beside_us(input: &Path) -> PathBuf {
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split_once('.').map_or(&*name, |(stem, _)| stem);
    PathBuf::from(format!("{}.yaml", tame(stem)))
}

/// A name that files and folders can have, and that is easily typed.
fn tame(name: &str) -> String {
    let tamed = name.trim().chars();
    let tamed = tamed.map(|c| {
        if c.is_alphanumeric() || "_-.".contains(c) {
            c
        } else {
            '_'
        }
    });
    let tamed: String = tamed.collect();
    match tamed.trim_start_matches(['-', '.']) {
        "" => "job".to_owned(),
        tamed => tamed.to_owned(),
    }
}

/// The input's columns and what they are good for.
fn look(job: &Path, input: &Path) -> Result<Look, StarterError> {
    let path = yaml::scalar(&seen_from(job, input)?);
    let scan = |delimiter: Option<&str>| {
        let delimiter = delimiter.map_or_else(String::new, |said| format!(", delimiter: {said}"));
        // Any job over the input will do.
        let text = format!(
            "inputs: {{ path: {path}{delimiter} }}\nprompt: hello\nbackends: {{ dry: {{ type: echo }} }}\n"
        );
        let job = Job::parse(job, &text, &[])?;
        let mut problems = Vec::new();
        match Inputs::scan(&job.inputs(), &mut problems) {
            (Some(inputs), Some(columns)) => Ok((inputs, columns)),
            _ => Err(Problems(problems)),
        }
    };
    let (delimiter, (inputs, columns)) = match scan(None) {
        Ok(found) => (None, found),
        Err(problems) => {
            let mut others = DELIMITERS.into_iter().filter_map(|delimiter| {
                let found = scan(Some(delimiter)).ok()?;
                (found.1.names().len() > 1).then_some((Some(delimiter), found))
            });
            others.next().ok_or(StarterError::Problems(problems))?
        }
    };
    if columns.names().is_empty() {
        return Err(StarterError::Nothing(input.to_owned()));
    }
    let mut look = Look::at(&inputs, columns.names())?;
    look.delimiter = delimiter;
    Ok(look)
}

/// The draft without what makes it unsound, and the job that it is.
fn sound(job: &Path, mut draft: Draft) -> Result<(Draft, Runner), StarterError> {
    loop {
        let parsed = Job::parse(job, draft.yaml(), &[]);
        let tried = parsed.and_then(|parsed| Runner::of(parsed, &Options::default()));
        match tried {
            Ok(runner) => return Ok((draft, runner)),
            Err(_) if draft.leave_out() => {}
            Err(problems) => return Err(StarterError::Problems(problems)),
        }
    }
}

/// A path as a job file says it: relative to its own folder, where that can be said.
fn seen_from(job: &Path, input: &Path) -> Result<String, StarterError> {
    let folder = job.parent().unwrap_or(Path::new(""));
    let plain = |path: &Path| {
        path.components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    let path = if input.is_absolute() || folder.as_os_str().is_empty() {
        input.to_owned()
    } else if let Ok(inside) = input.strip_prefix(folder) {
        inside.to_owned()
    } else if plain(folder) {
        let up = folder
            .components()
            .filter(|part| *part != Component::CurDir);
        up.map(|_| Path::new("..")).collect::<PathBuf>().join(input)
    } else {
        input.canonicalize().map_err(|source| StarterError::Io {
            doing: "find",
            path: input.to_owned(),
            source,
        })?
    };
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(StarterError::NoText(path)),
    }
}

/// A round amount of at least twice what is expected: 0.10, 0.20, 0.50, 1.00, …
fn enough(expected: Usd) -> Usd {
    let wanted = expected.times(2);
    let ten_cents = Usd::from_units(10_i128.pow(14));
    let mut amounts =
        (0..8).flat_map(|tens| [1, 2, 5].map(|n| ten_cents.times(n * 10_u64.pow(tens))));
    amounts.find(|amount| *amount >= wanted).unwrap_or(wanted)
}

/// That there is something at a path.
fn there(path: &Path, doing: &'static str) -> Result<(), StarterError> {
    let failed = |source| StarterError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    path.metadata().map(drop).map_err(failed)
}

fn write(path: &Path, text: &str, replace: bool) -> Result<(), StarterError> {
    let mut options = fs::OpenOptions::new();
    match replace {
        true => options.write(true).create(true).truncate(true),
        false => options.write(true).create_new(true),
    };
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => StarterError::Exists(path.to_owned()),
        _ => StarterError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_named_as_the_job_file_sees_it() {
        for (job, input, seen) in [
            ("a.yaml", "a.csv", "a.csv"),
            ("a.yaml", "data/a.csv", "data/a.csv"),
            ("jobs/a.yaml", "a.csv", "../a.csv"),
            ("jobs/new/a.yaml", "data/a.csv", "../../data/a.csv"),
            ("jobs/a.yaml", "jobs/a.csv", "a.csv"),
            ("./jobs/a.yaml", "a.csv", "../a.csv"),
            ("jobs/a.yaml", "/data/a.csv", "/data/a.csv"),
        ] {
            assert_eq!(seen_from(Path::new(job), Path::new(input)).unwrap(), seen);
        }
    }

    #[test]
    fn a_budget_is_round_and_has_room() {
        for (expected, budget) in [
            ("0", "0.10"),
            ("0.05", "0.10"),
            ("0.051", "0.20"),
            ("0.2", "0.50"),
            ("0.3", "1.00"),
            ("4", "10.00"),
            ("123", "500.00"),
        ] {
            let expected: Usd = expected.parse().unwrap();
            assert_eq!(enough(expected).to_string(), budget);
        }
    }
}
