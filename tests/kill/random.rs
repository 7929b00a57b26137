//! Kills at random moments: while starting, asking, publishing, recovering.

use std::thread;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::seed;
use crate::trial::{Reference, Shape, Trial};

/// How the server behaves where nothing else is the point.
const BRISK: Manners = Manners {
    thinks: Duration::from_millis(8),
    fails: false,
};
/// The same, with failures, so that there are retries to be cut short.
const FAILING: Manners = Manners {
    fails: true,
    ..BRISK
};

#[test]
fn two_hundred_kills_at_random_moments_lose_nothing_and_ask_nothing_twice() {
    let shape = Shape {
        rows: 120,
        concurrency: 8,
    };
    kill_at_random(200, shape, seed::get());
}

#[test]
#[ignore = "takes minutes: cargo test --release --test kill -- --ignored"]
fn a_thousand_kills_at_random_moments_lose_nothing_and_ask_nothing_twice() {
    let shape = Shape {
        rows: 400,
        concurrency: 8,
    };
    kill_at_random(1000, shape, seed::get());
}

/// Runs jobs, one after the other, until so many runs were killed.
fn kill_at_random(kills: usize, shape: Shape, seed: u64) {
    let servers = [BRISK, FAILING].map(Ledger::new);
    let references = [&servers[0], &servers[1]].map(|server| Reference::of(server, shape));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut killed, mut jobs, mut late) = (0, 0, 0);
    while killed < kills {
        let (server, reference) = (&servers[jobs % 2], &references[jobs % 2]);
        let mut trial = Trial::new(server, shape);
        jobs += 1;
        loop {
            let mut run = trial.start();
            let moment = Moment::draw(&mut random, reference.took);
            let delay = match moment {
                Moment::After(delay) => delay,
                Moment::AllAskedAnd(delay) => {
                    trial.all_are_asked(&mut run);
                    delay
                }
            };
            thread::sleep(delay);
            let ended = run.kill();
            if !ended.was_killed() {
                trial.ended(&ended, reference);
                break;
            }
            trial.cut_short(&ended);
            killed += 1;
            late += usize::from(trial.finished() == shape.rows);
        }
    }
    seed::tell(&format!(
        "{killed} kills in {jobs} jobs of {} rows, {late} of them after the last answer",
        shape.rows
    ));
}

/// When a run is killed.
enum Moment {
    /// So long after its start.
    After(Duration),
    /// So long after the last row was asked: while the last answers and the results are written.
    AllAskedAnd(Duration),
}

impl Moment {
    /// A moment of a run that takes this long undisturbed.
    fn draw(random: &mut fastrand::Rng, whole: Duration) -> Self {
        match random.u32(0..10) {
            // While the program starts, or takes up what a run before has left.
            0..3 => Self::After(Duration::from_millis(40).mul_f64(random.f64())),
            3..8 => Self::After(whole.mul_f64(random.f64())),
            _ => Self::AllAskedAnd(Duration::from_millis(60).mul_f64(random.f64())),
        }
    }
}
