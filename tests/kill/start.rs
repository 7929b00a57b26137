//! What is there when the run starts that something happens to.

use std::path::Path;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::strace::{self, Call};
use crate::trial::{Reference, Trial};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Nothing,
    /// A run that was killed after some rows.
    Middle,
    /// A run that went through to its end: only the outputs are written once more.
    End,
}

pub const STARTS: [Start; 3] = [Start::Nothing, Start::Middle, Start::End];

impl Start {
    /// A job as far as this.
    pub fn prepare<'a>(self, server: &'a Ledger, reference: &Reference) -> Trial<'a> {
        let mut trial = Trial::new(server, reference.shape);
        match self {
            Self::Nothing => {}
            Self::Middle => {
                let run = trial.start();
                let some = server.asked(reference.shape.rows / 4, Duration::from_secs(10));
                assert!(some, "the run does not get on");
                let ended = run.kill();
                trial.cut_short(&ended);
            }
            Self::End => {
                let ended = trial.start().wait();
                trial.ended(&ended, reference);
            }
        }
        trial
    }

    /// The calls that change the output directory in a run from here that nobody disturbs.
    pub fn calls(self, strace: &Path, server: &Ledger, reference: &Reference) -> Vec<Call> {
        let mut trial = self.prepare(server, reference);
        let ended = trial.start_traced(strace, &strace::logging()).wait();
        trial.ended(&ended, reference);
        let mut calls = strace::calls(&trial.log());
        calls.retain(|call| call.output);
        assert!(
            calls.len() > 10,
            "the log of strace is not understood: {calls:?}"
        );
        calls
    }
}
