//! Lines of prices: what they say, and which of them holds for a model on a day.

use std::collections::HashMap;

use glob::Pattern;
use jiff::civil::Date;

use crate::words::{Price, Tariff};

/// What stands for every type of backend, and for every model.
pub(super) const ANY: &str = "*";

/// What a line of a price file, or of the built-in table, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceLine {
    /// The type of the backends that it is for; `*` is every type.
    pub provider: String,
    /// The models that it is for, as they are written: patterns divided by `|`.
    pub models: String,
    /// The first day on which it holds; `None`: it always did.
    pub valid_from: Option<Date>,
    /// What is charged, and whose word that is.
    pub tariff: Tariff,
    /// What the same costs through the provider's batch service, where there is one.
    pub batch: Option<Price>,
    /// The parts of `models`.
    pub(super) patterns: Vec<Pattern>,
}

impl PriceLine {
    /// The line that says what this model of this type of backend is charged by; `None`: one without a model.
    pub fn of(
        provider: &str,
        model: Option<&str>,
        tariff: Tariff,
        batch: Option<Price>,
    ) -> PriceLine {
        let models = match model {
            // In a pattern a `|` cannot be written.
            Some(model) => Pattern::escape(model).replace('|', "?"),
            None => ANY.to_owned(),
        };
        Self {
            provider: provider.to_owned(),
            patterns: Pattern::new(&models).into_iter().collect(),
            models,
            valid_from: None,
            tariff,
            batch,
        }
    }

    /// Whether it is for this model of this type of backend. One without a model is what `*` is for.
    pub fn is_for(&self, provider: &str, model: Option<&str>) -> bool {
        let matches = |pattern: &Pattern| match model {
            Some(model) => pattern.matches(model),
            None => pattern.as_str() == ANY,
        };
        [ANY, provider].contains(&&*self.provider) && self.patterns.iter().any(matches)
    }

    /// Whether a person who asks for these models means it too: a model that it is for, or a pattern that fits one
    /// of its own.
    pub fn is_meant(&self, models: &Pattern) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|own| own.matches(models.as_str()) || models.matches(own.as_str()))
    }

    /// What it is for: no two lines of a file are for the same.
    pub(super) fn key(&self) -> (String, String, Option<Date>) {
        let (provider, models) = (self.provider.clone(), self.models.clone());
        (provider, models, self.valid_from)
    }
}

/// The line of a list that holds for this model on this day: the latest one, and of several the first.
pub(super) fn find<'a>(
    list: &'a [PriceLine],
    provider: &str,
    model: Option<&str>,
    today: Date,
) -> Option<&'a PriceLine> {
    let lines = list.iter().rev();
    lines
        .filter(|line| line.valid_from <= Some(today) && line.is_for(provider, model))
        .max_by_key(|line| line.valid_from)
}

/// The lines that hold on this day: none that a later one for the same models has replaced.
pub(super) fn in_force(list: &[PriceLine], today: Date) -> impl Iterator<Item = &PriceLine> {
    let holds = move |line: &&PriceLine| line.valid_from <= Some(today);
    let mut latest = HashMap::new();
    for line in list.iter().filter(holds) {
        let day = latest.entry((&line.provider, &line.models)).or_default();
        *day = line.valid_from.max(*day);
    }
    let lines = list.iter().filter(holds);
    lines.filter(move |line| latest[&(&line.provider, &line.models)] == line.valid_from)
}
