//! What the reports say in words. Amounts are rounded here; the tables beside them have every digit.

use super::backend_line::BackendLine;
use super::report::Report;
use super::spending::{Fallback, Projection};
use crate::words::{AttemptKind, Benefit, Usd};

/// Where the money went, in lines: what of it was wasted, what an answer cost, what the rest may cost, what the
/// providers' caches and the fallback made of it. Nothing of a run that was free.
pub fn spendings(report: &Report) -> Vec<String> {
    let spending = &report.spending;
    if report.total().spent.paid == Usd::ZERO {
        return Vec::new();
    }
    let is_all_useful = spending.wasted() == Usd::ZERO && spending.used(Benefit::Overhead).0 == 0;
    let wasted = (!is_all_useful).then(|| waste(report));
    let per_row = report.per_answered_row();
    let per_row = per_row.map(|amount| format!("per answered row: ${}", amount.about()));
    let left = spending.projection();
    let left = left.map(|projection| projected(spending.rows_left, projection));
    let cache = prompt_cache(spending.prompt_cache_saved);
    let fallback = fallback(spending.fallback);
    let lines = [wasted, per_row, left, cache, fallback];
    lines.into_iter().flatten().collect()
}

/// What the money was paid for, by its name: each class of token, and what else is charged.
pub(super) fn bought(report: &Report) -> Vec<(String, Usd)> {
    let spending = &report.spending;
    let classes = spending.classes();
    let named = classes.map(|(class, paid)| (class.as_str().replace('_', " "), paid));
    let unexplained = (
        "not explained by any usage".to_owned(),
        spending.unexplained,
    );
    let all = named.chain([unexplained]);
    all.filter(|(_, paid)| *paid != Usd::ZERO).collect()
}

fn waste(report: &Report) -> String {
    let spending = &report.spending;
    let wasted = spending
        .uses()
        .filter(|(benefit, (_, spent))| benefit.is_wasted() && spent.paid != Usd::ZERO);
    let parts: Vec<_> = wasted
        .map(|(benefit, (_, spent))| format!("{} ${}", benefit.as_str(), spent.paid.about()))
        .collect();
    let (wasted, overhead) = (spending.wasted(), spending.used(Benefit::Overhead).1.paid);
    let useful = report.total().spent.paid - wasted - overhead;
    let mut said = vec![format!("${} useful", useful.about())];
    if overhead != Usd::ZERO {
        said.push(format!("${} for judging", overhead.about()));
    }
    if wasted != Usd::ZERO {
        said.push(format!("${} wasted ({})", wasted.about(), parts.join(", ")));
    }
    format!("spent: {}", said.join(", "))
}

fn projected(left: u64, projection: Projection) -> String {
    format!(
        "left: {}, about ${} more at ${} a row, as for the {} done so far",
        rows(left),
        projection.amount.about(),
        projection.per_row.about(),
        projection.basis
    )
}

fn prompt_cache(saved: Usd) -> Option<String> {
    match saved.units() {
        0 => None,
        1.. => Some(format!(
            "the providers' prompt caches saved ${}",
            saved.about()
        )),
        _ => Some(format!(
            "writing to the providers' prompt caches cost ${} more than reading from them saved",
            (Usd::ZERO - saved).about()
        )),
    }
}

fn fallback(fallback: Fallback) -> Option<String> {
    let known = fallback.rows - fallback.unknown;
    if known == 0 || fallback.paid == fallback.at_first_price {
        return None;
    }
    let answers = match known {
        1 => "1 answer of a fallback".to_owned(),
        known => format!("{known} answers of a fallback"),
    };
    Some(format!(
        "{answers} cost ${}; at the price of the first backend ${}",
        fallback.paid.about(),
        fallback.at_first_price.about()
    ))
}

/// What did not have to be asked and paid.
pub fn savings(report: &Report) -> Vec<String> {
    let saved = |kind: AttemptKind| {
        let saved = report.saved.get(&kind).copied().unwrap_or_default();
        match (saved.amount, saved.unknown) {
            (amount, 0) => format!("saved ${amount}"),
            (Usd::ZERO, _) => "saved an unknown amount".to_owned(),
            (amount, _) => format!("saved at least ${amount}"),
        }
    };
    let answers = match report.from_cache {
        1 => "1 answer".to_owned(),
        count => format!("{count} answers"),
    };
    let duplicates = match report.duplicates {
        1 => "1 duplicate".to_owned(),
        count => format!("{count} duplicates"),
    };
    let cached = (report.from_cache > 0)
        .then(|| format!("{answers} from the cache {}", saved(AttemptKind::Cache)));
    let shared = (report.duplicates > 0).then(|| {
        format!(
            "{duplicates} of other rows {}",
            saved(AttemptKind::Duplicate)
        )
    });
    cached.into_iter().chain(shared).collect()
}

/// What the totals do not say: costs that nobody knows.
pub fn notes(total: &BackendLine) -> Vec<String> {
    let mut notes = Vec::new();
    if total.possibly_billed.units() > 0 {
        notes.push(format!(
            "Up to ${} more may have been billed for attempts whose outcome is unknown.",
            total.possibly_billed
        ));
    }
    if total.unbounded > 0 {
        notes.push(format!(
            "{} may have been billed for an unknown amount.",
            attempts(total.unbounded)
        ));
    }
    if total.spent.unpriced > 0 {
        notes.push(format!(
            "No price is known for {}: set `price` of the backend. Their cost is not in the total.",
            attempts(total.spent.unpriced)
        ));
    }
    notes
}

fn attempts(count: u64) -> String {
    match count {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

fn rows(count: u64) -> String {
    match count {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    }
}
