//! The production dispatcher on paused time: seeded, fast, and exact about when things are sent.

use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::join_all;

use super::*;
use crate::job::{Backend, BackendKind, EchoFailure, EchoScript, Limits};
use crate::words::{Columns, OrchestratorError, Price, Usage};
use crate::worker::{EchoWorker, ModelWorker};

/// Notes when it was asked, and by which attempt; answers as the echo behind it does.
struct Recorder {
    echo: EchoWorker,
    started: Instant,
    sent: Mutex<Vec<Duration>>,
    in_flight: Mutex<(usize, usize)>,
    retry_after: Option<Duration>,
    away: std::ops::Range<Duration>,
}

impl Recorder {
    fn new(script: EchoScript) -> Arc<Self> {
        Arc::new(Self {
            echo: EchoWorker::scripted(script),
            started: Instant::now(),
            sent: Mutex::default(),
            in_flight: Mutex::default(),
            retry_after: None,
            away: Duration::ZERO..Duration::ZERO,
        })
    }

    fn sent(&self) -> Vec<Duration> {
        self.sent.lock().unwrap().clone()
    }

    fn most_in_flight(&self) -> usize {
        self.in_flight.lock().unwrap().1
    }
}

#[async_trait]
impl ModelWorker for Recorder {
    async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        self.echo.infer(prompt).await
    }

    async fn complete(&self, request: &Request) -> Result<Completion, OrchestratorError> {
        self.sent.lock().unwrap().push(self.started.elapsed());
        {
            let mut in_flight = self.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let result = match self.away.contains(&self.started.elapsed()) {
            true => Err(CallError::new(ErrorClass::NotSent, "connection refused").into()),
            false => self.echo.complete(request).await,
        };
        self.in_flight.lock().unwrap().0 -= 1;
        result.map_err(|error| {
            let mut error = error.into_call_error();
            error.retry_after = self.retry_after;
            error.into()
        })
    }
}

fn script(delay_ms: u64, seed: u64, failures: &[(ErrorClass, u32)]) -> EchoScript {
    let failure = |(class, percent): &(ErrorClass, u32)| EchoFailure {
        class: *class,
        per_million: percent * 10_000,
    };
    EchoScript {
        delay: Duration::from_millis(delay_ms),
        reply: None,
        usage: None,
        model: "echo".to_owned(),
        failures: failures.iter().map(failure).collect(),
        seed,
    }
}

fn lane(name: &str, limits: Limits, worker: Arc<dyn ModelWorker>) -> Lane {
    let backend = Backend {
        name: Arc::from(name),
        kind: BackendKind::Custom,
        timeout: Some(Duration::from_secs(300)),
        limits,
        price: Some(Price::FREE),
        account: None,
    };
    Lane::new(backend, worker)
}

fn dispatcher(lanes: Vec<Lane>, retry: RetryPolicy) -> Arc<Dispatcher> {
    let policy = Policy {
        retry,
        ..Policy::default()
    };
    Arc::new(Dispatcher::new(
        lanes,
        policy,
        Stop::new(),
        Arc::new(|_| {}),
    ))
}

/// Asks so many rows at once.
async fn ask(dispatcher: &Arc<Dispatcher>, rows: u64) -> Vec<Outcome> {
    let columns = Arc::new(Columns::new(vec!["text".to_owned()]));
    let calls = (0..rows).map(|index| {
        let row = Arc::new(Row {
            index,
            id: index.to_string(),
            columns: Arc::clone(&columns),
            cells: vec!["four words of text".to_owned()],
        });
        let request = Request::user("four words of text").with_row(Arc::clone(&row));
        let dispatcher = Arc::clone(dispatcher);
        async move {
            let route: Vec<usize> = (0..dispatcher.lanes.len()).collect();
            dispatcher.call(Item::of(row), request, &route).await
        }
    });
    join_all(calls).await
}

/// The most requests that any 60 seconds held.
fn most_in_a_minute(sent: &[Duration]) -> usize {
    let minute = Duration::from_secs(60);
    let within = |start: &Duration| {
        sent.iter()
            .filter(|at| *at >= start && **at < *start + minute)
            .count()
    };
    sent.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn no_minute_ever_holds_more_requests_than_the_limit() {
    for (seed, per_minute) in [(1, 60), (2, 7), (3, 601), (4, 1)] {
        let limits = Limits {
            requests_per_minute: Some(per_minute),
            ..Limits::default()
        };
        let failures = [(ErrorClass::Server, 20), (ErrorClass::Throttled, 10)];
        let worker = Recorder::new(script(300, seed, &failures));
        let dispatcher = dispatcher(
            vec![lane("a", limits, worker.clone())],
            RetryPolicy::default(),
        );
        let rows = u64::from(per_minute) * 2 + 5;
        let outcomes = ask(&dispatcher, rows).await;
        assert_eq!(outcomes.len() as u64, rows);
        let most = most_in_a_minute(&worker.sent());
        assert!(
            most <= per_minute as usize,
            "{most} requests a minute instead of {per_minute}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_a_minute_are_kept_and_what_was_not_used_is_given_back() {
    let limits = Limits {
        tokens_per_minute: Some(600),
        ..Limits::default()
    };
    let mut echo = script(10, 1, &[]);
    echo.usage = Some(crate::job::EchoUsage {
        input_tokens: 40,
        output_tokens: 20,
    });
    let worker = Recorder::new(echo);
    let dispatcher = dispatcher(
        vec![lane("a", limits, worker.clone())],
        RetryPolicy::default(),
    );
    let outcomes = ask(&dispatcher, 60).await;
    let tokens: u64 = outcomes
        .iter()
        .filter_map(|outcome| outcome.usage())
        .map(
            |Usage {
                 input_tokens,
                 output_tokens,
                 ..
             }| input_tokens.unwrap() + output_tokens.unwrap(),
        )
        .sum();
    assert_eq!(tokens, 3600);
    // 3,600 tokens at 600 a minute: about six minutes, less what the first burst may take.
    let took = worker.sent().last().copied().unwrap();
    assert!(
        took > Duration::from_secs(270) && took < Duration::from_secs(400),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_claims_absurd_usage_does_not_block_its_backend_for_ever() {
    let limits = Limits {
        tokens_per_minute: Some(1_000),
        concurrency: Some(1),
        ..Limits::default()
    };
    let mut echo = script(10, 1, &[]);
    echo.usage = Some(crate::job::EchoUsage {
        input_tokens: u64::MAX / 2,
        output_tokens: 0,
    });
    let lanes = vec![lane("a", limits, Recorder::new(echo))];
    let began = Instant::now();
    let outcomes = ask(&dispatcher(lanes, RetryPolicy::default()), 4).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Status::Answered)
    );
    assert!(
        began.elapsed() < Duration::from_secs(5 * 60),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_backend_never_has_more_requests_in_flight_than_its_ceiling() {
    let limits = Limits {
        concurrency: Some(3),
        ..Limits::default()
    };
    let worker = Recorder::new(script(50, 5, &[(ErrorClass::Server, 30)]));
    let dispatcher = dispatcher(
        vec![lane("a", limits, worker.clone())],
        RetryPolicy::default(),
    );
    ask(&dispatcher, 200).await;
    assert_eq!(worker.most_in_flight(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_row_ends_with_as_many_attempts_as_the_policy_allows() {
    for seed in 0..50 {
        let failures = [
            (ErrorClass::Server, 15),
            (ErrorClass::NotSent, 10),
            (ErrorClass::Ambiguous, 5),
            (ErrorClass::Invalid, 5),
            (ErrorClass::RowFatal, 5),
            (ErrorClass::Flagged, 5),
        ];
        let first = Recorder::new(script(20, seed, &failures));
        let second = Recorder::new(script(20, seed + 1000, &failures));
        let lanes = vec![
            lane("first", Limits::default(), first.clone()),
            lane("second", Limits::default(), second.clone()),
        ];
        let outcomes = ask(&dispatcher(lanes, RetryPolicy::default()), 100).await;
        let mut attempts = 0;
        for outcome in outcomes {
            attempts += outcome.attempts.len();
            let on = |name: &str| {
                outcome
                    .attempts
                    .iter()
                    .filter(|a| &*a.backend == name)
                    .count()
            };
            assert!(on("first") <= 3 && on("second") <= 3, "{outcome:?}");
            let order: Vec<&str> = outcome.attempts.iter().map(|a| &*a.backend).collect();
            assert!(order.is_sorted(), "the route's order is kept: {order:?}");
            let answered = outcome.status == Status::Answered;
            assert_eq!(
                answered,
                outcome.deciding().unwrap().class.is_none(),
                "{outcome:?}"
            );
        }
        assert_eq!(
            attempts,
            first.sent().len() + second.sent().len(),
            "every request is in the ledger"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_backend_pauses_for_all_its_rows() {
    let mut recorder = Recorder::new(script(1, 1, &[(ErrorClass::Throttled, 100)]));
    Arc::get_mut(&mut recorder).unwrap().retry_after = Some(Duration::from_secs(20));
    let limits = Limits {
        concurrency: Some(1),
        ..Limits::default()
    };
    let retry = RetryPolicy {
        attempts: 2,
        initial: Duration::ZERO,
        max: Duration::from_secs(30),
        ..RetryPolicy::default()
    };
    let dispatcher = dispatcher(vec![lane("a", limits, recorder.clone())], retry);
    let outcomes = ask(&dispatcher, 5).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Status::Failed)
    );
    let sent = recorder.sent();
    for pair in sent.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(20), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_out_of_quota_is_asked_no_more_and_its_rows_fall_back() {
    let spent = Recorder::new(script(10, 1, &[(ErrorClass::Exhausted, 100)]));
    let healthy = Recorder::new(script(10, 1, &[]));
    let one = Limits {
        concurrency: Some(1),
        ..Limits::default()
    };
    let lanes = vec![
        lane("spent", one, spent.clone()),
        lane("healthy", one, healthy.clone()),
    ];
    let dispatcher = dispatcher(lanes, RetryPolicy::default());
    let outcomes = ask(&dispatcher, 50).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Status::Answered)
    );
    assert_eq!((spent.sent().len(), healthy.sent().len()), (1, 50));
    assert!(dispatcher.usable());
}

#[tokio::test(start_paused = true)]
async fn when_no_backend_is_left_rows_that_were_not_asked_are_not_run() {
    let worker = Recorder::new(script(10, 1, &[(ErrorClass::Config, 100)]));
    let one = Limits {
        concurrency: Some(1),
        ..Limits::default()
    };
    let dispatcher = dispatcher(vec![lane("a", one, worker.clone())], RetryPolicy::default());
    let outcomes = ask(&dispatcher, 10).await;
    let with = |status| {
        outcomes
            .iter()
            .filter(|outcome| outcome.status == status)
            .count()
    };
    assert_eq!((with(Status::Failed), with(Status::NotRun)), (1, 9));
    assert!(!dispatcher.usable() && dispatcher.down());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_there_is_given_up_within_seconds() {
    let worker = Recorder::new(script(0, 1, &[(ErrorClass::NotSent, 100)]));
    let lanes = vec![lane("a", Limits::default(), worker)];
    let dispatcher = dispatcher(lanes, RetryPolicy::default());
    ask(&dispatcher, 20).await;
    assert!(
        dispatcher.usable(),
        "a second is not long enough to give up"
    );
    let began = Instant::now();
    while dispatcher.usable() {
        ask(&dispatcher, 20).await;
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_is_waited_for_and_costs_no_row() {
    let mut recorder = Recorder::new(script(100, 1, &[]));
    // Away from the second second on, for a minute.
    let away = Duration::from_secs(2)..Duration::from_secs(62);
    Arc::get_mut(&mut recorder).unwrap().away = away.clone();
    let limits = Limits {
        concurrency: Some(16),
        ..Limits::default()
    };
    let lanes = vec![lane("a", limits, recorder.clone())];
    let dispatcher = dispatcher(lanes, RetryPolicy::default());
    let outcomes = ask(&dispatcher, 1_000).await;
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.status != Status::Answered)
        .count();
    assert_eq!(failed, 0);
    let knocks = recorder
        .sent()
        .iter()
        .filter(|at| away.contains(at))
        .count();
    assert!(knocks < 16 * 40, "{knocks} attempts while it was away");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_every_wait_and_leaves_every_row_with_an_outcome() {
    let limits = Limits {
        requests_per_minute: Some(6),
        ..Limits::default()
    };
    for after in [0, 1, 5_000, 10_001, 25_000, 61_000] {
        let worker = Recorder::new(script(4_000, 2, &[(ErrorClass::Server, 40)]));
        let stop = Stop::new();
        let lanes = vec![lane("a", limits, worker.clone())];
        let dispatcher = Dispatcher::new(lanes, Policy::default(), stop.clone(), Arc::new(|_| {}));
        tokio::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            stop.drain(Interrupt::Interrupted);
        });
        let began = Instant::now();
        let outcomes = ask(&Arc::new(dispatcher), 30).await;
        let took = began.elapsed();
        assert!(
            took <= Duration::from_millis(after + 4_001),
            "{took:?} for a stop after {after} ms"
        );
        let attempts: usize = outcomes.iter().map(|outcome| outcome.attempts.len()).sum();
        assert_eq!(attempts, worker.sent().len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_never_answers_is_given_up_after_its_time() {
    let worker = Recorder::new(script(3_600_000, 1, &[]));
    let lanes = vec![lane("a", Limits::default(), worker)];
    let outcomes = ask(&dispatcher(lanes, RetryPolicy::default()), 3).await;
    for outcome in outcomes {
        assert_eq!(
            outcome.deciding().unwrap().class,
            Some(ErrorClass::Ambiguous)
        );
        assert_eq!(
            outcome.deciding().unwrap().latency,
            Duration::from_secs(300)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_gives_up_what_is_in_flight_and_says_so() {
    let worker = Recorder::new(script(60_000, 2, &[]));
    let stop = Stop::new();
    let lanes = vec![lane("a", Limits::default(), worker)];
    let dispatcher = Dispatcher::new(lanes, Policy::default(), stop.clone(), Arc::new(|_| {}));
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        stop.abort();
    });
    let began = Instant::now();
    let outcomes = ask(&Arc::new(dispatcher), 3).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    for outcome in outcomes {
        assert_eq!(
            outcome.deciding().unwrap().class,
            Some(ErrorClass::Cancelled)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_leaves_its_place_and_its_permit_to_others() {
    let limits = Limits {
        concurrency: Some(1),
        requests_per_minute: Some(60),
        tokens_per_minute: Some(6_000),
        ..Limits::default()
    };
    let worker = Recorder::new(script(700, 2, &[]));
    let dispatcher = dispatcher(
        vec![lane("a", limits, worker.clone())],
        RetryPolicy::default(),
    );
    for cut_after in (0..3_000).step_by(97) {
        let patience = Duration::from_millis(cut_after);
        // Dropping the futures cancels them wherever they wait.
        let _ = tokio::time::timeout(patience, ask(&dispatcher, 5)).await;
    }
    let outcomes = tokio::time::timeout(Duration::from_secs(30), ask(&dispatcher, 3)).await;
    assert!(
        outcomes
            .expect("nothing leaked")
            .iter()
            .all(|o| o.status == Status::Answered)
    );
}
