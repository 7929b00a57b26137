//! A job as it is run: what it says, what it leaves to defaults and to the environment, and what its first request is.

mod defaults;
mod text;

use std::sync::Arc;

use super::fan_out::render;
use super::runner::Runner;
use crate::job::{Backend, BackendKind, Origin, Problems, Setting, Step};
use crate::output::origin;
use crate::words::{Item, Message};
use crate::worker::{UnsentRequest, unsent};

/// A job as it is run.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The job's name.
    pub job: String,
    /// Every value, those that the job does not say among them.
    pub settings: Vec<Setting>,
    /// The files that its inputs are.
    pub files: Vec<String>,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// How many rows there are.
    pub rows: u64,
    /// Every backend that the job declares.
    pub backends: Vec<ExplainedBackend>,
    /// The first row, if there is one: what names it, and what is asked about it.
    pub first: Option<(String, Vec<Message>)>,
}

/// A backend as it is asked.
#[derive(Debug, Clone)]
pub struct ExplainedBackend {
    /// Its name in the job.
    pub name: String,
    /// What it speaks.
    pub kind: &'static str,
    /// Whether any row may be asked of it.
    pub is_asked: bool,
    /// The environment variables of its keys, and whether each is set.
    pub keys: Vec<(String, bool)>,
    /// The parameters with a default that the model refuses, so that they are not sent.
    pub not_sent: Vec<&'static str>,
    /// What a million input and output tokens cost, and whose word that is; `None` where no price is known.
    pub price: Option<(String, String, String)>,
    /// What it would be sent for the first row.
    pub requests: Vec<UnsentRequest>,
}

impl Runner {
    /// The job as it is run. Nothing is sent.
    pub async fn explain(&self) -> Result<Explained, Problems> {
        let plan = &self.plan;
        let declared = self.declared()?;
        let item = self.inputs.first().map(|row| Item::of(Arc::clone(row)));
        let request = item.and_then(|item| render(&plan.prompt, &item).ok());
        let mut backends = Vec::with_capacity(declared.len());
        for backend in &declared {
            let requests = match &request {
                Some(request) => unsent(backend, request).await,
                None => Vec::new(),
            };
            backends.push(ExplainedBackend {
                is_asked: plan.backends.iter().any(|asked| asked.name == backend.name),
                requests,
                ..explained(backend)
            });
        }
        let mut settings = self.job.settings();
        let env = |name: &str| std::env::var(name).ok();
        defaults::fill_in(&mut settings, plan, &declared, &env);
        if let Some(out) = &self.options.out {
            let is_dir = |setting: &&mut Setting| setting.key() == "output.dir";
            if let Some(dir) = settings.iter_mut().find(is_dir) {
                dir.value = out.to_string_lossy().into();
                dir.from = Origin::Out;
            }
        }
        let first = self.inputs.first().zip(request);
        Ok(Explained {
            job: plan.name.clone(),
            settings,
            files: self
                .inputs
                .files()
                .map(|(_, name)| name.to_owned())
                .collect(),
            columns: plan.columns.names().to_vec(),
            rows: self.rows(),
            backends,
            first: first.map(|(row, request)| (row.id.clone(), request.messages)),
        })
    }
}

impl Explained {
    /// The settings as a job file, which says of each value where it is from.
    pub fn yaml(&self) -> String {
        let about = |backend: &str| {
            let found = self.backends.iter().find(|found| found.name == backend);
            found.map_or_else(Vec::new, ExplainedBackend::remarks)
        };
        text::yaml(&self.settings, &about)
    }
}

impl ExplainedBackend {
    /// What is to be said of it that is no setting.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.is_asked {
            remarks.push("not asked: the order does not name it".to_owned());
        }
        for (variable, is_set) in &self.keys {
            let state = if *is_set { "set" } else { "not set" };
            remarks.push(format!("its key is from {variable} ({state})"));
        }
        for parameter in &self.not_sent {
            remarks.push(format!("{parameter} is not sent: the model refuses it"));
        }
        remarks.push(match &self.price {
            Some((input, output, source)) => {
                format!("USD per million tokens: {input} in, {output} out ({source})")
            }
            None => "no price is known".to_owned(),
        });
        remarks
    }
}

fn explained(backend: &Backend) -> ExplainedBackend {
    let variables = match &backend.kind {
        BackendKind::Echo(_) | BackendKind::Custom => Vec::new(),
        BackendKind::OpenAi(_, server)
        | BackendKind::Anthropic(_, server)
        | BackendKind::LlamaCpp(_, server)
        | BackendKind::Vllm(_, server) => server.api_key_env.iter().collect(),
        BackendKind::Http(http) => {
            let more = http.headers_env.iter().map(|(_, variable)| variable);
            http.api_key_env.iter().chain(more).collect()
        }
    };
    let is_set = |name: &String| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let price = backend.tariff.as_ref().map(|tariff| {
        let rates = &tariff.price.rates;
        (
            rates.input.to_string(),
            rates.output.to_string(),
            origin(tariff),
        )
    });
    ExplainedBackend {
        name: backend.name.to_string(),
        kind: backend.kind.type_name(),
        is_asked: false,
        keys: variables
            .into_iter()
            .map(|name| (name.clone(), is_set(name)))
            .collect(),
        not_sent: defaults::not_sent(backend),
        price,
        requests: Vec::new(),
    }
}

/// The way to a key of the job.
fn path(keys: &[&str]) -> Vec<Step> {
    keys.iter()
        .map(|key| Step::Key((*key).to_owned()))
        .collect()
}
