//! What the program has said is done is in the store, whatever happens a moment later.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tokio_prompt_orchestrator::words::Event;
use tokio_prompt_orchestrator::{Options, Runner, Stop};

use crate::ledger::{Ledger, Manners};
use crate::seed;
use crate::trial::{Reference, Shape, Trial};

/// Where the runner below writes a byte for each row that it is told of.
const SAID: &str = "KILL_SAID";
const RUNNER: &str = "acknowledged::a_runner_that_writes_down_what_it_is_told";

#[test]
fn what_was_said_to_be_done_is_in_the_store_after_a_kill() {
    let server = Ledger::new(Manners {
        thinks: Duration::from_millis(4),
        fails: false,
    });
    let shape = Shape {
        rows: 120,
        concurrency: 8,
    };
    let reference = Reference::of(&server, shape);
    let mut random = fastrand::Rng::with_seed(seed::get());
    let (mut kills, mut said_in_all) = (0, 0);
    while kills < 40 {
        let mut trial = Trial::new(&server, shape);
        loop {
            let said = trial.scratch.path().join("said");
            let _ = fs::remove_file(&said);
            let before = trial.finished();
            let mut command = Command::new(std::env::current_exe().expect("this test has a path"));
            command
                .args([RUNNER, "--exact", "--ignored", "--nocapture"])
                .env(SAID, &said);
            let run = trial.start_as(command);
            thread::sleep(reference.took.mul_f64(random.f64()));
            let ended = run.kill();
            let said = fs::metadata(&said).map_or(0, |said| said.len() as usize);
            if !ended.was_killed() {
                break;
            }
            trial.cut_short(&ended);
            let stored = trial.finished() - before;
            assert!(
                said <= stored,
                "{said} rows were said to be done, {stored} are"
            );
            kills += 1;
            said_in_all += said;
        }
    }
    seed::tell(&format!(
        "{kills} kills, {said_in_all} rows said to be done"
    ));
}

/// Not a test: the program that the test above kills.
#[test]
#[ignore = "another test runs it"]
fn a_runner_that_writes_down_what_it_is_told() {
    let Some(said) = std::env::var_os(SAID) else {
        return;
    };
    let said = File::options().create(true).append(true).open(said);
    let said = said.expect("a file for what is said");
    let runner = Runner::load("job.yaml", &Options::default()).expect("the job has no problem");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ran = runtime.block_on(runner.run(Stop::new(), move |event| {
        if let Event::RowFinished { .. } = event {
            (&said).write_all(b".").expect("the file can be written to");
        }
    }));
    ran.expect("the run has an end");
}
