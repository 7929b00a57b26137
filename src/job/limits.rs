//! The ceilings on the use of backends, and the accounts that share them.

use super::Problem;
use super::decode::At;
use super::plan::{Backend, Limits};
use super::read::Job;
use super::resolve::in_range;
use super::source::Span;
use super::written::{BackendKeys, LimitKeys};

/// A backend that says which limits its account has.
struct Spoken<'a> {
    account: &'a str,
    limits: Limits,
    backend: &'a str,
}

/// The limits of each backend of the job file, in its order: its own, else those of its account.
pub fn resolve(job: &Job, problems: &mut Vec<Problem>) -> Vec<Limits> {
    let backends = job
        .keys
        .backends
        .iter()
        .flat_map(|named| &named.value.entries);
    let backends: Vec<_> = backends
        .map(|(key, keys)| (key, keys, own(keys, problems)))
        .collect();
    let mut accounts: Vec<Spoken<'_>> = Vec::new();
    for (key, keys, limits) in &backends {
        let Some(At { value, span }) = &keys.account else {
            continue;
        };
        if value.trim().is_empty() {
            problems.push(span.problem("the account has no name"));
        }
        let Some(limits) = *limits else { continue };
        match accounts.iter().find(|spoken| spoken.account == value) {
            // Two sets of limits for one limiter: neither would be right for both.
            Some(spoken) if spoken.limits != limits => {
                let place = keys.written.key("limits").unwrap_or(span);
                let message = format!(
                    "`{}` of the same account `{value}` has other limits",
                    spoken.backend
                );
                let help = "write them at one of the two; backends of an account share its limits";
                problems.push(place.problem(message).help(help));
            }
            Some(_) => {}
            None => accounts.push(Spoken {
                account: value,
                limits,
                backend: &key.name,
            }),
        }
    }
    let shared = |keys: &BackendKeys| {
        let account = &keys.account.as_ref()?.value;
        let mut all = accounts.iter();
        Some(all.find(|spoken| spoken.account == account)?.limits)
    };
    backends
        .iter()
        .map(|(_, keys, own)| shared(keys).or(*own).unwrap_or_default())
        .collect()
}

/// The limits that the backend writes, if it does.
fn own(keys: &BackendKeys, problems: &mut Vec<Problem>) -> Option<Limits> {
    let At { value: keys, .. } = keys.limits.as_ref()?;
    let mut tokens = |written: &Option<At<u64>>, name: &str| {
        in_range(written.as_ref(), name, 1..=u64::MAX, problems)
    };
    let tokens_per_minute = tokens(&keys.tokens_per_minute, "tokens_per_minute");
    let input = tokens(&keys.input_tokens_per_minute, "input_tokens_per_minute");
    let output = tokens(&keys.output_tokens_per_minute, "output_tokens_per_minute");
    let requests = keys.requests_per_minute.as_ref();
    let burst = keys.burst.as_ref();
    let concurrency = keys.concurrency.as_ref();
    check_burst(keys, problems);
    Some(Limits {
        requests_per_minute: in_range(requests, "requests_per_minute", 1..=u32::MAX, problems),
        burst: in_range(burst, "burst", 1..=u32::MAX, problems),
        tokens_per_minute,
        input_tokens_per_minute: input,
        output_tokens_per_minute: output,
        concurrency: in_range(concurrency, "concurrency", 1..=65_536, problems),
    })
}

fn check_burst(keys: &LimitKeys, problems: &mut Vec<Problem>) {
    if let Some(burst) = keys.written.key("burst")
        && keys.written.key("requests_per_minute").is_none()
    {
        let problem = burst.problem("`burst` means nothing without `requests_per_minute`");
        problems.push(problem.help("add `requests_per_minute`, or bound `concurrency` instead"));
    }
}

/// A request whose output alone leaves no room in a minute's tokens would wait for ever.
pub fn check_fit(keys: &BackendKeys, backend: &Backend, problems: &mut Vec<Problem>) {
    // Where the cap is not counted, the answers need not be as long.
    let Some(cap) = backend.max_tokens().filter(|_| backend.counts_cap()) else {
        return;
    };
    let written = keys.limits.as_ref().map(|limits| &limits.value);
    let own = |limit: Option<&At<u64>>| limit.map(|limit| limit.span.clone());
    // A prompt takes some tokens of the common limit too.
    for (name, limit, least, place) in [
        (
            "tokens_per_minute",
            backend.limits.tokens_per_minute,
            u64::from(cap) + 1,
            own(written.and_then(|keys| keys.tokens_per_minute.as_ref())),
        ),
        (
            "output_tokens_per_minute",
            backend.limits.output_tokens_per_minute,
            u64::from(cap),
            own(written.and_then(|keys| keys.output_tokens_per_minute.as_ref())),
        ),
    ] {
        let Some(limit) = limit.filter(|limit| *limit < least) else {
            continue;
        };
        let shared = || Some(keys.account.as_ref()?.span.clone());
        let place: Option<Span> = place.or_else(shared);
        let message = format!("no request fits: `max_tokens` is {cap}, `{name}` is {limit}");
        let problem = place.map(|place| place.problem(message));
        problems
            .extend(problem.map(|problem| problem.help("lower `max_tokens` or raise the limit")));
    }
}
