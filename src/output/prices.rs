//! The prices in the reports: what attempts were charged by, and what they come to by others.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::markdown::escape;
use super::report::{Report, Spent};
use crate::words::{Attempt, Cost, Tariff, Usd};

/// What was charged by one price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// The price, and whose word it is.
    pub tariff: Tariff,
    /// How many attempts it is charged for and what is known to have been paid, by backend.
    pub by_backend: BTreeMap<String, (u64, Usd)>,
}

/// What the attempts of a backend come to by another price than the one that they were charged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repriced {
    /// The backend's name in the job.
    pub backend: String,
    /// The other price.
    pub tariff: Tariff,
    /// How many attempts.
    pub attempts: u64,
    /// What was paid.
    pub before: Spent,
    /// What it would have been.
    pub after: Spent,
}

impl Charged {
    /// How many attempts.
    pub fn attempts(&self) -> u64 {
        self.by_backend.values().map(|(attempts, _)| attempts).sum()
    }

    /// What is known to have been paid.
    pub fn paid(&self) -> Usd {
        self.by_backend.values().map(|(_, paid)| *paid).sum()
    }
}

impl Report {
    /// Adds a request to what was charged by its price.
    pub(super) fn add_charge(&mut self, attempt: &Attempt) {
        let Some(tariff) = &attempt.tariff else {
            return;
        };
        let charged = self.by_tariff.entry(tariff.id().to_owned());
        let charged = charged.or_insert_with(|| Charged {
            tariff: Tariff::clone(tariff),
            by_backend: BTreeMap::new(),
        });
        let backend = charged.by_backend.entry(attempt.backend.to_string());
        let (attempts, paid) = backend.or_default();
        *attempts += 1;
        if let Cost::Known(amount) = attempt.cost {
            *paid += amount;
        }
    }

    /// Notes down that a request is in this report with another price than the one that it was charged by.
    pub fn add_repriced(&mut self, before: &Attempt, after: &Attempt) {
        let Some(tariff) = &after.tariff else {
            return;
        };
        let key = (after.backend.to_string(), tariff.id().to_owned());
        let line = self.repriced.entry(key).or_insert_with(|| Repriced {
            backend: after.backend.to_string(),
            tariff: Tariff::clone(tariff),
            attempts: 0,
            before: Spent::default(),
            after: Spent::default(),
        });
        line.attempts += 1;
        line.before.add(before.cost);
        line.after.add(after.cost);
    }

    /// What was paid for everything in the report, before anything of it was priced anew.
    pub fn total_before(&self) -> Spent {
        let mut total = self.total().spent;
        for line in self.repriced.values() {
            total.paid = total.paid + line.before.paid - line.after.paid;
            total.unpriced = total.unpriced + line.before.unpriced - line.after.unpriced;
        }
        total
    }
}

/// The name of a price for people: whose word it is, and of which day.
pub fn origin(tariff: &Tariff) -> String {
    match &tariff.as_of {
        Some(day) => format!("{}, {day}", tariff.source),
        None => tariff.source.clone(),
    }
}

/// A line for each backend whose price has changed between runs: what was paid by which. Names need escaping.
pub fn price_changes(report: &Report) -> Vec<String> {
    let mut changes = Vec::new();
    for backend in report.by_backend.keys() {
        let parts = report.by_tariff.values().filter_map(|charged| {
            let (attempts, paid) = charged.by_backend.get(backend)?;
            let by = origin(&charged.tariff);
            Some(format!("${paid} for {attempts} attempts by {by}"))
        });
        let parts: Vec<String> = parts.collect();
        if parts.len() > 1 {
            changes.push(format!(
                "{backend} was charged by {} prices: {}",
                parts.len(),
                parts.join("; ")
            ));
        }
    }
    changes
}

/// `prices` of `report.json`.
pub(super) fn json(report: &Report) -> Value {
    let line = |charged: &Charged| {
        json!({
            "id": charged.tariff.id(),
            "source": charged.tariff.source,
            "as_of": charged.tariff.as_of,
            "backends": charged.by_backend.keys().collect::<Vec<_>>(),
            "attempts": charged.attempts(),
            "usd": charged.paid().to_string(),
        })
    };
    report.by_tariff.values().map(line).collect()
}

/// `repriced` of what `runner report --prices` prints; `None` where nothing was priced anew.
pub(super) fn repriced_json(report: &Report) -> Option<Value> {
    let line = |line: &Repriced| {
        json!({
            "backend": line.backend,
            "id": line.tariff.id(),
            "source": line.tariff.source,
            "as_of": line.tariff.as_of,
            "attempts": line.attempts,
            "before_usd": line.before.paid.to_string(),
            "after_usd": line.after.paid.to_string(),
        })
    };
    let lines: Vec<Value> = report.repriced.values().map(line).collect();
    (!lines.is_empty()).then(|| {
        json!({
            "before_usd": report.total_before().paid.to_string(),
            "after_usd": report.total().spent.paid.to_string(),
            "backends": lines,
        })
    })
}

/// The sections of `report.md`.
pub(super) fn markdown(out: &mut String, report: &Report) -> std::fmt::Result {
    if !report.by_tariff.is_empty() {
        writeln!(out, "\n## Prices\n")?;
        writeln!(
            out,
            "| price | backends | attempts | USD |\n|---|---|---:|---:|"
        )?;
    }
    for charged in report.by_tariff.values() {
        let backends: Vec<String> = charged.by_backend.keys().map(|name| escape(name)).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            escape(&origin(&charged.tariff)),
            backends.join(", "),
            charged.attempts(),
            charged.paid()
        )?;
    }
    if report.repriced.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Priced anew\n")?;
    writeln!(
        out,
        "| backend | by | attempts | USD as charged | USD by these prices |"
    )?;
    writeln!(out, "|---|---|---:|---:|---:|")?;
    for line in repriced_lines(report) {
        let [backend, by, attempts, before, after] = line.map(|cell| escape(&cell));
        writeln!(
            out,
            "| {backend} | {by} | {attempts} | {before} | {after} |"
        )?;
    }
    Ok(())
}

/// What was priced anew, by which price, and the totals of everything: a line each. Names need escaping.
pub fn repriced_lines(report: &Report) -> Vec<[String; 5]> {
    let amount = |spent: Spent| match spent.amount() {
        Some(amount) => amount.to_string(),
        None => "unknown".to_owned(),
    };
    let lines = report.repriced.values().map(|line| {
        [
            line.backend.clone(),
            origin(&line.tariff),
            line.attempts.to_string(),
            amount(line.before),
            amount(line.after),
        ]
    });
    let total = report.total();
    let total = [
        "total".to_owned(),
        String::new(),
        total.attempts.to_string(),
        amount(report.total_before()),
        amount(total.spent),
    ];
    lines.chain([total]).collect()
}
