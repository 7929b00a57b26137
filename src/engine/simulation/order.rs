//! Who is asked, in which order, and when the next one is.

use super::*;
use crate::dispatch::Interrupt;
use crate::words::{AttemptKind, CallError, ErrorClass, FinishReason};

fn kinds(outcome: &Outcome) -> Vec<(&str, AttemptKind)> {
    let kinds = outcome.attempts.iter().map(|a| (&*a.backend, a.kind));
    kinds.collect()
}

fn slow(milliseconds: u64) -> Rules {
    Rules {
        latency: milliseconds..milliseconds + 1,
        ..Rules::default()
    }
}

#[tokio::test(start_paused = true)]
async fn every_row_is_asked_of_every_entry_as_often_as_the_job_says() {
    let mut job = Job::new(20, [Rules::default(), Rules::default(), slow(10)]);
    job.entries = vec![vec![0], vec![1, 2]];
    job.repeat = 3;
    let servers = job.servers.clone();
    let ran = job.run().await;
    assert_eq!(ran.outcomes.len(), 20 * 2 * 3);
    ran.all_answered();
    let counts: Vec<usize> = servers.iter().map(|server| server.seen().len()).collect();
    assert_eq!(counts, [60, 60, 0]);
    let item = &ran.outcomes[4].item;
    assert_eq!((item.row.index, item.entry, item.repeat), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_fallback_after_goes_to_the_next_backend() {
    let mut job = Job::new(100, [Rules::default(), Rules::default()]);
    job.backends[0].limits.requests_per_minute = Some(60);
    let patient = Job {
        servers: job.servers.clone(),
        backends: job.backends.clone(),
        ..Job::new(100, [])
    };
    job.fallback.after = Some(Duration::from_secs(3));
    let ran = job.run().await;
    ran.all_answered();
    assert!(ran.took < Duration::from_secs(30), "{:?}", ran.took);
    let on_b = |ran: &Ran| {
        let b = |outcome: &&Outcome| &*outcome.deciding().unwrap().backend == "b";
        ran.outcomes.iter().filter(b).count()
    };
    assert!(on_b(&ran) > 60, "{}", on_b(&ran));
    // Without it, limits are waited for.
    let patient = Job {
        entries: vec![vec![0, 1]],
        ..patient
    };
    let ran = patient.run().await;
    assert_eq!(on_b(&ran), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_job_does_not_want_is_asked_of_the_next_backend_and_kept_if_that_has_none()
 {
    let cut = Rules {
        finish: FinishReason::Length,
        ..Rules::default()
    };
    let on = |next: Rules| async {
        let mut job = Job::new(3, [cut.clone(), next]);
        job.fallback.on = vec![Status::Truncated];
        job.run().await
    };
    let ran = on(Rules::default()).await;
    ran.all_answered();
    let expected = [("a", AttemptKind::First), ("b", AttemptKind::Fallback)];
    assert_eq!(kinds(&ran.outcomes[0]), expected);
    let refusing = Rules {
        failures: vec![(ErrorClass::RowFatal, 100)],
        ..Rules::default()
    };
    let ran = on(refusing).await;
    assert_eq!(ran.with(Status::Truncated), 3);
    assert_eq!(&*ran.outcomes[0].deciding().unwrap().backend, "a");
    // The last one's answer is taken as it is.
    let ran = on(cut.clone()).await;
    assert_eq!(&*ran.outcomes[0].deciding().unwrap().backend, "b");
    assert_eq!(ran.with(Status::Truncated), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_asked_of_others_only_if_the_job_says_so() {
    let refusing = Rules {
        failures: vec![(ErrorClass::RowFatal, 100)],
        ..Rules::default()
    };
    for on_row_fatal in [false, true] {
        let mut job = Job::new(3, [refusing.clone(), Rules::default()]);
        job.fallback.on_row_fatal = on_row_fatal;
        let spare = Arc::clone(&job.servers[1]);
        job.run().await;
        assert_eq!(spare.seen().len(), if on_row_fatal { 3 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_gets_a_second_one_beside_it_and_both_are_in_the_ledger() {
    let mut won = [0, 0];
    for seed in 0..20 {
        let sometimes_slow = Rules {
            latency: 100..10_000,
            seed,
            ..Rules::default()
        };
        let mut job = Job::new(10, [sometimes_slow]);
        job.hedge_after = Some(Duration::from_secs(1));
        let server = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        ran.all_answered();
        assert_eq!(server.seen().len(), ran.attempts());
        assert_eq!(server.in_flight(), 0);
        for outcome in ran.outcomes.iter().filter(|o| o.attempts.len() == 2) {
            assert_eq!(outcome.attempts[0].kind, AttemptKind::First);
            assert_eq!(outcome.attempts[1].kind, AttemptKind::Hedge);
            let winner = outcome.deciding().unwrap();
            assert_eq!(winner.class, None);
            let loser = outcome.attempts.iter().find(|a| !std::ptr::eq(*a, winner));
            assert_eq!(loser.unwrap().class, Some(ErrorClass::Cancelled));
            won[usize::from(winner.kind == AttemptKind::Hedge)] += 1;
        }
    }
    assert!(won[0] > 10 && won[1] > 10, "{won:?}");
}

#[tokio::test(start_paused = true)]
async fn two_answers_at_the_same_moment_are_both_paid_and_one_is_used() {
    let mut job = Job::new(1, [slow(2_000)]);
    // The second one is sent when the first one has as long to go as the second one takes.
    job.servers[0] = Server::new(Rules {
        latency: 1_000..1_001,
        ..Rules::default()
    });
    job.hedge_after = Some(Duration::from_millis(1_000));
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    ran.all_answered();
    assert_eq!(server.seen().len(), ran.attempts());
    let paid = ran.outcomes[0]
        .attempts
        .iter()
        .filter(|a| a.class.is_none());
    assert_eq!(paid.count() as u64, server.answered());
}

#[tokio::test(start_paused = true)]
async fn no_second_request_is_made_after_a_stop_or_to_a_backend_that_is_out() {
    let mut job = Job::new(100, [slow(10_000)]);
    job.hedge_after = Some(Duration::from_secs(3));
    let (server, stop) = (Arc::clone(&job.servers[0]), job.stop.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.drain(Interrupt::Interrupted);
    });
    job.run().await;
    assert_eq!(server.seen().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn fallback_after_bounds_the_wait_that_a_failing_server_asks_for() {
    let rules = Rules {
        script: Some(Arc::new(|_, _, _| {
            let mut error = CallError::new(ErrorClass::Server, "later");
            error.retry_after = Some(Duration::from_secs(25));
            Some((50, Err(error)))
        })),
        ..Rules::default()
    };
    let mut job = Job::new(1, [rules, Rules::default()]);
    job.fallback.after = Some(Duration::from_secs(2));
    let ran = job.run().await;
    ran.all_answered();
    assert!(ran.took < Duration::from_secs(3), "{:?}", ran.took);
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_gets_its_second_one_as_soon_as_there_is_room() {
    let stragglers = Rules {
        script: Some(Arc::new(|_, nth, _| {
            let takes = if nth % 6 == 3 && nth < 24 {
                20_000
            } else {
                300
            };
            Some((takes, Ok(None)))
        })),
        ..Rules::default()
    };
    let mut job = Job::new(30, [stragglers]);
    job.backends[0].limits.concurrency = Some(8);
    job.hedge_after = Some(Duration::from_secs(1));
    let ran = job.run().await;
    ran.all_answered();
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[tokio::test(start_paused = true)]
async fn second_requests_are_retries_and_share_their_bound() {
    let mut job = Job::new(500, [slow(30_000)]).concurrency(1_000);
    job.hedge_after = Some(Duration::from_secs(8));
    let ran = job.run().await;
    ran.all_answered();
    let kinds = ran.outcomes.iter().flat_map(|outcome| &outcome.attempts);
    let hedges = kinds.filter(|a| a.kind == AttemptKind::Hedge).count();
    assert!((20..=60).contains(&hedges), "{hedges}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_left_alone_gets_no_second_requests_either() {
    let failing = Rules {
        script: Some(Arc::new(|_, nth, now| {
            let failed = || (50, Err(CallError::new(ErrorClass::Server, "down")));
            let slow = || (20_000, Ok(None));
            match nth {
                0..10 => Some(slow()),
                _ => (now < Duration::from_secs(30)).then(failed),
            }
        })),
        ..Rules::default()
    };
    let mut job = Job::new(100, [failing]);
    job.hedge_after = Some(Duration::from_secs(3));
    let server = Arc::clone(&job.servers[0]);
    job.run().await;
    // Nothing but probes, though ten requests take longer than three seconds.
    let left_alone = Duration::from_millis(2_900)..Duration::from_secs(14);
    let sent = server
        .seen()
        .iter()
        .filter(|seen| left_alone.contains(&seen.at))
        .count();
    assert!(sent <= 2, "{sent}");
}
