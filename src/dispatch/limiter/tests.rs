//! Permits that are not used, and the breaker's patience: what whole runs show too seldom.

use super::*;
use crate::dispatch::breaker::{Ending, Turn};

const OUTAGE: Duration = Duration::from_secs(900);

fn limiter(limits: Limits) -> Arc<Limiter> {
    Arc::new(Limiter::new(&limits, 64, RetryPolicy::default(), 1))
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_was_not_used_gives_back_its_tokens() {
    let limiter = limiter(Limits {
        tokens_per_minute: Some(6_000),
        ..Limits::default()
    });
    let breaker = Breaker::new(OUTAGE);
    let tokens = Tokens {
        input: 50,
        ..Tokens::default()
    };
    let began = Instant::now();
    for _ in 0..1_000 {
        let admitted = limiter.acquire(tokens, Patience::default(), &breaker);
        drop(admitted.await.unwrap());
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    // One that was sent keeps them.
    for _ in 0..2 {
        let admitted = limiter.acquire(tokens, Patience::default(), &breaker);
        admitted.await.unwrap().0.sent();
    }
    assert!(began.elapsed() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_dropped_lets_the_next_one_in() {
    let limiter = limiter(Limits {
        concurrency: Some(1),
        ..Limits::default()
    });
    let breaker = Arc::new(Breaker::new(OUTAGE));
    for sent in [false, true] {
        let mut held = limiter
            .acquire(Tokens::default(), Patience::default(), &breaker)
            .await
            .unwrap()
            .0;
        let waiting = {
            let (limiter, breaker) = (Arc::clone(&limiter), Arc::clone(&breaker));
            tokio::spawn(async move {
                let admitted = limiter.acquire(Tokens::default(), Patience::default(), &breaker);
                admitted.await.is_ok()
            })
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waiting.is_finished());
        if sent {
            held.sent();
        }
        drop(held);
        let admitted = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        assert!(admitted.expect("it is woken").unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_asked_by_few_at_first_and_by_a_quarter_of_what_the_job_says_it_stands() {
    for (declared, first) in [
        (None, 16),
        (Some(8), 8),
        (Some(40), 16),
        (Some(400), 100),
        (Some(4_000), 128),
    ] {
        let limits = Limits {
            concurrency: declared,
            ..Limits::default()
        };
        let limiter = Limiter::new(&limits, 512, RetryPolicy::default(), 1);
        assert_eq!(limiter.now().0, first, "{declared:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_tried_after_a_second_then_four_then_every_ten() {
    let breaker = Breaker::new(OUTAGE);
    let ending = |class, probe| Ending {
        class,
        probe,
        loading: false,
        elsewhere: true,
        answers_then: None,
        wait: None,
    };
    let failure = Some(ErrorClass::Server);
    breaker.observe(ending(None, false));
    for _ in 0..4 {
        assert_eq!(breaker.observe(ending(failure, false)), Turn::None);
    }
    let opened = |seconds| Turn::Opened(Duration::from_secs(seconds));
    assert_eq!(breaker.observe(ending(failure, false)), opened(1));
    for seconds in [4, 10, 10] {
        breaker.admits().await;
        let probe = breaker.probe().expect("it is open");
        assert!(breaker.check().is_err(), "one at a time");
        assert_eq!(breaker.observe(ending(failure, true)), opened(seconds));
        drop(probe);
    }
    breaker.admits().await;
    let probe = breaker.probe().expect("it is open");
    assert_eq!(breaker.observe(ending(None, true)), Turn::Closed);
    drop(probe);
    // It flaps: what opens again before it has answered to speak of stays open as long as before.
    for _ in 0..4 {
        breaker.observe(ending(failure, false));
    }
    assert_eq!(breaker.observe(ending(failure, false)), opened(10));
}
