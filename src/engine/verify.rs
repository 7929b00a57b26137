//! Whether what a directory holds agrees: the store with itself, and the published files with the store.

use std::collections::BTreeMap;
use std::path::Path;

use super::publish::{Settings, compile};
use super::summary::RunError;
use crate::job::OutputFormat;
use crate::output::{Comparison, Frame, Report, file_name};
use crate::store::{Ledger, RULES, Reader, StoreError, Table};
use crate::words::{TokenClass, Usd, with_causes};

/// How many disagreements are told, of all checks together.
const TOLD: usize = 20;
/// So many of each check are told in any case.
const TOLD_OF_EACH: usize = 3;

/// What was checked, and what does not agree.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// One check after the other.
    pub checks: Vec<Check>,
    /// Whether the published files are not those of the last run: it was killed, or they could not be written.
    pub unpublished: bool,
    /// Results files that are there although the last run wrote none of that form: nothing is known of them.
    pub strangers: Vec<&'static str>,
    told: usize,
}

/// A check.
#[derive(Debug, Clone)]
pub struct Check {
    /// What holds, if nothing is wrong.
    pub holds: String,
    /// How much does not agree.
    pub wrong: u64,
    /// The first of it, in words.
    pub texts: Vec<String>,
}

impl Verified {
    /// How much does not agree.
    pub fn wrong(&self) -> u64 {
        self.checks.iter().map(|check| check.wrong).sum()
    }

    /// Makes a check, which says what holds and tells of what is wrong. If it cannot be made that is wrong.
    fn check<T>(
        &mut self,
        of: &str,
        check: impl FnOnce(&mut dyn FnMut(String)) -> Result<(String, T), RunError>,
    ) -> Option<T> {
        let (mut wrong, mut texts, mut told) = (0, Vec::new(), self.told);
        let mut tell = |text| {
            wrong += 1;
            if told < TOLD || texts.len() < TOLD_OF_EACH {
                told += 1;
                texts.push(text);
            }
        };
        let checked = check(&mut tell);
        let (holds, found) = match checked {
            Ok((holds, found)) => (holds, Some(found)),
            Err(error) => {
                tell(with_causes(&error));
                (of.to_owned(), None)
            }
        };
        self.told = told;
        self.checks.push(Check {
            holds,
            wrong,
            texts,
        });
        found
    }
}

/// What one look at the store finds for a later check; as much of it as is told.
#[derive(Default)]
struct Found {
    count: u64,
    texts: Vec<String>,
}

impl Found {
    fn add(&mut self, text: String) {
        self.count += 1;
        if self.texts.len() < TOLD {
            self.texts.push(text);
        }
    }

    fn tell(self, wrong: &mut dyn FnMut(String)) {
        let untold = self.count - self.texts.len() as u64;
        self.texts.into_iter().for_each(&mut *wrong);
        // After as many as are told of all checks together only the number counts.
        (0..untold).for_each(|_| wrong(String::new()));
    }
}

/// Checks everything that is in a directory which no runner holds. Nothing in it is changed.
pub fn verify(dir: &Path) -> Result<Verified, RunError> {
    let reader = Reader::open_alone(dir)?;
    let Some(run) = reader.last_run()? else {
        return Err(StoreError::NoRun {
            dir: dir.to_owned(),
        }
        .into());
    };
    let settings = Settings::read(dir, &run)?;
    let mut verified = Verified {
        unpublished: run.published.is_none(),
        strangers: strangers(dir, &settings.frame),
        ..Verified::default()
    };
    verified.check("the database is sound", |wrong| {
        reader.integrity(wrong)?;
        Ok(("the database is sound".to_owned(), ()))
    });
    let mut mispriced = Found::default();
    let ledger = verified.check("every line is as it was written", |wrong| {
        let rows = reader.check_lines(Table::Rows, wrong)?;
        let outcomes = reader.check_lines(Table::Outcomes, wrong)?;
        let superseded = reader.check_lines(Table::Superseded, wrong)?;
        let ledger = reader.ledger(wrong, &mut |text| mispriced.add(text))?;
        let attempts = ledger.lines;
        let holds = format!(
            "every line is as it was written: {rows} rows, {outcomes} outcomes, {superseded} superseded, \
             {attempts} attempts"
        );
        Ok((holds, ledger))
    });
    let costs = "every cost is what its usage comes to at its price";
    verified.check(costs, |wrong| {
        mispriced.tell(wrong);
        Ok((costs.to_owned(), ()))
    });
    for rule in &RULES {
        verified.check(rule.holds, |wrong| {
            reader.check_rule(rule, wrong)?;
            Ok((rule.holds.to_owned(), ()))
        });
    }
    let mut by_row = Usd::ZERO;
    let totals = "the totals are the sums of the attempts";
    let compiled = verified.check(totals, |wrong| {
        let compiled = compile::<Comparison>(dir, reader.lines(), &settings, |outcome| {
            by_row += outcome.paid().unwrap_or(Usd::ZERO);
        })?;
        if let Some(ledger) = &ledger {
            compare(ledger, &compiled.report, by_row, wrong);
        }
        compiled
            .report
            .disagreements()
            .into_iter()
            .for_each(&mut *wrong);
        let paid = compiled.report.total().spent.paid;
        let holds = format!("{totals}, by row, backend, model, kind, token class and use: ${paid}");
        Ok((holds, compiled))
    });
    for file in compiled.into_iter().flat_map(|compiled| compiled.files) {
        let holds = format!("{} is what the store says", file.name());
        verified.check("", |wrong| {
            file.verdict().into_iter().for_each(wrong);
            Ok((holds, ()))
        });
    }
    Ok(verified)
}

fn strangers(dir: &Path, frame: &Frame) -> Vec<&'static str> {
    let others = OutputFormat::ALL.into_iter();
    let others = others.filter(|format| !frame.formats.contains(format));
    let names = others.map(file_name);
    names.filter(|name| dir.join(name).exists()).collect()
}

/// Tells where the reports would say something else than the ledger.
fn compare(ledger: &Ledger, report: &Report, by_row: Usd, wrong: &mut dyn FnMut(String)) {
    let mut same = |what: &str, reported: Usd, paid: Usd| {
        if reported != paid {
            wrong(format!(
                "{what} comes to ${reported}, but the attempts to ${paid}"
            ));
        }
    };
    let total = report.total();
    same("the total", total.spent.paid, ledger.paid);
    let possible = total.possibly_billed;
    same("what may have been billed", possible, ledger.possible);
    let removed = report.removed.1.paid;
    same("what the rows cost", by_row + removed, ledger.paid);
    let backends = report.by_backend.iter();
    let backends = backends.map(|(name, line)| (name.clone(), line.spent.paid));
    let models = report.by_model.iter();
    let models = models.map(|(name, spent)| (name.clone(), spent.paid));
    let kinds = report.by_kind.iter();
    let kinds = kinds.map(|(kind, (_, spent))| (kind.as_str().to_owned(), spent.paid));
    let of_kinds = ledger.by_kind.iter();
    let of_kinds = of_kinds.map(|(kind, paid)| (kind.as_str().to_owned(), *paid));
    let classes = report.spending.classes();
    let classes = classes.map(|(class, paid)| (class.as_str().to_owned(), paid));
    let of_classes = TokenClass::ALL.into_iter();
    let of_classes = of_classes.map(|class| (class.as_str().to_owned(), ledger.by_class.of(class)));
    let uses = report.spending.uses();
    let uses = uses.map(|(benefit, (_, spent))| (benefit.as_str().to_owned(), spent.paid));
    let of_uses = ledger.by_use.iter();
    let of_uses = of_uses.map(|(benefit, paid)| (benefit.as_str().to_owned(), *paid));
    type Sums = BTreeMap<String, Usd>;
    let all: [(&str, Sums, Sums); 5] = [
        ("backend", backends.collect(), ledger.by_backend.clone()),
        ("model", models.collect(), ledger.by_model.clone()),
        ("kind", kinds.collect(), of_kinds.collect()),
        ("token class", classes.collect(), of_classes.collect()),
        ("use", uses.collect(), of_uses.collect()),
    ];
    for (what, mut reported, paid) in all {
        for (name, paid) in paid {
            let reported = reported.remove(&name).unwrap_or(Usd::ZERO);
            same(&format!("{what} {name}"), reported, paid);
        }
        for (name, reported) in reported {
            same(&format!("{what} {name}"), reported, Usd::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Spent;
    use crate::words::{AttemptKind, Benefit, Price, Usage};

    #[test]
    fn a_report_that_says_something_else_than_the_ledger_is_noticed() {
        let paid = Usd::from_units(7);
        let spent = Spent { paid, unpriced: 0 };
        let ledger = Ledger {
            lines: 1,
            paid,
            possible: Usd::ZERO,
            by_backend: [("a".to_owned(), paid)].into(),
            by_model: [("m".to_owned(), paid)].into(),
            by_kind: [(AttemptKind::First, paid)].into(),
            ..Ledger::default()
        };
        let report = || {
            let mut report = Report::new("job", ["a".to_owned(), "b".to_owned()]);
            report.by_backend["a"].spent = spent;
            report.by_model.insert("m".to_owned(), spent);
            report.by_kind.insert(AttemptKind::First, (1, spent));
            report
        };
        let told_by = |ledger: &Ledger, report: &Report, by_row| {
            let mut told = Vec::new();
            compare(ledger, report, by_row, &mut |text| told.push(text));
            told.len()
        };
        let told = |report: Report, by_row| told_by(&ledger, &report, by_row);
        assert_eq!(told(report(), paid), 0);
        assert_eq!(told(report(), Usd::ZERO), 1);
        let mut other = report();
        other.by_backend["b"].possibly_billed = paid;
        assert_eq!(told(other, paid), 1);
        let mut other = report();
        other.by_backend["b"].spent = spent;
        // The total and the backend.
        assert_eq!(told(other, paid), 2);
        let mut other = report();
        other.by_model.clear();
        assert_eq!(told(other, paid), 1);
        let mut other = report();
        other.by_kind.insert(AttemptKind::Retry, (1, spent));
        assert_eq!(told(other, paid), 1);
        let mut other = report();
        other.removed = (1, spent);
        assert_eq!(told(other, Usd::ZERO), 0);
        let mut other = report();
        other.spending.by_class = Price {
            per_request: paid,
            ..Price::FREE
        }
        .bill(&Usage::default())
        .expect("a fee needs no tokens");
        assert_eq!(told(other, paid), 1);
        let other = Ledger {
            by_use: [(Benefit::Failed, paid)].into(),
            ..ledger.clone()
        };
        assert_eq!(told_by(&other, &report(), paid), 1);
    }
}
