//! A million attempts, charged as they are in a run: every total of the report is their sum, to the last unit.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::job::{BackendKind, Limits};
use crate::output::Report;
use crate::words::{
    Above, Answer, Attempt, AttemptKind, Benefit, Columns, Digest, Item, Marks, Outcome, Price,
    Rate, Rates, ResultLine, Row, Status, Tariff,
};

const ATTEMPTS: u64 = 1_000_000;

/// Up to a thousand dollars a million tokens, down to the last of nine places.
fn rate(random: &mut Rng) -> Rate {
    let nanos = random.u64(0..1_000_000_000_000) >> random.u32(0..40);
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.parse().expect("nine places")
}

fn rates(random: &mut Rng) -> Rates {
    Rates {
        input: rate(random),
        output: rate(random),
        cache_read: random.bool().then(|| rate(random)),
        cache_write_5m: random.bool().then(|| rate(random)),
        cache_write_1h: random.bool().then(|| rate(random)),
    }
}

/// Of every sort: none, free, by token, in steps, by the request, by the hour, all of it together.
fn price(sort: u32, random: &mut Rng) -> Option<Price> {
    let (tokens, steps) = (sort & 1 != 0, sort & 2 != 0);
    let price = Price {
        rates: if tokens { rates(random) } else { Rates::FREE },
        above: steps.then(|| Above {
            tokens: random.u64(0..2_000),
            rates: rates(random),
        }),
        per_request: Usd::from_units(i128::from(sort >> 2 & 1) * random.i128(0..1 << 60)),
        per_hour: Usd::from_units(i128::from(sort >> 3 & 1) * random.i128(0..1 << 70)),
    };
    (sort < 16).then_some(price)
}

fn backends(random: &mut Rng) -> Vec<Backend> {
    let backend = |sort: u32| {
        let tariff = price(sort, random).map(|price| Arc::new(Tariff::new(price, "a test", None)));
        Backend {
            name: format!("backend {sort}").into(),
            kind: BackendKind::Custom,
            timeout: Some(Duration::from_secs(60)),
            limits: Limits::default(),
            tariff,
            batch: None,
            account: None,
        }
    };
    (0..18).map(backend).collect()
}

/// What a server might report: nothing, parts, all of it, nonsense, more than there is.
fn usage(random: &mut Rng) -> Option<Usage> {
    let most = [10, 3_000, 1 << 40][random.usize(0..3)];
    let some = |random: &mut Rng, of: u32| (random.u32(0..of) > 0).then(|| random.u64(0..most));
    let rarely = |random: &mut Rng| some(random, 4).filter(|_| random.u32(0..3) == 0);
    let usage = Usage {
        input_tokens: some(random, 20),
        output_tokens: some(random, 20),
        cache_read_input_tokens: rarely(random),
        cache_write_5m_input_tokens: rarely(random),
        cache_write_1h_input_tokens: rarely(random),
        reasoning_output_tokens: rarely(random),
        audio_input_tokens: rarely(random),
        ..Usage::default()
    };
    let total = rarely(random);
    usage.checked(total).filter(|_| random.u32(0..10) > 0)
}

/// One attempt, by way of the function that charges it in a run.
fn attempt(number: u32, backend: &Backend, request: &Request, random: &mut Rng) -> Attempt {
    let kind = AttemptKind::ALL[random.usize(0..AttemptKind::ALL.len())];
    let line = Attempt {
        model: (random.u32(0..9) > 0).then(|| format!("model {}", random.u32(0..7))),
        ..Attempt::new(number, Arc::clone(&backend.name), kind, Digest::default())
    };
    if !kind.is_request() {
        return line;
    }
    let hours = backend
        .price()
        .is_some_and(|price| price.per_hour != Usd::ZERO);
    let time = hours.then(|| Duration::from_micros(random.u64(0..100_000_000)));
    let class = random
        .bool()
        .then(|| ErrorClass::ALL[random.usize(0..ErrorClass::ALL.len())]);
    let used = usage(random);
    // A reply that is cut or empty has a class too.
    let replied = matches!(class, Some(ErrorClass::Flagged | ErrorClass::Invalid)) && random.bool();
    let charge = match class {
        Some(class) if !replied => {
            let mut error = CallError::new(class, "as scripted");
            error.usage = used.map(Box::new);
            failure(backend, request, &error, time)
        }
        _ => reply(backend, request, used, time),
    };
    Attempt {
        class,
        usage: charge.usage,
        tariff: backend.tariff.clone(),
        cost: charge.cost,
        ..line
    }
}

fn outcome(attempts: Vec<Attempt>, row: &Arc<Row>, random: &mut Rng) -> Outcome {
    let status = Status::ALL[random.usize(0..Status::ALL.len())];
    let answer = Answer {
        text: String::new(),
        finish_reason: None,
    };
    Outcome {
        item: Item {
            row: Arc::clone(row),
            entry: random.u32(0..3),
            repeat: random.u32(0..2),
        },
        status,
        answer: status.is_final().then_some(answer),
        error: None,
        answered_by: random.bool().then(|| random.usize(0..attempts.len())),
        attempts,
    }
}

/// What the test keeps beside the report, with nothing of its arithmetic.
#[derive(Default)]
struct Sums {
    paid: i128,
    possible: i128,
    unpriced: u64,
    useful: i128,
    overhead: i128,
    by_backend: BTreeMap<String, i128>,
}

impl Sums {
    fn add(&mut self, attempt: &Attempt) -> i128 {
        match attempt.cost {
            Cost::Known(paid) => {
                self.paid += paid.units();
                let name = attempt.backend.to_string();
                *self.by_backend.entry(name).or_default() += paid.units();
                return paid.units();
            }
            Cost::Unknown { at_most } => self.possible += at_most.unwrap_or_default().units(),
            Cost::Unpriced => self.unpriced += 1,
        }
        0
    }
}

#[test]
fn a_million_random_attempts_reconcile_to_the_last_unit() {
    let mut random = Rng::with_seed(5);
    let (backends, request) = (backends(&mut random), Request::user("how much is it?"));
    let row = Arc::new(Row {
        index: 0,
        id: "1".to_owned(),
        columns: Columns::new(Vec::new()).into(),
        cells: Vec::new(),
        key: Digest::default(),
    });
    let names = backends.iter().map(|backend| backend.name.to_string());
    let mut report = Report::new("job", names);
    let (mut sums, mut made) = (Sums::default(), 0);
    while made < ATTEMPTS {
        let count = random.u32(1..5);
        made += u64::from(count);
        let attempts: Vec<_> = (1..=count)
            .map(|number| {
                let backend = &backends[random.usize(0..backends.len())];
                attempt(number, backend, &request, &mut random)
            })
            .collect();
        if random.u32(0..20) == 0 {
            // A row that is in the job no more.
            for attempt in attempts.iter().filter(|attempt| attempt.kind.is_request()) {
                sums.add(attempt);
                report.add_outside(attempt, true);
            }
            continue;
        }
        let outcome = outcome(attempts, &row, &mut random);
        let decided = outcome.answered_by.unwrap_or(outcome.attempts.len() - 1);
        for (at, attempt) in outcome.attempts.iter().enumerate() {
            let paid = sums.add(attempt);
            let overhead = attempt.kind.is_about_an_answer();
            sums.overhead += if overhead { paid } else { 0 };
            let useful = outcome.status == Status::Answered && at == decided && !overhead;
            sums.useful += if useful { paid } else { 0 };
        }
        report.add(&ResultLine {
            outcome: &outcome,
            marks: &Marks::default(),
        });
    }
    assert_eq!(report.disagreements(), Vec::<String>::new());
    let (total, spending) = (report.total(), &report.spending);
    assert_eq!(total.spent.paid.units(), sums.paid);
    assert_eq!(total.spent.unpriced, sums.unpriced);
    assert_eq!(total.possibly_billed.units(), sums.possible);
    // Whatever was charged is what the stored usage comes to at the stored price.
    assert_eq!(spending.unexplained, Usd::ZERO);
    assert_eq!(spending.by_class.total().units(), sums.paid);
    assert_eq!(spending.used(Benefit::Useful).1.paid.units(), sums.useful);
    let overhead = spending.used(Benefit::Overhead).1.paid;
    assert_eq!(overhead.units(), sums.overhead);
    let wasted = sums.paid - sums.useful - sums.overhead;
    assert_eq!(spending.wasted().units(), wasted);
    for (name, line) in &report.by_backend {
        let paid = sums.by_backend.get(name).copied().unwrap_or_default();
        assert_eq!(line.spent.paid.units(), paid, "{name}");
    }
    // Nothing of it is trivial.
    assert!(sums.possible > 0 && sums.unpriced > 0 && report.removed.1.paid > Usd::ZERO);
    for (class, paid) in spending.classes() {
        assert!(paid > Usd::ZERO, "{class:?}");
    }
    for (benefit, (_, spent)) in spending.uses() {
        assert!(spent.paid > Usd::ZERO, "{benefit:?}");
    }
}
