//! One row to each backend: who answers, how fast, at what price, and what is wrong with the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::fan_out::render;
use super::money::left;
use super::runner::Runner;
use super::summary::{ExitCode, RunError};
use crate::dispatch::Charge;
use crate::job::{AnswerPlan, Backend, Plan};
use crate::words::{
    Allowances, CallError, Completion, Cost, ErrorClass, Item, Request, Status, Usage, Usd,
};
use crate::worker::{self, Http, ModelWorker};

/// What came of asking each backend for the first row.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The row that was asked for; `None` if there is none.
    pub row: Option<String>,
    /// What came of it, in the order of the backends.
    pub backends: Vec<Probed>,
}

/// What came of asking one backend, once.
#[derive(Debug, Clone)]
pub struct Probed {
    /// Its name in the job.
    pub backend: Arc<str>,
    /// What it speaks.
    pub kind: &'static str,
    /// The model that was asked for, where one is named.
    pub model: Option<String>,
    /// How it ended.
    pub end: ProbeEnd,
    /// From sending to the end.
    pub latency: Duration,
    /// What was used; `None` where nobody said.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Cost,
    /// What the server says of its limits.
    pub allowances: Option<Box<Allowances>>,
}

/// How asking a backend ended.
#[derive(Debug, Clone)]
pub enum ProbeEnd {
    /// With a reply.
    Replied {
        /// What it is worth: only `answered` is an answer.
        status: Status,
        /// The reply, and why it is not valid if the job says what an answer must be.
        completion: Box<Completion>,
    },
    /// With an error, which says what to do about it.
    Failed(Box<CallError>),
    /// It was not asked: there might be no money for it.
    TooDear(String),
}

impl Probe {
    /// How many backends answered.
    pub fn answered(&self) -> usize {
        self.count(|end| {
            matches!(
                end,
                ProbeEnd::Replied {
                    status: Status::Answered,
                    ..
                }
            )
        })
    }

    /// What all of it cost, as far as that is known, and whether some of it is not.
    pub fn cost(&self) -> (Usd, bool) {
        let known = self.backends.iter().map(|probed| match probed.cost {
            Cost::Known(amount) => Some(amount),
            _ => None,
        });
        let known: Vec<Option<Usd>> = known.collect();
        let is_whole = known.iter().all(Option::is_some);
        (known.into_iter().flatten().sum(), is_whole)
    }

    /// The code that the command ends with: 0 if every backend answered, 5 if none of them even replied, 4 if the budget
    /// had no room for one, else 3.
    pub fn exit_code(&self) -> ExitCode {
        if self.answered() == self.backends.len() {
            ExitCode::Success
        } else if self.count(|end| matches!(end, ProbeEnd::TooDear(_))) > 0 {
            ExitCode::Budget
        } else if self.count(|end| matches!(end, ProbeEnd::Replied { .. })) == 0 {
            ExitCode::Backends
        } else {
            ExitCode::Failures
        }
    }

    fn count(&self, is: impl Fn(&ProbeEnd) -> bool) -> usize {
        self.backends
            .iter()
            .filter(|probed| is(&probed.end))
            .count()
    }
}

impl Runner {
    /// Asks each of these backends of the job for the first row: once, all at the same time, whatever comes of it. Nothing
    /// is written. The budget of the job is kept to, with what its runs have spent; what is spent here no run knows of.
    pub async fn probe(&self, backends: &[Backend]) -> Result<Probe, RunError> {
        let plan = &self.plan;
        let Some(row) = self.inputs.first() else {
            return Ok(Probe {
                row: None,
                backends: Vec::new(),
            });
        };
        let item = Item::of(Arc::clone(row));
        let request = render(&plan.prompt, &item);
        let request = request.expect("the first row was rendered when the job was loaded");
        let mut left = left(plan)?;
        let http = Http::new(backends.len());
        let mut asked = Vec::with_capacity(backends.len());
        for backend in backends {
            let supplied = self.workers.get(&*backend.name).cloned();
            let worker = supplied.or_else(|| worker::build(backend, &http));
            let worker = worker.ok_or_else(|| RunError::NoWorker {
                name: backend.name.to_string(),
            })?;
            asked.push((backend, worker, afford(plan, backend, &request, &mut left)));
        }
        let asked = asked.into_iter().map(|(backend, worker, affordable)| {
            let (request, answer) = (&request, plan.answer.as_ref());
            async move {
                match affordable {
                    Ok(()) => ask(backend, &*worker, request, answer).await,
                    Err(why) => {
                        let nothing = Charge {
                            usage: None,
                            cost: Cost::Known(Usd::ZERO),
                        };
                        told(
                            backend,
                            ProbeEnd::TooDear(why),
                            Duration::ZERO,
                            nothing,
                            None,
                        )
                    }
                }
            }
        });
        Ok(Probe {
            row: Some(row.id.clone()),
            backends: join_all(asked).await,
        })
    }
}

/// Sets aside what a request may cost; an error says why there is no room for it.
fn afford(
    plan: &Plan,
    backend: &Backend,
    request: &Request,
    left: &mut Option<Usd>,
) -> Result<(), String> {
    let Some(most) = backend.guess(request) else {
        return match left {
            None => Ok(()),
            Some(_) => Err("no price is known for it, and the job has a budget".to_owned()),
        };
    };
    if let Some(cap) = plan.spending.max_cost_per_row.filter(|cap| most > *cap) {
        return Err(format!(
            "it may cost ${}, and max_cost_per_row is ${cap}",
            most.about()
        ));
    }
    match left {
        Some(left) if most > *left => {
            let shown = (*left).max(Usd::ZERO);
            Err(format!(
                "it may cost ${}, and ${shown} of the budget is left",
                most.about()
            ))
        }
        Some(left) => {
            *left = *left - most;
            Ok(())
        }
        None => Ok(()),
    }
}

async fn ask(
    backend: &Backend,
    worker: &dyn ModelWorker,
    request: &Request,
    answer: Option<&AnswerPlan>,
) -> Probed {
    let started = Instant::now();
    let result = match backend.timeout {
        // A worker with a server keeps the time itself.
        None => worker.complete(request).await,
        Some(limit) => match tokio::time::timeout(limit, worker.complete(request)).await {
            Ok(result) => result,
            Err(_) => {
                let message =
                    format!("no answer within {limit:?} (raise `timeout` if it needs longer)");
                Err(CallError::new(ErrorClass::Ambiguous, message).into())
            }
        },
    };
    let latency = started.elapsed();
    let result = result.map_err(|error| error.into_call_error());
    let is_paid = backend
        .price()
        .is_some_and(|price| price.per_hour != Usd::ZERO);
    let charge = Charge::of(backend, request, &result, is_paid.then_some(latency));
    let (end, allowances) = match result {
        Ok(mut completion) => {
            let allowances = completion.allowances.take();
            if let Some(answer) = answer.filter(|_| Status::of(&completion) == Status::Answered) {
                let read = answer.reader().read(&completion.text);
                completion.invalid = read.err();
            }
            let status = Status::of(&completion);
            let completion = Box::new(completion);
            (ProbeEnd::Replied { status, completion }, allowances)
        }
        Err(mut error) => {
            let allowances = error.allowances.take();
            (ProbeEnd::Failed(Box::new(error)), allowances)
        }
    };
    told(backend, end, latency, charge, allowances)
}

fn told(
    backend: &Backend,
    end: ProbeEnd,
    latency: Duration,
    charge: Charge,
    allowances: Option<Box<Allowances>>,
) -> Probed {
    Probed {
        backend: Arc::clone(&backend.name),
        kind: backend.kind.type_name(),
        model: backend.model().map(str::to_owned),
        end,
        latency,
        usage: charge.usage,
        cost: charge.cost,
        allowances,
    }
}
