//! A figure that says of how many it is, and how sure.

use serde::{Deserialize, Serialize};

/// A figure of a run, such as its accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The figure.
    pub value: f64,
    /// Of how many it is: its denominator.
    pub n: u64,
    /// Where the true value lies, with 95 % confidence; `None` where nobody can say.
    pub interval: Option<Interval>,
}

/// Where a true value lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How it was reckoned.
    pub method: Method,
}

/// How an interval was reckoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Wilson's score interval of a share.
    Wilson,
    /// A seeded bootstrap over rows.
    Bootstrap,
    /// The normal approximation.
    Normal,
    /// Bonett and Price's interval of the difference between paired shares.
    BonettPrice,
    /// Newcombe's interval of the difference between independent shares.
    Newcombe,
}

impl Method {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Wilson => "wilson",
            Method::Bootstrap => "bootstrap",
            Method::Normal => "normal",
            Method::BonettPrice => "bonett_price",
            Method::Newcombe => "newcombe",
        }
    }
}
