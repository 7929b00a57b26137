//! The budget: whatever happens, no unit more than the cap is spent, and no row is refused that there was money for.

use super::properties::draw;
use super::server::Billing;
use super::*;
use crate::dispatch::{Budget, Interrupt};
use crate::job::{BudgetMode, BudgetPlan};
use crate::words::{Cost, ErrorClass, Price, Rate, Rates, Request, Usd};

fn usd(units: u64) -> Usd {
    Usd::from_units(i128::from(units))
}

/// Whole nano-dollars for a million tokens.
fn rate(nano: u64) -> Rate {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
        .parse()
        .expect("a rate")
}

/// A price of whatever can be charged.
fn price(random: &mut fastrand::Rng) -> Price {
    let some = |random: &mut fastrand::Rng| random.u8(0..3) == 0;
    let rate = |random: &mut fastrand::Rng| rate(random.u64(0..20_000_000_000));
    Price {
        rates: Rates {
            input: rate(random),
            output: rate(random),
            cache_read: some(random).then(|| rate(random)),
            cache_write_5m: some(random).then(|| rate(random)),
            cache_write_1h: None,
        },
        per_request: usd(if some(random) {
            random.u64(0..1_000_000_000)
        } else {
            0
        }),
        per_hour: usd(if random.u8(0..8) == 0 {
            random.u64(0..1_000_000_000_000)
        } else {
            0
        }),
        above: None,
    }
}

/// A job with a budget that is reached more often than not, on servers that write bills.
fn with_money(seed: u64) -> Job {
    let mut job = draw(seed);
    let mut random = fastrand::Rng::with_seed(seed ^ 0xb111);
    job.rows = random.u64(1..20);
    if seed.is_multiple_of(200) {
        job.rows = random.u64(500..1_500);
        job.concurrency = random.usize(100..=1_000);
        job.backends
            .iter_mut()
            .for_each(|backend| backend.limits = Limits::default());
    }
    let servers = job.servers.iter().zip(&mut job.backends);
    job.servers = servers
        .map(|(server, backend)| {
            let max_tokens = random.u32(1..200);
            backend.kind = openai(max_tokens);
            let free = random.u8(0..5) == 0;
            let price = if free {
                Price::FREE
            } else {
                price(&mut random)
            };
            backend.tariff = Some(Tariff::new(price, "a test", None).into());
            server.billing(Billing {
                price,
                input: 104,
                output: u64::from(max_tokens),
                seed: random.u64(..),
            })
        })
        .collect();
    let request = Request::user("a row of forty bytes, that is ten tokens");
    let costs = job
        .backends
        .iter()
        .map(|b| b.most(&request).expect("a bound"));
    let dearest = costs.fold(Usd::ZERO, Usd::max);
    let cap = dearest
        .times(job.rows * u64::from(job.repeat))
        .millionths(random.u64(0..800_000));
    job.budget(BudgetMode::Strict, cap)
}

impl Job {
    fn budget(mut self, mode: BudgetMode, usd: Usd) -> Self {
        self.budget = Some(Budget::new(BudgetPlan { usd, mode }, Usd::ZERO));
        self
    }
}

/// What the runner's own ledger comes to at most.
fn spent(ran: &Ran) -> Usd {
    let attempts = ran.outcomes.iter().flat_map(|outcome| &outcome.attempts);
    attempts.filter_map(|attempt| attempt.cost.most()).sum()
}

async fn keeps_its_budget(seeds: std::ops::Range<u64>) {
    let (count, mut reached) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        let job = with_money(seed);
        let (servers, backends) = (job.servers.clone(), job.backends.clone());
        let budget = Arc::clone(job.budget.as_ref().expect("a budget"));
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5707);
        if random.u8(0..4) == 0 {
            let (stop, abort) = (job.stop.clone(), random.bool());
            let after = Duration::from_millis(random.u64(0..30_000));
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                match abort {
                    true => stop.abort(),
                    false => stop.drain(Interrupt::Interrupted),
                }
            });
        }
        let ran = tokio::time::timeout(Duration::from_secs(24 * 3600), job.run()).await;
        let ran = ran.unwrap_or_else(|_| panic!("seed {seed} does not end"));
        let cap = budget.plan().usd;
        let billed: Usd = servers.iter().map(|server| server.billed()).sum();
        let spent = spent(&ran);
        assert!(billed <= cap, "seed {seed}: billed ${billed} of ${cap}");
        assert!(spent <= cap, "seed {seed}: spent ${spent} of ${cap}");
        assert_eq!(budget.spent(), spent, "seed {seed}");
        let known = |attempt: &crate::words::Attempt| matches!(attempt.cost, Cost::Known(_));
        let attempts = || ran.outcomes.iter().flat_map(|outcome| &outcome.attempts);
        if attempts().all(known)
            && backends
                .iter()
                .all(|b| b.price().unwrap().per_hour == Usd::ZERO)
        {
            assert_eq!(billed, spent, "seed {seed}");
        }
        let request = Request::user("a row of forty bytes, that is ten tokens");
        let costs = backends.iter().map(|b| b.most(&request).expect("a bound"));
        let dearest = costs.fold(Usd::ZERO, Usd::max);
        let skipped = ran.with(Status::SkippedBudget);
        if skipped > 0 {
            reached += 1;
            assert!(budget.is_reached(), "seed {seed}");
            // None was refused that there was money for, now that all is settled.
            assert!(
                spent + dearest > cap,
                "seed {seed}: ${spent} of ${cap} refused ${dearest}"
            );
        }
    }
    assert!(
        reached * 4 > count,
        "{reached} of {count} have reached their cap"
    );
}

// 10,000 schedules, in two parts that run side by side.
#[tokio::test(start_paused = true)]
async fn the_cap_is_never_passed_by_a_unit_whatever_happens() {
    keeps_its_budget(0..5_000).await;
}

#[tokio::test(start_paused = true)]
async fn the_cap_is_never_passed_by_a_unit_whatever_happens_in_other_schedules() {
    keeps_its_budget(5_000..10_000).await;
}

/// One server that charges a dollar for each token of output, of which an answer has ten, and may have a hundred.
fn dear(rows: u64, servers: usize) -> Job {
    let rules = Rules {
        usage: (0, 10),
        ..Rules::default()
    };
    let mut job = Job::new(rows, vec![rules; servers]);
    for backend in &mut job.backends {
        backend.kind = openai(100);
        backend.tariff = Some(Tariff::new(per_token(DOLLAR), "a test", None).into());
    }
    job
}

/// In nano-dollars for a million tokens: a dollar for each.
const DOLLAR: u64 = 1_000_000 * 1_000_000_000;

fn per_token(nano: u64) -> Price {
    Price {
        rates: Rates {
            output: rate(nano),
            ..Rates::FREE
        },
        ..Price::FREE
    }
}

fn dollars(dollars: u64) -> Usd {
    format!("{dollars}").parse().expect("an amount")
}

#[tokio::test(start_paused = true)]
async fn near_the_cap_fewer_requests_are_in_flight_and_nearly_all_of_it_is_spent() {
    let job = dear(1_000, 1).budget(BudgetMode::Strict, dollars(1_000));
    let server = Arc::clone(&job.servers[0]);
    let ran = job.run().await;
    // Ten at once, for each may cost a hundred; then nine, and so on, until there is not enough for one.
    assert_eq!(server.most_in_flight(), 10);
    assert_eq!(ran.with(Status::Answered), 91);
    assert_eq!(ran.with(Status::SkippedBudget), 1_000 - 91);
    assert_eq!(spent(&ran), dollars(910));
    let told = ran
        .events
        .iter()
        .filter(|event| matches!(event, Event::BudgetReached { .. }));
    assert_eq!(told.count(), 1);
    let (kind, error) = ran.outcomes[999].failure().expect("a reason");
    assert_eq!(kind, "budget");
    assert_eq!(
        error,
        "it may cost up to $100.00 on a, and $90.00 of the budget of $1000.00 is left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_row_that_the_first_backend_is_too_dear_for_goes_to_a_cheaper_one() {
    let mut job = dear(30, 2).budget(BudgetMode::Strict, dollars(150));
    job.backends[1].tariff = Some(Tariff::new(per_token(DOLLAR / 100), "a test", None).into());
    let ran = job.run().await;
    ran.all_answered();
    let on = |name: &str| {
        let by = ran.outcomes.iter().filter_map(|outcome| outcome.deciding());
        by.filter(|attempt| &*attempt.backend == name).count()
    };
    // Six at a hundred dollars at most, ten dollars each; then a hundred are not left.
    assert_eq!((on("a"), on("b")), (6, 24));
}

#[tokio::test(start_paused = true)]
async fn what_costs_nothing_is_asked_also_when_the_cap_is_reached() {
    let mut job = dear(30, 1).budget(BudgetMode::Strict, Usd::ZERO);
    job.backends[0].tariff = Some(Tariff::local().into());
    job.run().await.all_answered();
}

#[tokio::test(start_paused = true)]
async fn no_further_attempt_is_made_for_a_row_that_may_have_cost_as_much_as_one_may() {
    // An attempt whose end nobody knows may have cost a hundred dollars.
    let lost = Rules {
        failures: vec![(ErrorClass::Ambiguous, 50)],
        usage: (0, 10),
        ..Rules::default()
    };
    let mut job = dear(200, 1);
    job.servers = vec![Server::new(lost)];
    job.max_cost_per_row = Some(dollars(199));
    let ran = job.run().await;
    let cost = |outcome: &Outcome| -> Usd {
        let costs = outcome
            .attempts
            .iter()
            .filter_map(|attempt| attempt.cost.most());
        costs.sum()
    };
    for outcome in &ran.outcomes {
        assert!(cost(outcome) <= dollars(199), "{outcome:?}");
        assert_eq!(outcome.attempts.len(), 1, "{outcome:?}");
    }
    assert!(ran.with(Status::SkippedBudget) > 50);
    assert_eq!(
        ran.with(Status::SkippedBudget) + ran.with(Status::Answered),
        200
    );
    let skipped = |outcome: &&Outcome| outcome.status == Status::SkippedBudget;
    let (_, error) = ran
        .outcomes
        .iter()
        .find(skipped)
        .unwrap()
        .failure()
        .unwrap();
    assert_eq!(
        error,
        "it may cost up to $100.00 on a, and $99.00 of the $199.00 of `max_cost_per_row` is left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_request_beside_a_slow_one_is_made_only_if_there_is_money_for_both() {
    for (cap, requests) in [(199, 1), (200, 2)] {
        let mut job = dear(1, 1).budget(BudgetMode::Strict, dollars(cap));
        job.hedge_after = Some(Duration::from_millis(10));
        let server = Arc::clone(&job.servers[0]);
        job.run().await.all_answered();
        assert_eq!(server.seen().len(), requests, "${cap}");
        let mut job = dear(1, 1);
        job.max_cost_per_row = Some(dollars(cap));
        job.hedge_after = Some(Duration::from_millis(10));
        let server = Arc::clone(&job.servers[0]);
        job.run().await.all_answered();
        assert_eq!(server.seen().len(), requests, "${cap} a row");
    }
}

#[tokio::test(start_paused = true)]
async fn a_calibrated_budget_learns_what_requests_cost_and_reserves_little_more() {
    let job = dear(1_000, 1).budget(BudgetMode::Calibrated, dollars(2_000));
    let server = Arc::clone(&job.servers[0]);
    let budget = Arc::clone(job.budget.as_ref().unwrap());
    let ran = job.run().await;
    // A strict one would have no more than twenty in flight.
    assert!(server.most_in_flight() > 25, "{}", server.most_in_flight());
    let most = dollars(2_000) + dollars(100).times(64);
    assert!(spent(&ran) <= most);
    assert!(budget.spent() >= dollars(1_980), "${}", budget.spent());
}

#[tokio::test(start_paused = true)]
async fn what_failures_cost_teaches_nothing_of_what_answers_cost() {
    let rules = Rules {
        failures: vec![(ErrorClass::Server, 35)],
        usage: (0, 90),
        ..Rules::default()
    };
    let mut job = dear(400, 1).budget(BudgetMode::Calibrated, dollars(9_980));
    job.servers = vec![Server::new(rules)];
    let budget = Arc::clone(job.budget.as_ref().unwrap());
    job.run().await;
    assert!(budget.spent() <= dollars(9_980), "${}", budget.spent());
    assert!(budget.is_reached());
}

#[tokio::test(start_paused = true)]
async fn a_row_without_money_for_a_further_attempt_is_not_taken_up_again() {
    let rules = Rules {
        failures: vec![(ErrorClass::Server, 60)],
        usage: (0, 100),
        ..Rules::default()
    };
    let mut job = dear(200, 1).budget(BudgetMode::Strict, dollars(5_000));
    job.servers = vec![Server::new(rules)];
    let ran = job.run().await;
    assert_eq!(ran.with(Status::Answered), 50);
    assert_eq!(ran.with(Status::SkippedBudget), 150);
    let sweeps = ran
        .events
        .iter()
        .filter(|event| matches!(event, Event::SweepStarted { .. }));
    assert_eq!(sweeps.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_charges_more_than_it_could_is_told_of_and_believed() {
    let rules = Rules {
        usage: (0, 150),
        ..Rules::default()
    };
    let mut job = dear(1_000, 1).budget(BudgetMode::Strict, dollars(10_000));
    job.servers = vec![Server::new(rules)];
    job.concurrency = 1;
    let ran = job.run().await;
    let told = ran
        .events
        .iter()
        .filter(|event| matches!(event, Event::CostWasHigher { .. }));
    assert_eq!(told.count(), 1);
    // From the first reply on 150 dollars are reserved: 66 times, and the cap holds.
    assert_eq!(ran.with(Status::Answered), 66);
    assert_eq!(spent(&ran), dollars(9_900));
}
