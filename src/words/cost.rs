//! What an attempt cost, and by which price.

use std::sync::Arc;

use super::{Digest, Price, Usd};

/// What an attempt cost. Unknown is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Exactly this.
    Known(Usd),
    /// Nobody knows: possibly nothing, at most this (where a bound exists).
    Unknown {
        /// The upper bound; `None` where neither a price nor a cap is known.
        at_most: Option<Usd>,
    },
    /// Tokens were used, but no price is known for the model.
    Unpriced,
}

impl Cost {
    /// What it may come to at most; `None` where no bound is known.
    pub fn most(self) -> Option<Usd> {
        match self {
            Cost::Known(amount) => Some(amount),
            Cost::Unknown { at_most } => at_most,
            Cost::Unpriced => None,
        }
    }
}

/// A price, and whose word it is: what attempts are charged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff {
    id: Arc<str>,
    /// The price.
    pub price: Price,
    /// Where it is from: `the job`, a file, or the address of who published it.
    pub source: String,
    /// The day on which the source said so, as `2026-08-21`; `None` where nobody dated it.
    pub as_of: Option<String>,
}

impl Tariff {
    /// A price that this source states, on this day.
    pub fn new(price: Price, source: impl Into<String>, as_of: Option<String>) -> Self {
        let source = source.into();
        let terms = serde_json::json!(price).to_string();
        let parts = [&terms, &source, as_of.as_deref().unwrap_or_default()];
        let id = Digest::of(parts).to_string();
        Self {
            id: Arc::from(&id[..12]),
            price,
            source,
            as_of,
        }
    }

    /// What costs nothing, because it runs on a machine of one's own.
    pub fn local() -> Self {
        Self::new(Price::FREE, "local", None)
    }

    /// Its name in the ledger. Another price, source or date has another one.
    pub fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_price_source_or_date_is_another_tariff() {
        let dear = Price {
            per_request: Usd::from_units(1),
            ..Price::FREE
        };
        let day = || Some("2026-08-21".to_owned());
        let tariffs = [
            Tariff::local(),
            Tariff::new(Price::FREE, "the job", None),
            Tariff::new(Price::FREE, "the job", day()),
            Tariff::new(dear, "the job", day()),
        ];
        for (at, one) in tariffs.iter().enumerate() {
            assert_eq!(one.id().len(), 12);
            for other in &tariffs[at + 1..] {
                assert_ne!(one.id(), other.id());
            }
        }
        // What is stored today must be found tomorrow.
        assert_eq!(Tariff::local().id(), "d61e9ab1be26");
    }
}
