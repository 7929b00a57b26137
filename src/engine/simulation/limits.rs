//! Limits: kept to, learned, and used to the full.

use super::*;
use crate::job::{AnthropicApi, LlamaCppApi, VllmApi};
use crate::words::{Allowance, Allowances, CallError, ErrorClass};

const MINUTE: Duration = Duration::from_secs(60);
/// What 3,000 rows take at 6,000 a minute, of which 100 may be made at once.
const IDEAL: Duration = Duration::from_secs(29);

fn per_minute(requests: u32) -> Limits {
    Limits {
        requests_per_minute: Some(requests),
        ..Limits::default()
    }
}

fn tokens_per_minute(tokens: u64) -> Limits {
    Limits {
        tokens_per_minute: Some(tokens),
        ..Limits::default()
    }
}

/// Enforces 6,000 requests a minute with a burst of 100.
fn enforced(seed: u64) -> Rules {
    Rules {
        requests: Some((6_000, 100)),
        seed,
        ..Rules::default()
    }
}

/// Enforces 120,000 tokens a minute with a burst of 2,000, which is the same for requests of 20 tokens.
fn enforced_tokens(seed: u64, counts: u64) -> Rules {
    Rules {
        tokens: Some((counts * 6_000, counts * 100)),
        counts,
        seed,
        ..Rules::default()
    }
}

#[track_caller]
fn within(ran: &Ran, server: &Server, percent: u32, refusals: usize) {
    ran.all_answered();
    let most = IDEAL * (100 + percent) / 100;
    assert!(
        ran.took <= most,
        "{:?} of {most:?}: {:#?}",
        ran.took,
        ran.seen
    );
    let refused = server.refusals();
    assert!(refused <= refusals, "{refused} refused: {:#?}", ran.seen);
}

#[tokio::test(start_paused = true)]
async fn a_limit_in_the_job_is_used_to_the_full_with_hardly_a_refusal() {
    for seed in 0..3 {
        let job = Job::new(3_000, [enforced(seed)]).limits(per_minute(6_000));
        let server = Arc::clone(&job.servers[0]);
        within(&job.run().await, &server, 3, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_nobody_tells_is_learned_from_the_servers_headers() {
    for seed in 0..3 {
        let mut rules = enforced(seed);
        rules.tells = true;
        let job = Job::new(3_000, [rules]);
        let server = Arc::clone(&job.servers[0]);
        within(&job.run().await, &server, 10, 60);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_not_even_the_server_tells_is_learned_from_its_refusals() {
    for seed in 0..3 {
        for (retry_after, refusal) in [(true, 1), (true, 50), (false, 1), (false, 50)] {
            let mut rules = enforced(seed);
            (rules.retry_after, rules.refusal) = (retry_after, refusal);
            let job = Job::new(3_000, [rules]);
            let server = Arc::clone(&job.servers[0]);
            let ran = job.run().await;
            within(&ran, &server, 10, 60);
            let learned = ran.seen[0].limits.learned_requests_per_minute.unwrap();
            assert!((5_400..6_600).contains(&learned), "{learned}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_used_to_the_full_whatever_the_server_counts() {
    // The output cap in advance, as OpenAI does, or no more than what is used.
    for (counts, max_tokens, usage) in [
        (20, 10, (10, 10)),
        (20, 100, (10, 10)),
        (110, 100, (10, 100)),
    ] {
        for (tells, in_job) in [(false, true), (true, true), (true, false), (false, false)] {
            let mut rules = enforced_tokens(3, counts);
            (rules.tells, rules.usage) = (tells, usage);
            let limits = match in_job {
                true => tokens_per_minute(counts * 6_000),
                false => Limits::default(),
            };
            let job = Job::new(3_000, [rules]).openai(max_tokens).limits(limits);
            let server = Arc::clone(&job.servers[0]);
            let (percent, refusals) = if in_job { (3, 3) } else { (10, 60) };
            within(&job.run().await, &server, percent, refusals);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_counts_the_output_cap_costs_few_refusals() {
    let mut rules = enforced_tokens(3, 110);
    rules.tells = true;
    let job = Job::new(3_000, [rules])
        .openai(100)
        .limits(tokens_per_minute(110 * 6_000));
    let server = Arc::clone(&job.servers[0]);
    // Answers use a tenth of the cap: what they leave over is not given back by this server.
    let ran = job.run().await;
    within(&ran, &server, 10, 60);
}

#[tokio::test(start_paused = true)]
async fn no_minute_ever_holds_more_than_the_limit_and_the_declared_burst() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limit = random.u32(1..600);
        let burst = random.bool().then(|| random.u32(1..=limit));
        let rules = Rules {
            latency: 1..random.u64(2..3_000),
            failures: vec![(ErrorClass::Server, 10), (ErrorClass::Throttled, 1)],
            retry_after: false,
            seed,
            ..Rules::default()
        };
        let limits = Limits {
            burst,
            ..per_minute(limit)
        };
        let rows = u64::from(limit) * 2 + 10;
        let job = Job::new(rows, [rules]).limits(limits).concurrency(200);
        let server = Arc::clone(&job.servers[0]);
        job.run().await;
        let most = server.most_in(MINUTE);
        let allowed = (limit + burst.unwrap_or(0)) as usize;
        assert!(most <= allowed, "{most} in a minute of {limit} + {burst:?}");
        if burst.is_none() {
            let second = server.most_in(Duration::from_secs(1));
            let allowed = (limit / 60 + limit / 120 + 2) as usize;
            assert!(
                second <= allowed,
                "{second} in a second of {limit} a minute"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn backends_of_one_account_share_one_limiter() {
    let rules = |seed| Rules {
        seed,
        ..Rules::default()
    };
    let mut job = Job::new(600, [rules(1), rules(2)]).limits(per_minute(300));
    job.backends[1].limits = per_minute(300);
    for backend in &mut job.backends {
        backend.account = Some(Arc::from("ours"));
    }
    job.entries = vec![vec![0], vec![1]];
    let (first, second) = (Arc::clone(&job.servers[0]), Arc::clone(&job.servers[1]));
    let ran = job.run().await;
    ran.all_answered();
    assert_eq!((first.seen().len(), second.seen().len()), (600, 600));
    assert!(ran.took > MINUTE * 39 / 10, "{:?}", ran.took);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_larger_than_the_limit_is_not_sent_and_goes_elsewhere() {
    let mut job = Job::new(5, [Rules::default(), Rules::default()])
        .openai(100)
        .limits(tokens_per_minute(50));
    let (first, second) = (Arc::clone(&job.servers[0]), Arc::clone(&job.servers[1]));
    job.entries = vec![vec![0], vec![0, 1]];
    let ran = job.run().await;
    assert_eq!((first.seen().len(), second.seen().len()), (0, 5));
    assert_eq!(
        (ran.with(Status::Failed), ran.with(Status::Answered)),
        (5, 5)
    );
    let (class, error) = ran.outcomes[0].failure().unwrap();
    assert!(
        class == "row_fatal" && error.contains("limit of 50"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lowered_below_a_request_fails_it_instead_of_waiting_for_ever() {
    let rules = Rules {
        tokens: Some((60, 60)),
        tells: true,
        ..Rules::default()
    };
    let ran = Job::new(30, [rules]).openai(100).concurrency(2).run().await;
    assert!(ran.with(Status::Failed) >= 28);
    assert!(ran.took < MINUTE);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_grows_only_while_it_is_used_and_never_over_the_ceiling() {
    let slow = || Rules {
        latency: 9_000..11_000,
        ..Rules::default()
    };
    let job = Job::new(600, [slow()]).concurrency(200);
    let server = Arc::clone(&job.servers[0]);
    job.run().await.all_answered();
    assert_eq!(server.most_in_flight(), 200);
    let limits = Limits {
        concurrency: Some(7),
        ..Limits::default()
    };
    let job = Job::new(100, [slow()]).limits(limits);
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    assert_eq!(server.most_in_flight(), 7);
    assert_eq!(ran.seen[0].limits.concurrency, 7);
    // A pace of two a second needs no more than the start.
    let job = Job::new(200, [Rules::default()]).limits(per_minute(120));
    let ran = job.run().await;
    assert_eq!(ran.seen[0].limits.concurrency, 16);
}

#[tokio::test(start_paused = true)]
async fn an_episode_of_refusals_cuts_once_and_failures_do_not_cut() {
    let outage = |class| Rules {
        outages: vec![(1_000..1_400, class)],
        retry_after: false,
        ..Rules::default()
    };
    let cuts = |class| async move {
        let ran = Job::new(3_000, [outage(class)]).run().await;
        ran.all_answered();
        ran.seen[0].limits.concurrency_cuts
    };
    assert_eq!(cuts(ErrorClass::Throttled).await, 1);
    assert_eq!(cuts(ErrorClass::Server).await, 0);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_have_nothing_to_do_with_the_pace_do_not_strangle_it() {
    for percent in [1, 5, 12] {
        let rules = Rules {
            failures: vec![(ErrorClass::Throttled, percent)],
            retry_after: false,
            ..Rules::default()
        };
        let ran = Job::new(3_000, [rules]).run().await;
        ran.all_answered();
        // The pauses cost what they cost; the pace adds little to that.
        let paused = ran.seen[0].limits.paused;
        let most = paused + Duration::from_secs(240);
        assert!(
            ran.took < most,
            "{percent} %: {:?}, {:#?}",
            ran.took,
            ran.seen
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_slots_of_a_llama_server_are_what_is_in_flight() {
    let slots = |slots| Rules {
        slots,
        ..Rules::default()
    };
    let mut job = Job::new(200, [slots(Some(3))]);
    job.backends[0].kind = BackendKind::LlamaCpp(LlamaCppApi::Chat, server(10));
    let server = Arc::clone(&job.servers[0]);
    job.run().await.all_answered();
    assert_eq!((server.most_in_flight(), server.asked_for_load()), (3, 1));
    // One that does not say is asked once, and found out like any other; one row asks nothing.
    for (rows, asked) in [(200, 1), (1, 0)] {
        let mut job = Job::new(rows, [slots(None)]);
        job.backends[0].kind = BackendKind::LlamaCpp(LlamaCppApi::Chat, super::server(10));
        let server = Arc::clone(&job.servers[0]);
        job.run().await.all_answered();
        assert_eq!(server.asked_for_load(), asked);
    }
    // What the job says is not asked for.
    let mut job = Job::new(200, [slots(Some(3))]);
    job.backends[0].kind = BackendKind::LlamaCpp(LlamaCppApi::Chat, super::server(10));
    job.backends[0].limits.concurrency = Some(5);
    let server = Arc::clone(&job.servers[0]);
    job.run().await.all_answered();
    assert_eq!((server.most_in_flight(), server.asked_for_load()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_the_queue_of_a_vllm_server_is_taken_back() {
    let rules = Rules {
        slots: Some(20),
        latency: 900..1_100,
        ..Rules::default()
    };
    let mut job = Job::new(3_000, [rules]);
    job.backends[0].kind = BackendKind::Vllm(VllmApi::Chat, super::server(10));
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    ran.all_answered();
    assert!(server.asked_for_load() > 5);
    let allowed = ran.seen[0].limits.concurrency;
    assert!((10..=40).contains(&allowed), "{allowed}");
}

#[tokio::test(start_paused = true)]
async fn a_stray_refusal_does_not_keep_a_slow_server_from_being_used() {
    let rules = |stray| Rules {
        latency: 9_500..10_500,
        script: Some(Arc::new(move |_, nth, _| {
            let refused = || (1, Err(CallError::new(ErrorClass::Throttled, "stray")));
            (nth == stray).then(refused)
        })),
        ..Rules::default()
    };
    let took = |stray| async move {
        let ran = Job::new(2_000, [rules(stray)]).concurrency(200).run().await;
        ran.all_answered();
        ran.took
    };
    let ideal = took(usize::MAX).await;
    for stray in [5, 60, 500] {
        let took = took(stray).await;
        assert!(took < ideal * 3 / 2, "{took:?} of {ideal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_may_be_at_most_is_no_reason_to_refuse_it_where_the_cap_is_not_counted() {
    let rules = Rules {
        script: Some(Arc::new(|_, nth, _| {
            let output_tokens = Allowance {
                limit: Some(8_000),
                ..Allowance::default()
            };
            let told = Allowances {
                output_tokens,
                ..Allowances::default()
            };
            Some((
                50,
                match nth {
                    0 => {
                        let mut error = CallError::new(ErrorClass::Throttled, "overloaded");
                        error.allowances = Some(Box::new(told));
                        Err(error)
                    }
                    _ => Ok(Some(told)),
                },
            ))
        })),
        ..Rules::default()
    };
    let mut job = Job::new(100, [rules]);
    job.backends[0].kind = BackendKind::Anthropic(AnthropicApi::Messages, server(16_000));
    job.run().await.all_answered();
}

#[tokio::test(start_paused = true)]
async fn tokens_never_exceed_their_limit_in_any_minute_either() {
    for limit in [6_000, 14_400] {
        let job = Job::new(2_000, [Rules::default()])
            .openai(10)
            .limits(tokens_per_minute(limit));
        let server = Arc::clone(&job.servers[0]);
        job.run().await.all_answered();
        // Each request is counted with the 20 tokens that it uses.
        let most = server.most_in(MINUTE) as u64 * 20;
        assert!(most <= limit, "{most} of {limit}");
    }
    let job = Job::new(1_500, [Rules::default()]).limits(per_minute(600));
    let server = Arc::clone(&job.servers[0]);
    job.run().await.all_answered();
    assert!(server.most_in(MINUTE) <= 600);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_slows_the_run_down_and_never_makes_a_burst() {
    let milliseconds = [1, 50, 900, 5_000, 30_000, 90_000];
    for (seed, disk) in (0..).zip(milliseconds.map(Duration::from_millis)) {
        let rules = Rules {
            latency: 1..2_000,
            seed,
            ..Rules::default()
        };
        let mut job = Job::new(300, [rules]).concurrency(100);
        job = job.limits(per_minute(600)).openai(100);
        job.backends[0].limits.tokens_per_minute = Some(100_000);
        job.disk = disk;
        let server = Arc::clone(&job.servers[0]);
        let ran = job.run().await;
        ran.all_answered();
        assert_eq!(ran.attempts(), 300);
        let most = server.most_in(MINUTE);
        assert!(most <= 600, "{most} in a minute, {disk:?} a commit");
        let second = server.most_in(Duration::from_secs(1));
        assert!(
            second <= 10 + 5 + 2,
            "{second} in a second, {disk:?} a commit"
        );
        assert!(server.most_in_flight() <= 100);
    }
}
