//! What is worth saying of a backend's limits, outages and models. Of a run in which all went well it is nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::backend_line::BackendLine;
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

/// What the job says of a backend: what it is, and its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// The backend's name in the job.
    pub backend: String,
    /// Its type; empty in stores of an earlier version.
    #[serde(default)]
    pub kind: String,
    /// The model that it is asked for, where the job names one.
    #[serde(default)]
    pub model: Option<String>,
    /// The account whose limits it shares, where the job names one.
    pub account: Option<String>,
    /// Its limits.
    pub limits: Limits,
}

impl Stated {
    /// What the job says of this backend.
    pub fn of(backend: &Backend) -> Self {
        Self {
            backend: backend.name.to_string(),
            kind: backend.kind.type_name().to_owned(),
            model: backend.model().map(str::to_owned),
            account: backend.account.as_deref().map(str::to_owned),
            limits: backend.limits,
        }
    }
}

/// A line for each backend of which there is something to say. Backends of one account share their limits:
/// those are in the line of its first backend.
pub(super) fn remarks(
    seen: &[BackendSeen],
    all_stated: &[Stated],
    lines: &IndexMap<String, BackendLine>,
) -> Vec<Remarks> {
    let mut accounts = Vec::new();
    let remarks = seen.iter().map(|seen| {
        let mut stated = all_stated.iter();
        let stated = stated.find(|stated| stated.backend == seen.backend);
        let stated = stated.cloned().unwrap_or_default();
        let mut remarks = Remarks {
            backend: seen.backend.clone(),
            ..Remarks::default()
        };
        let told = stated.account.as_ref().is_some_and(|account| {
            let told = accounts.contains(account);
            accounts.push(account.clone());
            told
        });
        if !told {
            remarks.of_limits(&seen.limits, &stated);
        }
        remarks.of_outages(seen);
        if let (Some(asked), Some(line)) = (&stated.model, lines.get(&seen.backend)) {
            remarks.of_models(asked, &line.models);
        }
        remarks
    });
    remarks.filter(|remarks| !remarks.is_empty()).collect()
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
            allowed.push(rate(limit, what, in_job));
            settings.push(format!("{}_per_minute: {limit}", what.replace(' ', "_")));
            too_high |= in_job.is_some();
        }
        if !allowed.is_empty() {
            self.limits
                .push(format!("the server allows {}", allowed.join(", ")));
        }
        if let Some(pace) = learned(seen) {
            let pace_in_words = rate(pace, "requests", requests);
            self.limits
                .push(format!("about {pace_in_words} went through"));
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

    fn of_models(&mut self, asked: &str, models: &BTreeMap<String, u64>) {
        for (model, replies) in models.iter().filter(|(model, _)| !is_model(asked, model)) {
            let replies = match replies {
                1 => "1 reply".to_owned(),
                replies => format!("{replies} replies"),
            };
            self.happened
                .push(format!("asked for {asked}, {replies} from {model}"));
        }
    }
}

/// Whether a reply that names this model is from the one that was asked for: the same, or a dated version of it, with
/// or without whose it is.
fn is_model(asked: &str, answered: &str) -> bool {
    let bare = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        name.trim_end_matches("-latest").to_owned()
    };
    let (asked, answered) = (bare(asked), bare(answered));
    let is_version = |rest: &str| match rest.strip_prefix('-') {
        Some(date) => date.starts_with(|first: char| first.is_ascii_digit()),
        None => rest.is_empty() || rest.starts_with(['@', ':', '.']),
    };
    answered.strip_prefix(&asked).is_some_and(is_version)
}

fn rate(limit: u64, what: &str, in_job: Option<u64>) -> String {
    match in_job {
        Some(in_job) => format!("{limit} {what}/min (the job says {in_job})"),
        None => format!("{limit} {what}/min"),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::BackendKind;
    use crate::output::{Report, markdown, report_json};

    fn backend(name: &str, account: Option<&str>, requests_per_minute: Option<u32>) -> Backend {
        Backend {
            name: name.into(),
            kind: BackendKind::Custom,
            timeout: None,
            limits: Limits {
                requests_per_minute,
                ..Limits::default()
            },
            tariff: None,
            batch: None,
            account: account.map(Into::into),
        }
    }

    fn seen(name: &str, limits: LimitsSeen) -> BackendSeen {
        BackendSeen {
            backend: name.to_owned(),
            limits,
            ..BackendSeen::default()
        }
    }

    fn report(seen: Vec<BackendSeen>, backends: &[Backend]) -> Report {
        Report::new("job", []).with_seen(seen, backends)
    }

    /// What was seen of a server that told its limits, as in a run in which all went well.
    fn told() -> LimitsSeen {
        LimitsSeen {
            requests_per_minute: Some((500, LimitSource::Server)),
            tokens_per_minute: Some((200_000, LimitSource::Server)),
            concurrency: 16,
            most_in_flight: 16,
            waited: Duration::from_millis(1500),
            ..LimitsSeen::default()
        }
    }

    fn refused() -> LimitsSeen {
        LimitsSeen {
            concurrency: 12,
            concurrency_cuts: 2,
            refusals: 12,
            refusal_episodes: 2,
            paused: Duration::from_millis(3120),
            learned_requests_per_minute: Some(487),
            ..LimitsSeen::default()
        }
    }

    fn hint(limits: LimitsSeen, in_job: Option<u32>) -> Option<String> {
        let backends = [backend("gpt", None, in_job)];
        let remarks = report(vec![seen("gpt", limits)], &backends).remarks();
        Some(remarks.first()?.hint.as_ref()?.yaml.clone())
    }

    #[test]
    fn nothing_is_said_of_what_went_well() {
        let mut limits = told();
        limits.requests_per_minute = Some((500, LimitSource::Job));
        limits.tokens_per_minute = None;
        let report = report(
            vec![seen("gpt", limits)],
            &[backend("gpt", None, Some(500))],
        );
        assert_eq!(report.remarks(), []);
        assert!(!markdown::render(&report).contains("## Limits"));
    }

    #[test]
    fn a_model_is_another_one_unless_it_is_a_version_of_the_one_asked_for() {
        for (asked, answered, is) in [
            ("gpt-4o-mini", "gpt-4o-mini", true),
            ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", true),
            ("openai/gpt-4o", "gpt-4o-2024-08-06", true),
            ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", true),
            ("meta-llama/Llama-3.1-8B", "llama-3.1-8b", true),
            ("gpt-4o-mini", "gpt-4o", false),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4", "gpt-4o", false),
            ("gpt-nope", "tiny", false),
        ] {
            assert_eq!(is_model(asked, answered), is, "{asked}, {answered}");
        }
    }

    #[test]
    fn a_hint_is_given_where_it_would_have_helped() {
        let pace = |limits: &str| Some(format!("limits: {{ {limits} }}"));
        let server = "requests_per_minute: 500, tokens_per_minute: 200000";
        // The server's limits held nobody up.
        assert_eq!(hint(told(), None), None);
        // The job promises more than the server allows.
        assert_eq!(hint(told(), Some(1000)), pace(server));
        // The server says more exactly what its refusals could teach.
        let both = LimitsSeen {
            requests_per_minute: told().requests_per_minute,
            tokens_per_minute: told().tokens_per_minute,
            ..refused()
        };
        assert_eq!(hint(both, None), pace(server));
        assert_eq!(hint(refused(), None), pace("requests_per_minute: 480"));
        let once = LimitsSeen {
            refusal_episodes: 1,
            ..refused()
        };
        assert_eq!(hint(once, None), None);
        let brief = LimitsSeen {
            paused: Duration::from_millis(40),
            ..refused()
        };
        assert_eq!(hint(brief, None), None);
        // What the job says is slower anyway.
        let slower = LimitsSeen {
            requests_per_minute: Some((60, LimitSource::Job)),
            ..refused()
        };
        assert_eq!(hint(slower, Some(60)), None);
    }

    #[test]
    fn what_backends_of_an_account_share_is_said_once() {
        let backends = ["a", "b", "c"].map(|name| backend(name, Some("acme"), None));
        let mut all = ["a", "b", "c"].map(|name| seen(name, refused()));
        all[1].deferred = 1;
        let remarks = report(all.into(), &backends).remarks();
        let said: BTreeMap<_, _> = remarks
            .iter()
            .map(|remarks| (&*remarks.backend, remarks.happened.join("; ")))
            .collect();
        let expected = [
            (
                "a",
                "12 requests of account acme throttled in 2 episodes, paused 3.1 s",
            ),
            ("b", "1 retry put off"),
        ];
        assert_eq!(said, expected.map(|(a, b)| (a, b.to_owned())).into());
        let place = remarks[0].hint.as_ref().map(|hint| &*hint.place);
        assert_eq!(place, Some("the backends of account acme"));
    }

    #[test]
    fn the_report_for_people_has_a_table_and_no_foreign_markup() {
        let mut local = seen("lo_cal", LimitsSeen::default());
        local.breaker_opened = 3;
        local.probes = 7;
        local.deferred = 41;
        local.stopped = Some("it said | <b>\n".to_owned());
        let backends = [backend("gpt", None, None), backend("lo_cal", None, None)];
        let text = markdown::render(&report(vec![seen("gpt", refused()), local], &backends));
        let (_, limits) = text.split_once("## Limits\n\n").expect("the section");
        let expected = "\
| backend | what was seen |
|---|---|
| gpt | 12 requests throttled in 2 episodes, paused 3.1 s; about 480 requests/min went through; \
12 requests in flight allowed at the end, 0 were once |
| lo\\_cal | failed again and again, left alone 3 times; 41 retries put off; taken out of the run; \
7 requests tried whether it was back; the reason: it said \\| \\<b\\>  |

> To start the next run at this pace, put `limits: { requests_per_minute: 480 }` into backend gpt.
";
        assert_eq!(limits, expected);
    }

    #[test]
    fn the_report_for_programs_has_every_number_of_every_backend() {
        let mut gpt = seen("gpt", refused());
        gpt.limits.requests_per_minute = told().requests_per_minute;
        gpt.limits.waited = told().waited;
        gpt.stopped = Some("gone".to_owned());
        gpt.deferred = 4;
        let all = vec![gpt, seen("idle", LimitsSeen::default())];
        let report = report(all, &[backend("gpt", Some("acme"), None)]);
        let json: Value =
            serde_json::from_str(&report_json::render(&report, 0, &[])).expect("JSON");
        let expected = json!({
            "account": "acme",
            "requests_per_minute": { "limit": 500, "source": "server" },
            "tokens_per_minute": null,
            "input_tokens_per_minute": null,
            "output_tokens_per_minute": null,
            "learned_requests_per_minute": 487,
            "concurrency": { "allowed": 12, "most_in_flight": 0, "cuts": 2 },
            "refusals": 12,
            "refusal_episodes": 2,
            "paused_ms": 3120,
            "waited_ms": 1500,
            "breaker_opened": 0,
            "probes": 0,
            "deferred": 4,
            "stopped": "gone",
        });
        assert_eq!(json["limits"]["gpt"], expected);
        assert_eq!(json["limits"]["idle"]["refusals"], 0);
        assert_eq!(json["limits"]["idle"]["stopped"], Value::Null);
    }
}
