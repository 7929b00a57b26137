//! Layer 4: the run. Rows in, bounded fan-out, one store writer, drain on stop.
//!
//! What this folder promises: a run holds as many rows as are in flight and no more; an outcome is
//! stored before it is reported; whatever ends the run, every answer that could be stored is in the
//! store, and in the results unless these cannot be written.
//! What follows upon answers (`follow_up`: who decides where they disagree, who says what they are worth) is asked when these are complete.
//! Nothing is printed here: what happens is told as [`Event`](crate::words::Event)s.

mod baseline;
mod boards;
mod command;
mod diff;
mod explain;
mod export;
mod fan_out;
mod follow_up;
mod forecast;
mod gate;
mod graded;
mod marked;
mod marks;
mod money;
mod noise;
mod open_files;
mod prices;
mod probe;
mod publish;
mod report;
mod resume;
mod run;
mod runner;
mod shape;
#[cfg(test)]
mod simulation;
mod starter;
mod status;
mod summary;
mod unclear;
mod verify;
mod yaml;

pub use baseline::{BaselineError, WrittenBaseline, baseline};
pub use diff::{Difference, Flip, FlipKind, RowSeen, RunSide, diff};
pub use explain::{Explained, ExplainedBackend};
pub use export::{Exported, export};
pub use forecast::{
    BackendForecast, Because, CostRange, Counted, Forecast, ForecastOptions, Gap, Missing,
    OutputFrom, Pace, Unsendable,
};
pub use noise::{Noise, NoiseOf, noise};
pub use prices::{price_list, prices};
pub use probe::{Probe, ProbeEnd, Probed};
pub use report::{Reported, report};
pub use runner::{Options, Runner};
pub use starter::{Starter, StarterError, StarterOptions, starter};
pub use status::{JobStatus, RunState, status};
pub use summary::{Ended, ExitCode, RunError, Summary};
pub use verify::{Check, Verified, verify};
