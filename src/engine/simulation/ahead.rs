//! Requests that are noted down before there is a place for them: what the disk takes costs no place, and what is not sent
//! after all leaves nothing behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::dispatch::Interrupt;
use crate::words::{CallError, ErrorClass};

const DISK: Duration = Duration::from_millis(4);

fn answering_after(milliseconds: u64) -> Rules {
    Rules {
        latency: milliseconds..milliseconds + 1,
        ..Rules::default()
    }
}

/// So many rows for these backends, 64 at once over all and so many on the first, with a disk that takes its time.
fn job(rows: u64, rules: impl IntoIterator<Item = Rules>, first: usize) -> Job {
    let mut job = Job::new(rows, rules).concurrency(64);
    job.backends[0].limits.concurrency = Some(first);
    job.disk = DISK;
    job
}

/// Fails unless what was sent is what the ledger has, and never more at once than allowed.
#[track_caller]
fn sent_is_noted(ran: &Ran, servers: &[Arc<Server>], most: usize) {
    let sent: usize = servers.iter().map(|server| server.seen().len()).sum();
    assert_eq!(sent, ran.attempts());
    for server in servers {
        assert!(server.most_in_flight() <= most);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_takes_is_not_lost_in_each_place() {
    let job = job(6_400, [answering_after(50)], 64);
    let servers = job.servers.clone();
    let ran = job.run().await;
    ran.all_answered();
    sent_is_noted(&ran, &servers, 64);
    let ideal = Duration::from_millis(50 * 6_400 / 64);
    // It would be 13 per cent more.
    assert!(ran.took <= ideal * 107 / 100, "{:?} of {ideal:?}", ran.took);
}

#[tokio::test(start_paused = true)]
async fn what_was_ready_when_the_run_was_stopped_is_as_if_it_had_not_been_asked() {
    let job = job(1_000, [answering_after(1_000)], 64);
    let (servers, stop) = (job.servers.clone(), job.stop.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        stop.drain(Interrupt::Interrupted);
    });
    let ran = job.run().await;
    sent_is_noted(&ran, &servers, 64);
    assert!(ran.with(Status::Answered) >= 64);
    let asked = ran.with(Status::Answered) + ran.with(Status::NotRun);
    assert_eq!(asked, 1_000, "nobody failed");
}

#[tokio::test(start_paused = true)]
async fn what_was_ready_for_a_backend_that_is_stopped_goes_to_the_next() {
    let wrong_key = Rules {
        failures: vec![(ErrorClass::Config, 100)],
        ..answering_after(100)
    };
    let job = job(300, [wrong_key, answering_after(50)], 32);
    let servers = job.servers.clone();
    let ran = job.run().await;
    ran.all_answered();
    sent_is_noted(&ran, &servers, 64);
    let refused = servers[0].seen().len();
    assert!(refused <= 32, "{refused} were sent to it");
}

#[tokio::test(start_paused = true)]
async fn all_backends_together_have_no_more_places_than_the_job() {
    let rules = || answering_after(200);
    let mut job = Job::new(2_000, [rules(), rules()]).concurrency(64);
    job.entries = vec![vec![0], vec![1]];
    job.disk = DISK;
    let servers = job.servers.clone();
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, watched) = (Arc::clone(&most), servers.clone());
    let watch = tokio::spawn(async move {
        loop {
            let in_flight = watched.iter().map(|server| server.in_flight()).sum();
            seen.fetch_max(in_flight, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let ran = job.run().await;
    watch.abort();
    ran.all_answered();
    sent_is_noted(&ran, &servers, 64);
    assert_eq!(most.load(Ordering::Relaxed), 64);
}

#[tokio::test(start_paused = true)]
async fn the_time_after_which_a_second_request_is_made_counts_from_when_the_first_can_be_sent() {
    let mut job = job(640, [answering_after(100)], 32);
    job.hedge_after = Some(Duration::from_millis(140));
    let servers = job.servers.clone();
    let ran = job.run().await;
    ran.all_answered();
    sent_is_noted(&ran, &servers, 64);
    assert_eq!(ran.attempts(), 640);
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_when_the_server_begins_to_refuse_waits_until_it_takes_requests_again() {
    let wait = Duration::from_secs(5);
    let refuses = move |_: u64, before: usize, _: Duration| {
        let error = CallError {
            retry_after: Some(wait),
            ..CallError::new(ErrorClass::Throttled, "too many")
        };
        (before == 300).then_some((10, Err(error)))
    };
    let rules = Rules {
        latency: 400..600,
        script: Some(Arc::new(refuses)),
        ..Rules::default()
    };
    let job = job(1_000, [rules], 64);
    let servers = job.servers.clone();
    let ran = job.run().await;
    ran.all_answered();
    sent_is_noted(&ran, &servers, 64);
    let seen = servers[0].seen();
    let refused = seen[300].at + Duration::from_millis(10);
    let during = seen
        .iter()
        .filter(|seen| seen.at > refused && seen.at < refused + wait);
    assert_eq!(during.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_long_to_answer_does_not_keep_what_is_ready_waiting() {
    let mut job = Job::new(64, [answering_after(60_000)]).concurrency(64);
    job.disk = DISK;
    let ran = job.run().await;
    ran.all_answered();
    assert!(ran.took < Duration::from_secs(70), "{:?}", ran.took);
}
