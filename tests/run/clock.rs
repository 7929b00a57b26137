use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::time::{Instant, advance, sleep};
use tokio_prompt_orchestrator::words::{
    CallError, Completion, ErrorClass, Event, Request, Status, Usage,
};
use tokio_prompt_orchestrator::{
    ExitCode, Interrupt, ModelWorker, Options, OrchestratorError, Runner, Stop, Summary,
};

use crate::published::read_jsonl;
use crate::scratch::Scratch;

/// What the scripted worker decides for a call: how long it takes, and what comes of it.
type Script = dyn Fn(&Call, &mut Rng) -> (Duration, Result<Usage, CallError>) + Send + Sync;

/// A call as the worker saw it, in virtual time.
#[derive(Debug, Clone)]
struct Call {
    /// Which call of the run, from 0.
    number: usize,
    at: Instant,
}

/// A worker that follows a script and writes down every call.
struct Scripted {
    script: Box<Script>,
    random: Mutex<Rng>,
    calls: Mutex<Vec<Call>>,
}

#[async_trait]
impl ModelWorker for Scripted {
    async fn infer(&self, _: &str) -> Result<Vec<String>, OrchestratorError> {
        unreachable!("the run asks `complete`")
    }

    async fn complete(&self, _: &Request) -> Result<Completion, OrchestratorError> {
        let (takes, result) = {
            let mut calls = self.calls.lock().expect("no script panics");
            let call = Call {
                number: calls.len(),
                at: Instant::now(),
            };
            calls.push(call.clone());
            (self.script)(&call, &mut self.random.lock().expect("no script panics"))
        };
        sleep(takes).await;
        let mut completion = Completion::text("yes");
        completion.usage = Some(result?);
        Ok(completion)
    }
}

/// A run of many rows in virtual time.
struct Simulated {
    summary: Summary,
    calls: Vec<Call>,
    events: Vec<Event>,
    took: Duration,
    statuses: Vec<String>,
}

/// Runs `rows` rows on one scripted backend. The clock is paused and moved in steps: rows are read
/// and outcomes stored by threads, during which a clock that moves by itself would stand still.
async fn simulate(
    seed: u64,
    rows: usize,
    job: &str,
    step: Duration,
    stop: Stop,
    script: impl Fn(&Call, &mut Rng) -> (Duration, Result<Usage, CallError>) + Send + Sync + 'static,
) -> Simulated {
    let scratch = Scratch::new();
    scratch.rows(rows).job(job);
    let options = Options {
        out: Some(scratch.path().join("out")),
        ..Options::default()
    };
    let runner = Runner::load(scratch.path().join("job.yaml"), &options);
    let worker = Arc::new(Scripted {
        script: Box::new(script),
        random: Mutex::new(Rng::with_seed(seed)),
        calls: Mutex::default(),
    });
    let runner = runner
        .unwrap_or_else(|problems| panic!("{problems}"))
        .with_worker("a", Arc::clone(&worker) as Arc<dyn ModelWorker>);
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let run = runner.run(stop, move |event| {
        heard.lock().expect("nobody panics").push(event);
    });
    let started = Instant::now();
    let running = std::time::Instant::now();
    let clock = async {
        while running.elapsed() < Duration::from_secs(40) {
            advance(step).await;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
    };
    let summary = tokio::select! {
        biased;
        summary = run => summary.expect("the run ends well"),
        () = clock => panic!("the run did not end; {:?} have passed for it", started.elapsed()),
    };
    let took = started.elapsed();
    let lines = read_jsonl(&scratch.path().join("out/results.jsonl"));
    // Whatever happened: every row once, in order.
    let ids = lines
        .iter()
        .map(|line| line["id"].as_str().expect("an id").to_owned());
    assert!(ids.eq((1..=rows).map(|row| format!("rows.csv:{row}"))));
    let finished = |event: &&Event| matches!(event, Event::RowFinished { .. });
    let events = events.lock().expect("nobody panics").clone();
    assert_eq!(events.iter().filter(finished).count(), rows);
    let calls = worker.calls.lock().expect("no script panics").clone();
    assert_eq!(summary.report.total().attempts, calls.len() as u64);
    let status = |line: &serde_json::Value| line["status"].as_str().expect("a status").to_owned();
    Simulated {
        statuses: lines.iter().map(status).collect(),
        summary,
        calls,
        events,
        took,
    }
}

/// The most calls in any window of this length.
fn most_in(window: Duration, calls: &[Call]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (number, call) in calls.iter().enumerate() {
        while call.at - calls[first].at >= window {
            first += 1;
        }
        most = most.max(number + 1 - first);
    }
    most
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn no_minute_ever_holds_more_requests_than_the_limit_and_one() {
    for (seed, limit, rows) in [(1, 300, 1500), (2, 77, 300), (3, 6000, 6000)] {
        let job = format!(
            "backends: {{ a: {{ type: custom, limits: {{ requests_per_minute: {limit} }} }} }}\n\
             concurrency: 200\nretry: {{ attempts: 3, initial: 2s, max: 9s }}"
        );
        let step = Duration::from_millis(10);
        let run = simulate(seed, rows, &job, step, Stop::new(), |_, random| {
            let takes = Duration::from_millis(random.u64(1..20_000) / 10);
            // Retries count as well, and the rows that fail fast must not make a burst.
            match random.u32(0..10) {
                0 => (takes, Err(CallError::new(ErrorClass::Server, "down"))),
                _ => (takes, Ok(Usage::new(1, 1))),
            }
        })
        .await;
        let most = most_in(MINUTE, &run.calls);
        assert!(most <= limit + 1, "{most} requests in a minute of {limit}");
        // The limit was what held the run back.
        let calls = (run.calls.len() - 1 - limit / 120) as f64;
        let least = MINUTE.mul_f64(calls / limit as f64);
        assert!(
            run.took >= least && run.took < least.mul_f64(1.4) + MINUTE / 2,
            "{:?} for {} calls of {limit}",
            run.took,
            run.calls.len()
        );
        let ten_seconds = most_in(MINUTE / 6, &run.calls);
        assert!(
            ten_seconds <= limit / 6 + limit / 120 + 2,
            "{ten_seconds} in ten seconds of {limit} a minute"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_per_minute_are_kept_to_by_what_was_really_used() {
    let job = "backends: { a: { type: custom, limits: { tokens_per_minute: 60000 } } }\n\
               concurrency: 20";
    // Each answer uses far more than the few tokens that its prompt suggests.
    let run = simulate(
        5,
        600,
        job,
        Duration::from_millis(10),
        Stop::new(),
        |_, random| {
            let takes = Duration::from_millis(random.u64(50..150));
            (takes, Ok(Usage::new(300, random.u64(0..200))))
        },
    )
    .await;
    assert_eq!(run.summary.report.unanswered(), 0);
    // 600 rows use about 240,000 tokens: 4 minutes, less the burst of a tenth of a minute, and less
    // what twenty rows may use before the first usage is known.
    let used = run.summary.report.total().usage;
    let tokens = used.input_tokens.unwrap_or(0) + used.output_tokens.unwrap_or(0);
    let free = 6_000 + 20 * 500;
    let least = MINUTE.mul_f64((tokens - free) as f64 / 60_000.0);
    assert!(
        run.took >= least && run.took < least.mul_f64(1.3) + MINUTE / 4,
        "{:?}",
        run.took
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_backend_is_left_alone_by_every_row_until_its_time() {
    let pause = Duration::from_secs(30);
    let job = "backends: { a: { type: custom, limits: { concurrency: 16 } } }\nconcurrency: 64";
    let run = simulate(
        11,
        2000,
        job,
        Duration::from_millis(10),
        Stop::new(),
        move |call, _| {
            let takes = Duration::from_millis(100);
            match call.number {
                400 | 1200 => {
                    let mut error = CallError::new(ErrorClass::Throttled, "slow down");
                    error.retry_after = Some(pause);
                    (takes, Err(error))
                }
                _ => (takes, Ok(Usage::new(1, 1))),
            }
        },
    )
    .await;
    assert_eq!(run.summary.report.unanswered(), 0);
    assert_eq!(run.calls.len(), 2002);
    for number in [400, 1200] {
        // The reply came a tenth of a second after the call, with the step it fell into.
        let told = run.calls[number].at + Duration::from_millis(100);
        let late = Duration::from_millis(20);
        let between = run.calls.iter().filter(|call| call.at > told + late);
        let first = between.map(|call| call.at).min().expect("later calls");
        assert!(
            first >= told + pause,
            "{:?} after the throttling",
            first - told
        );
        assert!(first < told + pause + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_alone_never_fails_a_row_that_has_nowhere_else_to_go() {
    let job = "backends: { a: { type: custom, limits: { concurrency: 8 } } }\n\
               retry: { attempts: 2, initial: 1s, max: 30s }";
    // Every third call is turned away without a hint, for the whole run.
    let run = simulate(
        13,
        500,
        job,
        Duration::from_millis(20),
        Stop::new(),
        |call, _| {
            let takes = Duration::from_millis(20);
            match call.number % 3 {
                1 => (
                    takes,
                    Err(CallError::new(ErrorClass::Throttled, "slow down")),
                ),
                _ => (takes, Ok(Usage::new(1, 1))),
            }
        },
    )
    .await;
    assert_eq!(run.summary.exit_code, ExitCode::Success);
    assert!(run.statuses.iter().all(|status| status == "answered"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_any_time_leaves_no_row_without_an_outcome() {
    for seed in 0..6 {
        let stop = Stop::new();
        let job = "backends: { a: { type: custom, limits: { concurrency: 40, \
                   requests_per_minute: 30000 } } }\nconcurrency: 64\n\
                   retry: { attempts: 4, initial: 500ms, max: 5s }";
        let mut random = Rng::with_seed(seed);
        let when = random.usize(0..1500);
        // Every other run is not left the time to end its requests in flight.
        let abort = (seed % 2 == 0).then(|| Duration::from_millis(random.u64(0..100)));
        let stopping = stop.clone();
        let rows = 1500;
        let run = simulate(
            seed,
            rows,
            job,
            Duration::from_millis(5),
            stop,
            move |call, random| {
                if call.number == when {
                    stopping.drain(Interrupt::Interrupted);
                    if let Some(after) = abort {
                        let stopping = stopping.clone();
                        tokio::spawn(async move {
                            sleep(after).await;
                            stopping.abort();
                        });
                    }
                }
                let takes = Duration::from_millis(random.u64(1..400));
                match random.u32(0..64) {
                    0..8 => (takes, Err(CallError::new(ErrorClass::Server, "down"))),
                    8 => (
                        takes,
                        Err(CallError::new(ErrorClass::Throttled, "slow down")),
                    ),
                    _ => (takes, Ok(Usage::new(1, 1))),
                }
            },
        )
        .await;
        assert_eq!(run.summary.exit_code, ExitCode::Interrupted, "seed {seed}");
        assert_eq!(run.summary.report.rows(), rows as u64);
        let answered = run.summary.report.rows_with(Status::Answered);
        assert!(answered <= run.calls.len() as u64);
        // Nothing is started once the run is asked to stop.
        let asked = run.calls[when].at;
        assert!(run.calls.iter().all(|call| call.at <= asked), "seed {seed}");
        let given_up = run.summary.report.by_class.get(&ErrorClass::Cancelled);
        assert_eq!(given_up.is_some(), abort.is_some(), "seed {seed}");
        let drains = |event: &&Event| matches!(event, Event::DrainStarted { .. });
        assert_eq!(run.events.iter().filter(drains).count(), 1);
    }
}
