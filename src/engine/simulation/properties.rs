//! What holds for every schedule: thousands of seeds, each its own mix of limits, failures and stops.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::dispatch::Interrupt;
use crate::words::{ErrorClass, FinishReason};

/// A job of everything that can be mixed, drawn from a seed.
pub(super) fn draw(seed: u64) -> Job {
    let mut random = fastrand::Rng::with_seed(seed);
    let classes = [
        ErrorClass::NotSent,
        ErrorClass::Server,
        ErrorClass::Ambiguous,
        ErrorClass::Throttled,
        ErrorClass::Invalid,
        ErrorClass::RowFatal,
    ];
    let rules: Vec<Rules> = (0..random.usize(1..=3))
        .map(|_| {
            let longest = random.u64(2..5_000);
            let mut left = 60;
            let failures = (0..random.usize(0..3)).map(|_| {
                let share = random.u32(0..=left);
                left -= share;
                (classes[random.usize(0..classes.len())], share)
            });
            let failures = failures.collect();
            let start = random.u64(0..20_000);
            let outage = (
                start..start + random.u64(1..200_000),
                classes[random.usize(0..4)],
            );
            let per_minute = random.u64(30..3_000);
            Rules {
                latency: 1..longest,
                refusal: random.u64(1..100),
                requests: (random.u8(0..3) == 0).then(|| (per_minute, per_minute / 60 + 1)),
                tells: random.bool(),
                retry_after: random.bool(),
                failures,
                outages: (random.u8(0..4) == 0)
                    .then_some(outage)
                    .into_iter()
                    .collect(),
                finish: match random.u8(0..8) {
                    0 => FinishReason::Length,
                    _ => FinishReason::Stop,
                },
                seed: random.u64(..),
                ..Rules::default()
            }
        })
        .collect();
    let mut job = Job::new(random.u64(1..60), rules).concurrency(random.usize(1..40));
    for backend in &mut job.backends {
        let some = |random: &mut fastrand::Rng| random.u8(0..3) == 0;
        backend.limits = Limits {
            requests_per_minute: some(&mut random).then(|| random.u32(10..3_000)),
            burst: None,
            tokens_per_minute: some(&mut random).then(|| random.u64(2_000..100_000)),
            input_tokens_per_minute: None,
            output_tokens_per_minute: some(&mut random).then(|| random.u64(2_000..100_000)),
            concurrency: some(&mut random).then(|| random.usize(1..20)),
        };
        if random.bool() {
            backend.kind = openai(random.u32(1..100));
        }
    }
    job.repeat = random.u32(1..3);
    job.retry.attempts = random.u32(1..4);
    if random.u8(0..4) == 0 {
        job.fallback.after = Some(Duration::from_millis(random.u64(1..20_000)));
    }
    if random.bool() {
        job.fallback.on = vec![Status::Truncated];
    }
    if random.u8(0..4) == 0 {
        job.hedge_after = Some(Duration::from_millis(random.u64(1..3_000)));
    }
    job
}

/// What must hold of any run, whenever and however it ended.
#[track_caller]
fn check(seed: u64, ran: &Ran, servers: &[Arc<Server>], job: &Expected) {
    assert_eq!(ran.outcomes.len() as u64, job.items, "seed {seed}");
    let sent: usize = servers.iter().map(|server| server.seen().len()).sum();
    assert_eq!(sent, ran.attempts(), "seed {seed}: sends are attempts");
    for (position, server) in servers.iter().enumerate() {
        assert_eq!(server.in_flight(), 0, "seed {seed}");
        let limits = &job.limits[position];
        let most = limits
            .concurrency
            .unwrap_or(job.concurrency)
            .min(job.concurrency);
        assert!(server.most_in_flight() <= most, "seed {seed}");
        if let Some(limit) = limits.requests_per_minute {
            let held = server.most_in(Duration::from_secs(60));
            assert!(held <= limit as usize, "seed {seed}: {held} of {limit}");
        }
    }
    for outcome in &ran.outcomes {
        let name = |outcome: &Outcome| format!("seed {seed}: {outcome:#?}");
        let positions: Vec<usize> = outcome
            .attempts
            .iter()
            .map(|attempt| "abc".find(&*attempt.backend).unwrap())
            .collect();
        // Each pass goes down the route; another one begins only for the late sweep.
        let passes = 1 + positions
            .windows(2)
            .filter(|pair| pair[0] > pair[1])
            .count();
        assert!(passes <= 11, "{}", name(outcome));
        for position in 0..servers.len() {
            let own = |class: ErrorClass| {
                let on = outcome.attempts.iter().zip(&positions);
                on.filter(|(attempt, at)| **at == position && attempt.class == Some(class))
                    .count()
            };
            let counted = own(ErrorClass::Server) + own(ErrorClass::NotSent);
            let probes = ran.seen[position].probes as usize;
            // A hedge is a second attempt of one try.
            let hedges = if job.hedges { 2 } else { 1 };
            let most = (job.attempts as usize + 10) * hedges + probes;
            assert!(counted <= most, "{}", name(outcome));
            let billed = own(ErrorClass::Ambiguous) + own(ErrorClass::Invalid);
            assert!(billed <= (2 + 10) * hedges, "{}", name(outcome));
        }
        if outcome.status == Status::Answered {
            assert_eq!(outcome.deciding().unwrap().class, None, "{}", name(outcome));
        }
    }
}

struct Expected {
    items: u64,
    concurrency: usize,
    attempts: u32,
    hedges: bool,
    limits: Vec<Limits>,
}

impl Expected {
    fn of(job: &Job) -> Self {
        Self {
            items: job.rows * u64::from(job.repeat),
            concurrency: job.concurrency,
            attempts: job.retry.attempts,
            hedges: job.hedge_after.is_some(),
            limits: job.backends.iter().map(|backend| backend.limits).collect(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_row_ends_once_within_all_limits_whatever_happens() {
    for seed in 0..2_000 {
        let job = draw(seed);
        let (servers, expected) = (job.servers.clone(), Expected::of(&job));
        let ran = tokio::time::timeout(Duration::from_secs(24 * 3600), job.run()).await;
        let ran = ran.unwrap_or_else(|_| panic!("seed {seed} does not end"));
        check(seed, &ran, &servers, &expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_any_moment_ends_the_run_soon_and_leaves_an_outcome_for_every_row() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5707);
        let job = draw(seed);
        let (servers, expected) = (job.servers.clone(), Expected::of(&job));
        let stop = job.stop.clone();
        let after = Duration::from_millis(random.u64(0..30_000));
        let abort = random.bool();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            match abort {
                true => stop.abort(),
                false => stop.drain(Interrupt::Interrupted),
            }
        });
        let ran = job.run().await;
        // A request in flight may take as long as an answer does, and its hedge as long again.
        let most = after + Duration::from_secs(if abort { 0 } else { 10 });
        assert!(
            ran.took <= most + Duration::from_millis(5),
            "seed {seed}: {:?}",
            ran.took
        );
        check(seed, &ran, &servers, &expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_run_again() {
    for seed in [3, 77, 1_234] {
        let once = || async {
            let ran = draw(seed).run().await;
            (ran.took, ran.outcomes)
        };
        let (first, second) = (once().await, once().await);
        assert_eq!(first, second);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_at_any_moment_leaves_all_permits_and_reservations_to_the_next() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rules = Rules {
            latency: 1..2_000,
            failures: vec![(ErrorClass::Server, 10), (ErrorClass::Throttled, 5)],
            outages: vec![(3_000..6_000, ErrorClass::Server)],
            retry_after: false,
            seed,
            ..Rules::default()
        };
        let mut job = Job::new(40, [rules]).openai(100).limits(Limits {
            requests_per_minute: Some(600),
            tokens_per_minute: Some(60_000),
            concurrency: Some(4),
            ..Limits::default()
        });
        job.hedge_after = random.bool().then(|| Duration::from_secs(1));
        let server = Arc::clone(&job.servers[0]);
        let (journal, mut records) = Journal::new(64);
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answered);
        // A run that was dropped cannot be told that its records are stored.
        tokio::spawn(async move {
            while let Some(record) = records.recv().await {
                match record {
                    Record::Intent(_, _, durable) => {
                        let _ = durable.send(());
                    }
                    Record::Ended(..) | Record::HeldBack(..) => {}
                    Record::Outcome(outcome) => {
                        let is_answered = outcome.status == Status::Answered;
                        counted.fetch_add(usize::from(is_answered), Ordering::SeqCst);
                    }
                }
            }
        });
        let (fan_out, _told) = job.fan_out(journal);
        let items = || read(items(40, 1, 1));
        for _ in 0..random.usize(1..6) {
            let cut = Duration::from_millis(random.u64(0..4_000));
            // Dropping the run cancels everything in it, wherever it waits.
            let _ = tokio::time::timeout(cut, fan_out.run(items())).await;
            tokio::task::yield_now().await;
            assert_eq!(server.in_flight(), 0, "seed {seed}");
        }
        answered.store(0, Ordering::SeqCst);
        let last = fan_out.run(items());
        let last = tokio::time::timeout(Duration::from_secs(600), last).await;
        assert!(last.is_ok(), "seed {seed}: something is held for ever");
        assert_eq!(answered.load(Ordering::SeqCst), 40, "seed {seed}");
        assert!(server.most_in_flight() <= 4, "seed {seed}");
    }
}
