//! Layer 0: the words of the program. Plain data, no I/O, no clock, no channel.
//!
//! The path of a row is told in these types: [`Row`] → [`Request`] → [`Attempt`]s → [`Outcome`].
//! Whatever a provider says is turned into [`Completion`] or [`OrchestratorError`] by its worker,
//! once; whatever it costs is exact integer money ([`Usd`]); whatever happens is an [`Event`].

mod allowance;
mod attempt_ended;
mod backend_now;
mod benefit;
mod changes;
mod comparison;
mod completion;
mod cost;
mod decided;
mod digest;
mod error;
mod event;
mod gate;
mod item;
mod limits_seen;
mod metric;
mod money;
mod outcome;
mod price;
mod provider;
mod request;
mod result_line;
mod row;
mod sampling;
mod scores;
mod secret;
mod shown;
mod structured;
mod usage;

pub use allowance::{Allowance, Allowances, Load};
pub use attempt_ended::AttemptEnded;
pub use backend_now::{BackendNow, WaitsFor};
pub use benefit::Benefit;
pub use changes::Changes;
pub use comparison::Comparison;
pub use completion::{Completion, FinishReason};
pub use cost::{Cost, Tariff};
pub use decided::{Decided, DecidedBy};
pub use digest::Digest;
pub use error::{CallError, ErrorClass, MAX_RETRY_AFTER, OrchestratorError, with_causes};
pub use event::Event;
pub use gate::{GateCheck, GateReport, Verdict};
pub use item::{Due, Item};
pub use limits_seen::{BackendSeen, LimitSource, LimitsSeen};
pub use metric::{Interval, Method, Metric};
pub use money::{Rate, Usd};
pub use outcome::{Answer, Attempt, AttemptKind, Outcome, Status};
pub use price::{Above, Bill, Bounds, Price, Rates, TokenClass};
pub use provider::Provider;
pub use request::{Message, Request, Role};
pub use result_line::{Marks, ResultLine};
pub use row::{Columns, Row};
pub use sampling::{Sampling, refuses_sampling};
pub use scores::{Confusion, Group, LabelScores, Scores};
pub use secret::spellings;
pub use shown::steers;
pub use structured::{OutputSchema, WRAPPER, takes_schema};
pub use usage::Usage;
