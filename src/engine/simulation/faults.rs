//! Failures: what they cost, and that no row is lost to them.

use super::*;
use crate::words::{Allowances, CallError, ErrorClass};

fn failing(seed: u64, failures: &[(ErrorClass, u32)]) -> Rules {
    Rules {
        failures: failures.to_vec(),
        seed,
        ..Rules::default()
    }
}

/// Fails so from the first millisecond on, for so many seconds.
fn out(class: ErrorClass, seconds: u64) -> Rules {
    Rules {
        outages: vec![(0..seconds * 1_000, class)],
        retry_after: false,
        ..Rules::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_steady_third_of_failures_costs_at_most_one_and_a_half_sends_a_row_and_no_row() {
    for seed in 0..10 {
        let job = Job::new(3_000, [failing(seed, &[(ErrorClass::Server, 30)])]);
        let server = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        ran.all_answered();
        let sent = server.seen().len();
        assert!(sent * 2 <= 3_000 * 3, "{sent} sent for 3,000 rows");
        assert_eq!(sent, ran.attempts());
    }
}

#[tokio::test(start_paused = true)]
async fn retries_are_a_share_of_what_is_sent_and_rows_beyond_it_are_put_off() {
    let job = Job::new(6_000, [failing(1, &[(ErrorClass::Server, 30)])]);
    let ran = job.run().await;
    let retried = |event: &&Event| matches!(event, Event::AttemptFailedWillRetry { .. });
    let deferred = |event: &&Event| matches!(event, Event::RowDeferred { .. });
    let (retried, deferred) = (
        ran.events.iter().filter(retried).count(),
        ran.events.iter().filter(deferred).count(),
    );
    let minutes = ran.took.as_secs() / 60 + 1;
    let most = (ran.attempts() as u64 / 10).max(60 * minutes);
    assert!(retried as u64 <= most, "{retried} retries of {most}");
    assert!(deferred > 500, "{deferred}");
    assert_eq!(ran.seen[0].deferred, deferred as u64);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_down_for_good_costs_the_threshold_and_a_probe_in_ten_seconds() {
    for class in [
        ErrorClass::Server,
        ErrorClass::NotSent,
        ErrorClass::Ambiguous,
    ] {
        // A spare that takes 50 requests a second keeps the run going for two minutes.
        let mut job = Job::new(6_000, [out(class, 10_000), Rules::default()]);
        job.backends[1].limits.requests_per_minute = Some(3_000);
        // It has answered before, or it would be given up within seconds.
        job.servers[0] = Server::new(Rules {
            outages: vec![(400..10_000_000, class)],
            ..Rules::default()
        });
        let primary = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        ran.all_answered();
        let after = Duration::from_millis(400);
        let down = primary
            .seen()
            .iter()
            .filter(|seen| seen.at >= after)
            .count();
        let probes = ran.took.as_secs() as usize / 10 + 1;
        // Those in flight when it opened had been sent before anybody knew.
        let in_flight = primary.most_in_flight();
        assert!(
            down <= 20 + in_flight + probes,
            "{down} of {probes} + {in_flight}"
        );
        assert!(down >= probes / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_never_answers_is_given_up_after_its_probes() {
    let mut job = Job::new(2_000, [out(ErrorClass::Server, 10_000), Rules::default()]);
    job.backends[1].limits.requests_per_minute = Some(3_000);
    let primary = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    ran.all_answered();
    assert!(primary.seen().len() <= 16 + 3, "{}", primary.seen().len());
    assert!(ran.seen[0].stopped.is_some());
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_refusals_cost_a_probe_in_ten_seconds_per_backend_and_no_row() {
    for (began, retry_after) in [(0, false), (3_000, false), (3_000, true)] {
        let refusing = |seed| Rules {
            outages: vec![(began..began + 600_000, ErrorClass::Throttled)],
            retry_after,
            seed,
            ..Rules::default()
        };
        let job = Job::new(6_000, [refusing(1), refusing(2)]);
        let servers = job.servers.clone();
        let ran = job.run().await;
        ran.all_answered();
        assert!(ran.took > Duration::from_secs(600));
        for server in servers {
            let refused = server.refusals();
            let in_flight = server.most_in_flight();
            assert!(
                refused <= 61 + in_flight,
                "{refused}, {in_flight} in flight"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_costs_what_is_in_flight_and_one_request() {
    for fallback in [false, true] {
        let spent = Rules {
            outages: vec![(1_000..1_000_000, ErrorClass::Exhausted)],
            ..Rules::default()
        };
        let spare = fallback.then(Rules::default);
        let job = Job::new(5_000, [spent].into_iter().chain(spare));
        let server = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        let after = Duration::from_secs(1);
        let late = server.seen().iter().filter(|seen| seen.at >= after).count();
        assert!(late <= server.most_in_flight() + 1, "{late}");
        let stops = |event: &&Event| matches!(event, Event::BackendStopped { .. });
        assert_eq!(ran.events.iter().filter(stops).count(), 1);
        match fallback {
            true => ran.all_answered(),
            false => {
                assert_eq!(ran.ended, Ended::BackendsDown);
                assert!(ran.with(Status::NotRun) > 1_000);
                assert!(!ran.usable);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_takes_the_whole_account_out_of_the_run() {
    let spent = out(ErrorClass::Exhausted, 10_000);
    let mut job = Job::new(50, [spent, Rules::default(), Rules::default()]);
    for backend in &mut job.backends[..2] {
        backend.account = Some(Arc::from("ours"));
    }
    let servers = job.servers.clone();
    job.run().await.all_answered();
    assert_eq!(servers[1].seen().len(), 0);
    assert_eq!(servers[2].seen().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_for_and_costs_no_row_and_few_requests() {
    for class in [ErrorClass::NotSent, ErrorClass::Server] {
        let rules = Rules {
            outages: vec![(2_000..602_000, class)],
            ..Rules::default()
        };
        let job = Job::new(6_000, [rules]);
        let server = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        ran.all_answered();
        let out = Duration::from_secs(2)..Duration::from_secs(602);
        let knocks = server
            .seen()
            .iter()
            .filter(|seen| out.contains(&seen.at))
            .count();
        assert!(knocks <= 20 + 64 + 62, "{knocks}");
        assert!(ran.took < Duration::from_secs(602 + 30), "{:?}", ran.took);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_end_ends_the_run_and_what_was_not_asked_is_not_run() {
    for class in [
        ErrorClass::NotSent,
        ErrorClass::Server,
        ErrorClass::Throttled,
    ] {
        let rules = Rules {
            outages: vec![(2_000..100_000_000, class)],
            retry_after: false,
            ..Rules::default()
        };
        let ran = Job::new(6_000, [rules]).run().await;
        assert_eq!(ran.ended, Ended::BackendsDown, "{class:?}");
        let minutes = ran.took.as_secs_f64() / 60.0;
        assert!((15.0..16.0).contains(&minutes), "{minutes}");
        assert!(ran.with(Status::NotRun) > 3_000);
        // Those in flight when it began, and those that looked whether it is over.
        assert!(ran.with(Status::Failed) <= 64 + 92);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_never_answered_is_given_up_within_seconds() {
    let ran = Job::new(100, [out(ErrorClass::Server, 60)]).run().await;
    assert_eq!(ran.ended, Ended::BackendsDown);
    assert!(ran.took < Duration::from_secs(20), "{:?}", ran.took);
}

/// What llama.cpp's server says while it loads its model.
fn loading() -> CallError {
    let mut error = CallError::new(ErrorClass::Server, "Loading model");
    error.status = Some(503);
    error.code = Some("unavailable_error".to_owned());
    error
}

#[tokio::test(start_paused = true)]
async fn a_row_that_alone_is_told_of_a_loading_server_uses_up_its_attempts() {
    let loads = |row: u64, _: usize, _: Duration| (row == 0).then(|| (1, Err(loading())));
    let rules = Rules {
        script: Some(Arc::new(loads)),
        ..Rules::default()
    };
    let ran = Job::new(200, [rules]).run().await;
    assert_eq!(ran.with(Status::Failed), 1);
    assert_eq!(ran.with(Status::Answered), 199);
    assert!(ran.attempts() < 199 + 10, "{}", ran.attempts());
}

#[tokio::test(start_paused = true)]
async fn one_of_ten_servers_that_is_loading_does_not_hold_the_others_up() {
    let loads =
        |_: u64, before: usize, _: Duration| (before % 10 == 9).then(|| (1, Err(loading())));
    let rules = Rules {
        script: Some(Arc::new(loads)),
        ..Rules::default()
    };
    let ran = Job::new(1_000, [rules]).run().await;
    ran.all_answered();
    // Its word may be the first that is heard of all of them.
    assert!(ran.seen[0].breaker_opened <= 1);
    assert!(ran.took < Duration::from_secs(30), "{:?}", ran.took);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_still_loading_is_waited_for_however_few_the_rows() {
    let five_minutes = Duration::from_secs(300);
    for rows in [1, 2, 300] {
        let loading =
            move |_: u64, _: usize, at: Duration| (at < five_minutes).then(|| (1, Err(loading())));
        let rules = Rules {
            script: Some(Arc::new(loading)),
            ..Rules::default()
        };
        let job = Job::new(rows, [rules]);
        let server = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        ran.all_answered();
        assert!(
            ran.took < five_minutes + Duration::from_secs(15),
            "{:?}",
            ran.took
        );
        // Those in flight at first, and a look every ten seconds.
        let looks = ran.attempts() - rows as usize;
        assert!(
            looks <= 35 + server.most_in_flight(),
            "{looks} looks for {rows} rows"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_breaker_is_neutral_to_refusals_and_to_rows_that_are_at_fault() {
    let classes = [
        ErrorClass::Throttled,
        ErrorClass::RowFatal,
        ErrorClass::Invalid,
    ];
    for class in classes {
        let ran = Job::new(200, [failing(1, &[(class, 60)]), Rules::default()])
            .run()
            .await;
        assert_eq!(ran.seen[0].breaker_opened, 0, "{class:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn possibly_billed_attempts_are_made_at_most_twice() {
    let job = Job::new(500, [failing(4, &[(ErrorClass::Ambiguous, 30)])]);
    let ran = job.run().await;
    let billed = |outcome: &Outcome| {
        let class = |attempt: &&crate::words::Attempt| attempt.class == Some(ErrorClass::Ambiguous);
        outcome.attempts.iter().filter(class).count()
    };
    assert_eq!(ran.outcomes.iter().map(billed).max(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn rows_out_of_attempts_are_asked_once_more_only_while_that_is_of_use() {
    // Rows that can never be answered: the sweep answers none of them and is not repeated.
    let mut job = Job::new(100, [Rules::default()]);
    job.retry.attempts = 2;
    let poison = Server::new(Rules {
        failures: vec![(ErrorClass::Server, 100)],
        ..Rules::default()
    });
    // The first backend answers its entry, the second fails everything: no sweep where nobody answers.
    job.servers.push(Arc::clone(&poison));
    job.backends.push(backend(1));
    job.entries = vec![vec![0], vec![1]];
    job.rows = 6;
    let ran = job.run().await;
    assert_eq!(
        (ran.with(Status::Answered), ran.with(Status::Failed)),
        (6, 6)
    );
    assert_eq!(poison.seen().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_are_jittered_under_a_ceiling_that_doubles() {
    let seconds = Duration::from_secs;
    let ceilings = [seconds(2), seconds(4), seconds(5), seconds(5)];
    let mut longest = [Duration::ZERO; 4];
    // Every run has the same rows, and each row draws its own waits.
    let mut job = Job::new(3, [failing(1, &[(ErrorClass::Server, 100)])]);
    job.retry.attempts = 5;
    (job.retry.initial, job.retry.max) = (seconds(2), seconds(5));
    job.repeat = 1;
    let ran = job.run().await;
    for row in ["0", "1", "2"] {
        let waits = ran.events.iter().filter_map(|event| match event {
            Event::AttemptFailedWillRetry { row: id, wait, .. } if id == row => Some(*wait),
            _ => None,
        });
        let waits: Vec<Duration> = waits.collect();
        assert_eq!(waits.len(), 4);
        for ((longest, wait), ceiling) in longest.iter_mut().zip(waits).zip(ceilings) {
            assert!(wait <= ceiling, "{wait:?} of {ceiling:?}");
            *longest = wait.max(*longest);
        }
    }
    assert!(
        longest
            .iter()
            .all(|wait| *wait > Duration::from_millis(200)),
        "{longest:?}"
    );
    assert_eq!(ran.with(Status::Failed), 3);
    assert_eq!(ran.attempts(), 15);
}

/// Ends requests so, whatever else the rules say.
fn scripted(
    script: impl Fn(u64, usize, Duration) -> Option<(u64, Result<Option<Allowances>, CallError>)>
    + Send
    + Sync
    + 'static,
) -> Rules {
    Rules {
        script: Some(Arc::new(script)),
        ..Rules::default()
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_always_fail_do_not_take_a_healthy_backend_down() {
    for (rows, every) in [(3_000, 300), (3_000, 50), (20_000, 8)] {
        let poison = scripted(move |row, _, _| {
            let failed = || {
                (
                    50,
                    Err(CallError::new(ErrorClass::Server, "this row again")),
                )
            };
            (row % every == 0).then(failed)
        });
        let ran = Job::new(rows, [poison]).run().await;
        assert_eq!(ran.with(Status::Failed) as u64, rows.div_ceil(every));
        assert_eq!(
            ran.with(Status::Answered) as u64,
            rows - rows.div_ceil(every)
        );
        assert_eq!(ran.ended, Ended::Complete);
        assert!(ran.seen[0].stopped.is_none());
        let least = Duration::from_millis(50) * u32::try_from(rows / 64).unwrap();
        assert!(
            ran.took < least * 5 + Duration::from_secs(60),
            "{every}: {:?}",
            ran.took
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_was_passed_over_is_waited_for_if_the_next_one_has_no_answer() {
    for class in [ErrorClass::Throttled, ErrorClass::Server] {
        for next in [
            ErrorClass::Config,
            ErrorClass::NotSent,
            ErrorClass::RowFatal,
        ] {
            let first = Rules {
                outages: vec![(2_000..42_000, class)],
                retry_after: false,
                ..Rules::default()
            };
            let ran = Job::new(3_000, [first, out(next, 10_000)]).run().await;
            ran.all_answered();
            assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_of_retrying_does_not_make_a_refused_request_somebody_elses() {
    let refusing = scripted(|_, _, _| {
        let mut error = CallError::new(ErrorClass::RowFatal, "no");
        error.should_retry = Some(false);
        Some((1, Err(error)))
    });
    let job = Job::new(3, [refusing, Rules::default()]);
    let spare = Arc::clone(&job.servers[1]);
    job.run().await;
    assert_eq!(spare.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_put_off_keeps_the_wait_that_the_server_asked_for() {
    let wait = Duration::from_secs(20);
    let failing = scripted(move |row, _, now| {
        let failed = || {
            let mut error = CallError::new(ErrorClass::Server, "later");
            error.retry_after = Some(wait);
            (50, Err(error))
        };
        (row % 3 == 0 && now < wait).then(failed)
    });
    let job = Job::new(300, [failing]);
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    ran.all_answered();
    assert!(ran.seen[0].deferred > 20);
    let between = wait / 4..wait;
    let early = server
        .seen()
        .iter()
        .filter(|seen| between.contains(&seen.at))
        .count();
    assert_eq!(early, 0);
}

#[tokio::test(start_paused = true)]
async fn an_absurd_wait_is_a_lack_of_quota_and_no_panic() {
    for wait in [Duration::MAX, Duration::from_secs(20 * 24 * 3_600)] {
        let absurd = scripted(move |_, _, _| {
            let mut error = CallError::new(ErrorClass::Throttled, "never");
            error.retry_after = Some(wait);
            Some((1, Err(error)))
        });
        let mut job = Job::new(100, [absurd, Rules::default()]);
        for backend in &mut job.backends {
            backend.account = Some(Arc::from("ours"));
        }
        let ran = job.run().await;
        assert_eq!(ran.ended, Ended::BackendsDown);
        assert!(ran.took < Duration::from_secs(1), "{:?}", ran.took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_at_the_start_costs_a_small_job_no_row() {
    for seconds in [1, 2, 4, 6, 12] {
        let ran = Job::new(10, [out(ErrorClass::Server, seconds)]).run().await;
        ran.all_answered();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_not_tried_before_the_time_it_names() {
    let until = Duration::from_secs(8);
    let down = scripted(move |_, _, now| {
        let failed = || {
            let mut error = CallError::new(ErrorClass::Server, "maintenance");
            error.retry_after = Some(until - now);
            (50, Err(error))
        };
        (now < until).then(failed)
    });
    let job = Job::new(100, [down]);
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    ran.all_answered();
    let between = Duration::from_secs(1)..until;
    let early = server
        .seen()
        .iter()
        .filter(|seen| between.contains(&seen.at))
        .count();
    assert_eq!(early, 0);
    assert!(ran.took < Duration::from_secs(11), "{:?}", ran.took);
}

#[tokio::test(start_paused = true)]
async fn a_backend_none_of_whose_replies_is_an_answer_is_not_paid_for_every_row() {
    let job = Job::new(
        1_000,
        [failing(1, &[(ErrorClass::Invalid, 100)]), Rules::default()],
    );
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    ran.all_answered();
    assert!(server.seen().len() <= 10 + 16, "{}", server.seen().len());
    let stopped = ran.seen[0].stopped.as_ref().unwrap();
    assert!(
        stopped.contains("none of its first replies is an answer"),
        "{stopped}"
    );
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_put_off_are_taken_up_before_they_fill_the_memory() {
    let put_off = Arc::new(std::sync::Mutex::new((std::collections::HashSet::new(), 0)));
    let shared = Arc::clone(&put_off);
    // Not quite half of the rows fail at first.
    let failing = scripted(move |row, _, _| {
        let (waiting, most) = &mut *shared.lock().unwrap();
        let again = waiting.remove(&row);
        if !again && row % 20 < 9 {
            waiting.insert(row);
            *most = waiting.len().max(*most);
            return Some((50, Err(CallError::new(ErrorClass::Server, "at first"))));
        }
        None
    });
    Job::new(10_000, [failing]).run().await.all_answered();
    let (_, most) = *put_off.lock().unwrap();
    assert!(
        (1_000..=2_200).contains(&most),
        "{most} rows put off at once"
    );
}
