//! A job that is ready to run: the library's way in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::baseline;
use super::forecast::{Forecast, ForecastOptions, forecast};
use super::open_files;
use super::run::Run;
use super::summary::{RunError, Summary};
use crate::dispatch::{OnAttempt, Stop};
use crate::input::Inputs;
use crate::job::{Backend, BackendKind, CachePlan, Job, Plan, Problem, Problems, Surroundings};
use crate::template::TemplateError;
use crate::words::{
    AttemptEnded, CallError, ErrorClass, Event, Message, OrchestratorError, Request,
};
use crate::worker::{self, Http, ModelWorker};

/// What may differ from the job file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Overrides of the form `key=value`, where the key is a dotted path such as `retry.attempts`.
    pub set: Vec<String>,
    /// The output directory.
    pub out: Option<PathBuf>,
    /// Files of prices that come before those of the job.
    pub prices: Vec<PathBuf>,
    /// At most the first so many rows.
    pub limit: Option<u64>,
    /// Inputs without a row are a problem; else there is nothing to do.
    pub require_rows: bool,
    /// Start anew: the store of the runs before is set aside.
    pub fresh: bool,
    /// Refuse to run if the job or its input is not what the store knows.
    pub frozen: bool,
    /// Send nothing: answer only from the store, and from the cache if the job has one. No key is needed then.
    pub offline: bool,
    /// Look for no answer in the job's cache; what is answered is added to it all the same.
    pub no_cache: bool,
}

/// A job whose every problem was looked for and none found.
///
/// ```no_run
/// use std::sync::Arc;
/// use tokio_prompt_orchestrator::{EchoWorker, Options, Runner, Stop};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let summary = Runner::load("jobs/eval.yaml", &Options::default())?
///     .with_worker("mine", Arc::new(EchoWorker::new())) // a backend `mine: { type: custom }`
///     .run(Stop::new(), |event| println!("{event:?}"))
///     .await?;
/// println!("{} rows without an answer", summary.report.unanswered());
/// # Ok(())
/// # }
/// ```
pub struct Runner {
    pub(super) job: Job,
    pub(super) plan: Plan,
    pub(super) inputs: Inputs,
    pub(super) options: Options,
    pub(super) workers: HashMap<String, Arc<dyn ModelWorker>>,
    pub(super) on_attempt: OnAttempt,
}

impl Runner {
    /// Reads a job file and scans its inputs. Nothing is sent. An error holds every problem.
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Self, Problems> {
        Self::of(Job::read(path.as_ref(), &options.set)?, options)
    }

    /// The same of a job that is read already.
    pub(super) fn of(job: Job, options: &Options) -> Result<Self, Problems> {
        let mut found = Vec::new();
        let (inputs, columns) = Inputs::scan(&job.inputs(), &mut found);
        let surroundings = Surroundings {
            columns: columns.as_ref(),
            env: &|name| std::env::var(name).ok(),
            today: jiff::Zoned::now().date(),
            prices: &options.prices,
            sends: !options.offline,
        };
        let mut plan = job.resolve(&surroundings, found)?;
        let mut inputs = inputs.expect("a scan without a problem yields inputs");
        if options.require_rows && inputs.count() == 0 {
            let problem = Problem::new("the inputs have no rows");
            return Err(problem.help(inputs.notices().join("; ")).into());
        }
        try_first_row(&plan, &inputs)?;
        if let Some(out) = &options.out {
            plan.output.dir.clone_from(out);
        }
        spare_inputs(&plan.output.dir, &inputs)?;
        spare_files(&plan, &inputs)?;
        baseline::check(&plan)?;
        if let Some(limit) = options.limit {
            inputs.truncate(limit);
        }
        Ok(Self {
            job,
            plan,
            inputs,
            options: options.clone(),
            workers: HashMap::new(),
            on_attempt: None,
        })
    }

    /// Answers for the backend of this name, which the job declares as `type: custom`.
    pub fn with_worker(mut self, backend: &str, worker: Arc<dyn ModelWorker>) -> Self {
        self.workers.insert(backend.to_owned(), worker);
        self
    }

    /// Tells of every request that is sent, when it has ended. `on_attempt` is called from several threads, in the middle of
    /// the work: it must not take long.
    pub fn with_on_attempt(
        mut self,
        on_attempt: impl Fn(&AttemptEnded<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_attempt = Some(Arc::new(on_attempt));
        self
    }

    /// The job as it will run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Every backend that the job declares, also those that no row is asked of.
    pub fn declared(&self) -> Result<Vec<Backend>, Problems> {
        self.job.backends(&Surroundings {
            columns: Some(&self.plan.columns),
            env: &|name| std::env::var(name).ok(),
            today: jiff::Zoned::now().date(),
            prices: &self.options.prices,
            sends: false,
        })
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.inputs.count()
    }

    /// What people should know of the inputs before the run: records that are left out, inputs without any.
    pub fn notices(&self) -> Vec<String> {
        self.inputs.notices()
    }

    /// The most files that a run has open at once: a connection for each request that may be in flight, and some of its
    /// own. Those of workers of one's own are not known.
    pub fn open_files(&self) -> u64 {
        open_files::needed(&self.plan)
    }

    /// A run that is content with so many open files: it has fewer rows in flight if need be, but at least one.
    pub fn with_open_files(mut self, most: u64) -> Self {
        open_files::keep_to(&mut self.plan, most);
        self
    }

    /// The first backend of the route that this program has no worker for.
    pub fn missing_worker(&self) -> Option<&str> {
        let missing = self.plan.backends.iter().find(|backend| {
            matches!(backend.kind, BackendKind::Custom)
                && !self.workers.contains_key(&*backend.name)
        });
        missing.map(|backend| &*backend.name)
    }

    /// What a run would ask, take and cost. No prompt is sent and nothing is written. The inputs are read where this is
    /// awaited, which takes its time if they are large.
    pub async fn forecast(&self, options: &ForecastOptions) -> Result<Forecast, RunError> {
        let workers = match options.remote {
            true => self.live()?.into_iter().map(Some).collect(),
            false => vec![None; self.plan.backends.len()],
        };
        let looks_in_cache = !self.options.no_cache;
        forecast(&self.plan, &self.inputs, options, looks_in_cache, &workers).await
    }

    /// Runs the job to its end, or until `stop` says so. `on_event` is called from several threads.
    pub async fn run(
        self,
        stop: Stop,
        on_event: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Summary, RunError> {
        let workers = match self.options.offline {
            true => self.absent(),
            false => self.live()?,
        };
        let run = Run {
            plan: self.plan,
            inputs: self.inputs,
            options: self.options,
            workers,
            stop,
            on_event: Arc::new(on_event),
            on_attempt: self.on_attempt,
        };
        run.run().await
    }

    /// What stands for the backends of a run that asks nobody.
    fn absent(&self) -> Vec<Arc<dyn ModelWorker>> {
        let absent: Arc<dyn ModelWorker> = Arc::new(Absent);
        vec![absent; self.plan.backends.len()]
    }

    /// The worker of each backend.
    fn live(&self) -> Result<Vec<Arc<dyn ModelWorker>>, RunError> {
        if let Some(name) = self.missing_worker() {
            return Err(RunError::NoWorker {
                name: name.to_owned(),
            });
        }
        let http = Http::new(self.plan.concurrency);
        let live = |backend: &Backend| {
            let supplied = self.workers.get(&*backend.name).cloned();
            let worker = supplied.or_else(|| worker::build(backend, &http));
            worker.ok_or_else(|| RunError::NoWorker {
                name: backend.name.to_string(),
            })
        };
        self.plan.backends.iter().map(live).collect()
    }
}

/// Stands for a backend that is not asked.
struct Absent;

#[async_trait::async_trait]
impl ModelWorker for Absent {
    async fn infer(&self, _prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        Err(CallError::new(ErrorClass::NotSent, "the run is offline").into())
    }
}

/// How the names of the files begin that a run writes or sets aside.
const WRITTEN: [&str; 5] = ["results.", "labels.", "report.", "run.", "junit."];

/// Finds inputs that the run itself would replace, such as the results of the run before.
fn spare_inputs(out: &Path, inputs: &Inputs) -> Result<(), Problems> {
    let Ok(out) = out.canonicalize() else {
        return Ok(());
    };
    let replaced = |path: &Path| {
        let path = path.canonicalize().unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.parent() == Some(&out) && WRITTEN.iter().any(|written| name.starts_with(written))
    };
    let problems: Vec<Problem> = inputs
        .files()
        .filter(|(path, _)| replaced(path))
        .map(|(_, name)| {
            Problem::new(format!("the run would write over its input {name}"))
                .help("write to another directory: `output: { dir: ... }` or `--out`")
        })
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Problems(problems)),
    }
}

/// Finds a cache that is a file of something else.
fn spare_files(plan: &Plan, inputs: &Inputs) -> Result<(), Problems> {
    let Some(CachePlan { path, place }) = &plan.cache else {
        return Ok(());
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = |path: &Path| {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).canonicalize().ok()
    };
    let out = plan.output.dir.canonicalize().ok();
    let is_written = WRITTEN.iter().any(|written| name.starts_with(written));
    let problem = if is_written && out.is_some() && folder(path) == out {
        Problem::new(format!("the cache would be {name} of the run itself"))
            .help("name a file of its own, outside of the output directory")
    } else if let Ok(path) = path.canonicalize()
        && let Some((_, input)) = inputs
            .files()
            .find(|(input, _)| input.canonicalize().is_ok_and(|input| input == path))
    {
        Problem::new(format!("the cache would be the input {input}")).help("name a file of its own")
    } else {
        return Ok(());
    };
    Err(problem.at(place.clone()).into())
}

/// Decides who is asked for the first row, and renders its prompt and the bodies that the job declares:
/// finds what no look at an expression or a template alone can, such as a column read as `row["name"]` that
/// does not exist.
fn try_first_row(plan: &Plan, inputs: &Inputs) -> Result<(), Problems> {
    let Some(row) = inputs.first() else {
        return Ok(());
    };
    let columns = || format!("the input's columns are {}", row.columns.names().join(", "));
    for entry in &plan.entries {
        if let Err(error) = entry.route(row) {
            let problem = Problem::new(format!(
                "`when` cannot be decided for the first row, {}: {error}",
                row.id
            ));
            return Err(problem.help(columns()).into());
        }
    }
    let refused = |what: &str, error: TemplateError| {
        let problem = Problem::new(format!(
            "{what} cannot be rendered for the first row, {}: {error}",
            row.id
        ));
        match error.names_a_column {
            true => problem.help(columns()),
            false => problem,
        }
    };
    let mut messages = Vec::with_capacity(plan.prompt.messages.len());
    for message in &plan.prompt.messages {
        let role = message.role;
        let content = message.content.render(row).map_err(|error| {
            let problem = refused(&format!("the {} message", role.as_str()), error);
            match &message.place {
                Some(place) => problem.at(place.clone()),
                None => problem,
            }
        })?;
        messages.push(Message { role, content });
    }
    let request = Request::new(messages).with_row(Arc::clone(row));
    for backend in &plan.backends {
        if let BackendKind::Http(http) = &backend.kind {
            let what = format!("the body of `{}`", backend.name);
            http.body(&request)
                .map_err(|error| Problems::from(refused(&what, error)))?;
        }
    }
    Ok(())
}
