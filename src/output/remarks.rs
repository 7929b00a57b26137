//! What is worth saying of a backend's limits and outages. Of a run in which all went well it is nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::job::{Backend, Limits};
use crate::words::{BackendSeen, LimitSource, LimitsSeen};

/// Pauses that were shorter than this, all together, held nobody up.
const NOTICEABLE: Duration = Duration::from_millis(500);

/// What is said of one backend, in words. What a server said is in `details` and needs escaping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// The backend's name in the job.
    pub backend: String,
    /// What happened to it: refusals, outages, the end.
    pub happened: Vec<String>,
    /// The limits that held besides those of the job.
    pub limits: Vec<String>,
    /// What only a report has room for.
    pub details: Vec<String>,
    /// What to write into the job so that the next run knows those limits at once.
    pub hint: Option<Hint>,
}

/// An advice for the job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// What to write, as YAML.
    pub yaml: String,
    /// Where to.
    pub place: String,
}

/// What the job says of a backend's limits.
#[derive(Debug, Clone, Default)]
pub(super) struct Stated {
    pub(super) account: Option<Arc<str>>,
    limits: Limits,
}

/// What the job says of each backend's limits, by its name.
pub(super) fn stated(backends: &[Backend]) -> HashMap<String, Stated> {
    let stated = |backend: &Backend| Stated {
        account: backend.account.clone(),
        limits: backend.limits,
    };
    let backends = backends.iter();
    backends
        .map(|backend| (backend.name.to_string(), stated(backend)))
        .collect()
}

/// A line for each backend of which there is something to say. Backends of one account share their limits:
/// those are in the line of its first backend.
pub(super) fn remarks(seen: &[BackendSeen], stated: &HashMap<String, Stated>) -> Vec<Remarks> {
    let mut accounts = Vec::new();
    let lines = seen.iter().map(|seen| {
        let stated = stated.get(&seen.backend).cloned().unwrap_or_default();
        let mut remarks = Remarks {
            backend: seen.backend.clone(),
            ..Remarks::default()
        };
        let told = stated.account.as_ref().is_some_and(|account| {
            let told = accounts.contains(account);
            accounts.push(Arc::clone(account));
            told
        });
        if !told {
            remarks.of_limits(&seen.limits, &stated);
        }
        remarks.of_outages(seen);
        remarks
    });
    lines.filter(|remarks| !remarks.is_empty()).collect()
}

impl Remarks {
    fn is_empty(&self) -> bool {
        self.happened.is_empty() && self.limits.is_empty()
    }

    fn of_limits(&mut self, seen: &LimitsSeen, stated: &Stated) {
        if seen.refusals > 0 {
            self.happened.push(refusals(seen, stated));
        }
        let job = &stated.limits;
        let requests = job.requests_per_minute.map(u64::from);
        let kinds = [
            ("requests", seen.requests_per_minute, requests),
            ("tokens", seen.tokens_per_minute, job.tokens_per_minute),
            (
                "input tokens",
                seen.input_tokens_per_minute,
                job.input_tokens_per_minute,
            ),
            (
                "output tokens",
                seen.output_tokens_per_minute,
                job.output_tokens_per_minute,
            ),
        ];
        let (mut allowed, mut settings, mut too_high) = (Vec::new(), Vec::new(), false);
        for (what, limit, in_job) in kinds {
            let Some((limit, LimitSource::Server)) = limit else {
                continue;
            };
            allowed.push(match in_job {
                Some(in_job) => format!("{limit} {what}/min (the job says {in_job})"),
                None => format!("{limit} {what}/min"),
            });
            settings.push(format!("{}_per_minute: {limit}", what.replace(' ', "_")));
            too_high |= in_job.is_some();
        }
        if !allowed.is_empty() {
            self.limits
                .push(format!("the server allows {}", allowed.join(", ")));
        }
        if let Some(pace) = learned(seen) {
            self.limits.push(match requests {
                Some(in_job) => {
                    format!("about {pace} requests/min went through (the job says {in_job})")
                }
                None => format!("about {pace} requests/min went through"),
            });
            if settings.is_empty() {
                settings.push(format!("requests_per_minute: {pace}"));
            }
        }
        if seen.concurrency_cuts > 0 {
            self.details.push(format!(
                "{} in flight allowed at the end, {} were once",
                count(seen.concurrency as u64, "request"),
                seen.most_in_flight
            ));
        }
        if !settings.is_empty() && (too_high || seen.paused >= NOTICEABLE) {
            self.hint = Some(Hint {
                yaml: format!("limits: {{ {} }}", settings.join(", ")),
                place: match &stated.account {
                    // They must not say different things.
                    Some(account) => format!("the backends of account {account}"),
                    None => format!("backend {}", self.backend),
                },
            });
        }
    }

    fn of_outages(&mut self, seen: &BackendSeen) {
        if seen.breaker_opened > 0 {
            let times = times(seen.breaker_opened);
            self.happened
                .push(format!("failed again and again, left alone {times}"));
        }
        if seen.probes > 0 {
            let probes = count(seen.probes, "request");
            self.details
                .push(format!("{probes} tried whether it was back"));
        }
        if seen.deferred > 0 {
            let retries = count(seen.deferred, "retry");
            self.happened.push(format!("{retries} put off"));
        }
        if let Some(why) = &seen.stopped {
            self.happened.push("taken out of the run".to_owned());
            self.details.push(format!("the reason: {why}"));
        }
    }
}

fn refusals(seen: &LimitsSeen, stated: &Stated) -> String {
    let mut text = count(seen.refusals, "request");
    if let Some(account) = &stated.account {
        text.push_str(&format!(" of account {account}"));
    }
    text.push_str(" throttled");
    if seen.refusal_episodes > 1 {
        text.push_str(&format!(" in {} episodes", seen.refusal_episodes));
    }
    if seen.paused >= NOTICEABLE {
        let paused = seen.paused.as_secs_f64();
        text.push_str(&format!(", paused {paused:.1} s"));
    }
    text
}

/// The pace that refusals have taught, where that is what held the run back. The first episode measures a
/// server's burst as well, only the next ones its pace; and two digits are all that measuring is good for.
fn learned(seen: &LimitsSeen) -> Option<u64> {
    let learned = seen.learned_requests_per_minute?;
    let known = seen.requests_per_minute.map(|(limit, _)| limit);
    let magnitude = 10_u64.pow(learned.checked_ilog10()?.saturating_sub(1));
    let held_back = seen.refusal_episodes > 1 && seen.paused >= NOTICEABLE;
    let lowest = known.is_none_or(|known| learned < known);
    (held_back && lowest).then(|| learned / magnitude * magnitude)
}

fn count(number: u64, what: &str) -> String {
    match (number, what) {
        (1, what) => format!("1 {what}"),
        (number, "retry") => format!("{number} retries"),
        (number, what) => format!("{number} {what}s"),
    }
}

fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        number => format!("{number} times"),
    }
}
