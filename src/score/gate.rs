//! Whether a run is as its job wants it: each threshold against the figure that it is of.

use indexmap::IndexMap;

use crate::job::{Figure, FigureKind, GatePlan, Inconclusive, Limit, Operator, Threshold};
use crate::words::{GateCheck, GateReport, Group, Interval, Metric, Scores, Usd, Verdict};

/// Figures that differ by less are the same: a mean is not reckoned more exactly.
const SAME: f64 = 1e-12;
const NANODOLLARS: i128 = 1_000_000;

/// Everything that a gate looks at.
#[derive(Debug, Clone, Copy)]
pub struct Figures<'a> {
    /// How good the answers are; `None` of a job that does not say how that is seen.
    pub scores: Option<&'a Scores>,
    /// All lines of the results together.
    pub overall: &'a Part,
    /// The lines of each entry of the matrix.
    pub entries: &'a IndexMap<String, Part>,
}

/// What some lines of the results came to, whatever the answers are like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// How many they are.
    pub lines: u64,
    /// How many of them have an answer.
    pub answered: u64,
    /// What is known to have been paid; `None` where that is not all of it, or nothing is known.
    pub cost: Option<Usd>,
    /// What may have been billed on top, at most; `None` where that has no bound.
    pub possible: Option<Usd>,
    /// The times within which half, 90 % and 99 % of the replies came.
    pub latency_ms: [Option<u64>; 3],
}

/// What a figure is.
enum Found {
    Number(Metric),
    /// What is known to have been paid, with what may have been billed on top, and of how many lines.
    Usd([Usd; 2], u64),
    Count(u64, u64),
    /// It is not there, and why.
    Nothing(String),
}

/// What becomes of a gate; `baseline` is the check against the other run, if the job wants one.
pub fn judge(plan: &GatePlan, figures: &Figures<'_>, baseline: Option<GateCheck>) -> GateReport {
    let checks = plan
        .thresholds
        .iter()
        .map(|threshold| check(threshold, figures));
    let checks: Vec<GateCheck> = checks
        .chain(baseline)
        .map(|check| GateCheck {
            is_met: is_met(check.verdict, plan.inconclusive),
            ..check
        })
        .collect();
    GateReport {
        is_met: checks.iter().all(|check| check.is_met),
        checks,
    }
}

fn is_met(verdict: Verdict, inconclusive: Inconclusive) -> bool {
    match verdict {
        Verdict::Pass => true,
        Verdict::Inconclusive => inconclusive == Inconclusive::Pass,
        Verdict::Fail => false,
    }
}

fn check(threshold: &Threshold, figures: &Figures<'_>) -> GateCheck {
    let found = find(&threshold.figure, figures);
    let (verdict, shown) = match &found {
        Found::Number(metric) if threshold.surely => surely(threshold, metric),
        Found::Number(metric) => (plainly(threshold, metric.value), number(metric)),
        Found::Usd(ends, _) => (of_money(threshold, *ends), money(*ends)),
        Found::Count(count, _) => (plainly(threshold, *count as f64), count.to_string()),
        Found::Nothing(why) => (Verdict::Fail, format!("not known: {why}")),
    };
    let wanted = format!("{} {}", threshold.operator.as_str(), threshold.limit);
    let how = if threshold.surely {
        " by its whole interval"
    } else {
        ""
    };
    GateCheck {
        text: format!("{} is {shown}; wanted {wanted}{how}", threshold.name),
        name: threshold.name.clone(),
        wanted,
        found: metric(&found),
        difference: None,
        verdict,
        is_met: verdict == Verdict::Pass,
    }
}

/// The figure for a report. Money is for the eye here: it is compared exactly.
fn metric(found: &Found) -> Option<Metric> {
    let plain = |value, n| Metric {
        value,
        n,
        interval: None,
    };
    match found {
        Found::Number(metric) => Some(*metric),
        Found::Usd([amount, _], n) => {
            let nanodollars = amount.units() / NANODOLLARS;
            Some(plain(nanodollars as f64 / 1e9, *n))
        }
        Found::Count(count, n) => Some(plain(*count as f64, *n)),
        Found::Nothing(_) => None,
    }
}

fn find(figure: &Figure, figures: &Figures<'_>) -> Found {
    let entry = figure.entry.as_deref();
    let part = match entry {
        Some(entry) => figures.entries.get(entry),
        None => Some(figures.overall),
    };
    let group = figures.scores.and_then(|scores| match entry {
        Some(entry) => scores.by_entry.get(entry),
        None => Some(&scores.overall),
    });
    let nothing = |why: &str| Found::Nothing(why.to_owned());
    let Some(part) = part.filter(|part| part.lines > 0) else {
        return nothing("there are no rows");
    };
    let count = |count: Option<u64>, why| match count {
        Some(count) => Found::Count(count, part.lines),
        None => nothing(why),
    };
    let no_reply = "there was no reply";
    match &figure.kind {
        FigureKind::Failed => Found::Number(failed(part, group)),
        FigureKind::Unanswered => Found::Count(part.lines - part.answered, part.lines),
        FigureKind::Latency(50) => count(part.latency_ms[0], no_reply),
        FigureKind::Latency(90) => count(part.latency_ms[1], no_reply),
        FigureKind::Latency(_) => count(part.latency_ms[2], no_reply),
        FigureKind::Cost | FigureKind::CostPerRow => match part.cost.zip(part.possible) {
            Some((cost, possible)) => {
                let shared = |amount: Usd| match figure.kind {
                    FigureKind::Cost => amount,
                    _ => amount.shared(1, part.lines).unwrap_or(amount),
                };
                Found::Usd([cost, cost + possible].map(shared), part.lines)
            }
            None => nothing("nobody knows what some of the requests cost"),
        },
        FigureKind::Metric(name) if name == "answered" => Found::Number(answered(part, group)),
        kind => match of_scores(kind, group, figures.scores) {
            Some(metric) if metric.n > 0 => Found::Number(metric),
            _ => nothing("there is nothing that it could be of"),
        },
    }
}

/// The share of lines with an answer; its interval is from the scores.
fn answered(part: &Part, group: Option<&Group>) -> Metric {
    let scored = group.and_then(|group| group.metrics.get("answered"));
    let counted = || Metric {
        value: part.answered as f64 / part.lines as f64,
        n: part.lines,
        interval: None,
    };
    scored.copied().unwrap_or_else(counted)
}

fn failed(part: &Part, group: Option<&Group>) -> Metric {
    let answered = answered(part, group);
    let turned = |interval: Interval| Interval {
        low: 1.0 - interval.high,
        high: 1.0 - interval.low,
        ..interval
    };
    Metric {
        value: (part.lines - part.answered) as f64 / part.lines as f64,
        interval: answered.interval.map(turned),
        ..answered
    }
}

fn of_scores(kind: &FigureKind, group: Option<&Group>, scores: Option<&Scores>) -> Option<Metric> {
    let label = |label: &str| group?.labels.get(label);
    match kind {
        FigureKind::Metric(name) => group?.metrics.get(name).copied(),
        FigureKind::Precision(name) => label(name)?.precision,
        FigureKind::Recall(name) => label(name)?.recall,
        FigureKind::F1(name) => label(name)?.f1,
        FigureKind::Alpha => scores?.alpha,
        FigureKind::Kappa => {
            let kappas = &scores?.kappas;
            let sum: f64 = kappas.iter().map(|(_, _, kappa)| kappa.value).sum();
            Some(Metric {
                value: sum / kappas.len() as f64,
                n: kappas.iter().map(|(_, _, kappa)| kappa.n).min()?,
                interval: None,
            })
        }
        _ => None,
    }
}

/// Whether the figure itself keeps to the limit.
fn plainly(threshold: &Threshold, value: f64) -> Verdict {
    let limit = match threshold.limit {
        Limit::Number(limit) => limit,
        Limit::Count(limit) => limit as f64,
        Limit::Usd(_) => return Verdict::Fail,
    };
    of(match threshold.operator {
        Operator::AtLeast => value >= limit - SAME,
        Operator::Above => value > limit + SAME,
        Operator::AtMost => value <= limit + SAME,
        Operator::Below => value < limit - SAME,
        Operator::Is => (value - limit).abs() <= SAME,
    })
}

/// What may have been billed counts as paid where little is wanted, and as not paid where much is.
fn of_money(threshold: &Threshold, [least, most]: [Usd; 2]) -> Verdict {
    let Limit::Usd(limit) = threshold.limit else {
        return Verdict::Fail;
    };
    of(match threshold.operator {
        Operator::AtLeast => least >= limit,
        Operator::Above => least > limit,
        Operator::AtMost => most <= limit,
        Operator::Below => most < limit,
        Operator::Is => least == limit && most == limit,
    })
}

/// Money, with what may have been billed on top: `$1.00 (at most $1.20: some requests may have been billed)`.
fn money([least, most]: [Usd; 2]) -> String {
    if least == most {
        return format!("${least}");
    }
    format!("${least} (at most ${most}: requests that failed may have been billed)")
}

/// Whether the figure keeps to the limit wherever in its interval it truly lies.
fn surely(threshold: &Threshold, metric: &Metric) -> (Verdict, String) {
    let shown = number(metric);
    let Some(interval) = metric.interval else {
        let shown = format!("{shown}, and its interval is not known");
        return (Verdict::Inconclusive, shown);
    };
    let ends = [interval.low, interval.high].map(|end| plainly(threshold, end));
    let verdict = match ends {
        [Verdict::Pass, Verdict::Pass] => Verdict::Pass,
        [Verdict::Fail, Verdict::Fail] => Verdict::Fail,
        _ => Verdict::Inconclusive,
    };
    (verdict, shown)
}

fn of(holds: bool) -> Verdict {
    match holds {
        true => Verdict::Pass,
        false => Verdict::Fail,
    }
}

/// A figure with what it is of: `0.913 of 300 (0.876 to 0.940)`.
fn number(metric: &Metric) -> String {
    let Metric { value, n, interval } = metric;
    match interval {
        Some(Interval { low, high, .. }) => {
            format!("{value:.3} of {n} (with 95 % confidence {low:.3} to {high:.3})")
        }
        None => format!("{value:.3} of {n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{LabelScores, Method};

    fn metric(value: f64, n: u64, ends: Option<(f64, f64)>) -> Metric {
        let method = Method::Wilson;
        Metric {
            value,
            n,
            interval: ends.map(|(low, high)| Interval { low, high, method }),
        }
    }

    fn group(accuracy: Metric) -> Group {
        let mut group = Group::default();
        group.metrics.insert("accuracy".to_owned(), accuracy);
        group
    }

    fn threshold(kind: FigureKind, operator: Operator, limit: Limit) -> Threshold {
        Threshold {
            name: "it".to_owned(),
            figure: Figure { entry: None, kind },
            operator,
            limit,
            surely: false,
        }
    }

    fn accuracy(operator: Operator, limit: f64) -> Threshold {
        let kind = FigureKind::Metric("accuracy".to_owned());
        threshold(kind, operator, Limit::Number(limit))
    }

    fn part() -> Part {
        Part {
            lines: 300,
            answered: 297,
            cost: "2.00".parse().ok(),
            possible: Some(Usd::ZERO),
            latency_ms: [Some(10), Some(20), None],
        }
    }

    fn verdict(threshold: &Threshold, scores: &Scores, part: &Part) -> Verdict {
        let figures = Figures {
            scores: Some(scores),
            overall: part,
            entries: &[("a".to_owned(), part.clone())].into_iter().collect(),
        };
        check(threshold, &figures).verdict
    }

    #[test]
    fn a_threshold_is_of_the_figure_itself() {
        use Operator::{Above, AtLeast, AtMost, Below, Is};
        let scores = Scores {
            overall: group(metric(27.0 / 30.0, 30, Some((0.74, 0.97)))),
            ..Scores::default()
        };
        for (operator, limit, expected) in [
            (AtLeast, 0.9, true),
            (AtLeast, 0.901, false),
            (Above, 0.9, false),
            (Above, 0.899, true),
            (AtMost, 0.9, true),
            (AtMost, 0.899, false),
            (Below, 0.9, false),
            (Below, 0.901, true),
            (Is, 0.9, true),
            (Is, 0.91, false),
        ] {
            let found = verdict(&accuracy(operator, limit), &scores, &part());
            assert_eq!(found, of(expected), "{operator:?} {limit}");
        }
    }

    #[test]
    fn what_may_have_been_billed_counts_against_the_gate() {
        let cost = |operator, limit: &str| {
            let limit = Limit::Usd(limit.parse().expect("an amount"));
            threshold(FigureKind::Cost, operator, limit)
        };
        let part = Part {
            possible: "0.50".parse().ok(),
            ..part()
        };
        let verdict = |operator, limit| verdict(&cost(operator, limit), &Scores::default(), &part);
        assert_eq!(verdict(Operator::AtMost, "2.49"), Verdict::Fail);
        assert_eq!(verdict(Operator::AtMost, "2.50"), Verdict::Pass);
        assert_eq!(verdict(Operator::Below, "2.50"), Verdict::Fail);
        assert_eq!(verdict(Operator::AtLeast, "2.00"), Verdict::Pass);
        assert_eq!(verdict(Operator::Above, "2.00"), Verdict::Fail);
        let told = |part: &Part| {
            let figures = Figures {
                scores: None,
                overall: part,
                entries: &IndexMap::new(),
            };
            check(&cost(Operator::AtMost, "2.10"), &figures).text
        };
        let text = told(&part);
        assert!(text.contains("is $2.00 (at most $2.50: "), "{text}");
        let without_bound = Part {
            possible: None,
            ..part.clone()
        };
        assert!(told(&without_bound).contains("is not known: nobody knows"));
    }

    #[test]
    fn the_long_form_is_of_the_whole_interval() {
        let with = |ends| Scores {
            overall: group(metric(0.9, 300, ends)),
            ..Scores::default()
        };
        for (ends, expected) in [
            (Some((0.88, 0.94)), Verdict::Pass),
            (Some((0.87, 0.94)), Verdict::Inconclusive),
            (Some((0.8, 0.87)), Verdict::Fail),
            (None, Verdict::Inconclusive),
        ] {
            let threshold = Threshold {
                surely: true,
                ..accuracy(Operator::AtLeast, 0.88)
            };
            assert_eq!(
                verdict(&threshold, &with(ends), &part()),
                expected,
                "{ends:?}"
            );
        }
    }

    #[test]
    fn money_and_time_and_counts_are_compared_exactly_and_what_is_not_known_fails() {
        use Operator::{AtMost, Below};
        let scores = Scores::default();
        let cost = |amount: &str, operator| {
            let amount = amount.parse().expect("an amount");
            let threshold = threshold(FigureKind::Cost, operator, Limit::Usd(amount));
            verdict(&threshold, &scores, &part())
        };
        assert_eq!(cost("2.00", AtMost), Verdict::Pass);
        assert_eq!(cost("2.00", Below), Verdict::Fail);
        assert_eq!(cost("1.999999999999999", AtMost), Verdict::Fail);
        let of_part =
            |kind, limit, part: &Part| verdict(&threshold(kind, AtMost, limit), &scores, part);
        let unknown = Part {
            cost: None,
            ..part()
        };
        let dollars = Limit::Usd(Usd::from_units(i128::MAX));
        assert_eq!(of_part(FigureKind::Cost, dollars, &unknown), Verdict::Fail);
        let third = Limit::Usd("0.006666666666667".parse().expect("an amount"));
        assert_eq!(
            of_part(FigureKind::CostPerRow, third, &part()),
            Verdict::Pass
        );
        for (kind, limit, expected) in [
            (FigureKind::Latency(50), 10, Verdict::Pass),
            (FigureKind::Latency(90), 19, Verdict::Fail),
            (FigureKind::Latency(99), 1_000, Verdict::Fail),
            (FigureKind::Unanswered, 3, Verdict::Pass),
            (FigureKind::Unanswered, 2, Verdict::Fail),
        ] {
            assert_eq!(of_part(kind, Limit::Count(limit), &part()), expected);
        }
        let share = Limit::Number(0.01);
        assert_eq!(of_part(FigureKind::Failed, share, &part()), Verdict::Pass);
        let none = Part::default();
        assert_eq!(of_part(FigureKind::Failed, share, &none), Verdict::Fail);
        // No line has a label.
        let at_most = accuracy(AtMost, 1.0);
        assert_eq!(verdict(&at_most, &scores, &part()), Verdict::Fail);
    }

    #[test]
    fn an_entry_and_a_label_have_their_own_figures() {
        let mut scores = Scores {
            overall: group(metric(0.5, 600, None)),
            kappas: [0.2, 0.6]
                .map(|k| ("a".into(), "b".into(), metric(k, 9, None)))
                .into(),
            ..Scores::default()
        };
        let f1 = LabelScores {
            precision: None,
            recall: Some(metric(0.25, 4, None)),
            f1: None,
        };
        let mut of_a = group(metric(0.9, 300, None));
        of_a.labels.insert("bug".to_owned(), f1);
        scores.by_entry.insert("a".to_owned(), of_a);
        let of_entry = |kind: FigureKind, limit| {
            let mut threshold = threshold(kind, Operator::Is, Limit::Number(limit));
            threshold.figure.entry = Some("a".to_owned());
            verdict(&threshold, &scores, &part())
        };
        assert_eq!(
            of_entry(FigureKind::Metric("accuracy".to_owned()), 0.9),
            Verdict::Pass
        );
        assert_eq!(
            of_entry(FigureKind::Recall("bug".to_owned()), 0.25),
            Verdict::Pass
        );
        assert_eq!(
            of_entry(FigureKind::F1("bug".to_owned()), 0.0),
            Verdict::Fail
        );
        let kappa = threshold(FigureKind::Kappa, Operator::Is, Limit::Number(0.4));
        assert_eq!(verdict(&kappa, &scores, &part()), Verdict::Pass);
    }

    #[test]
    fn what_inconclusive_means_is_for_the_job_to_say() {
        let figures = Figures {
            scores: None,
            overall: &part(),
            entries: &IndexMap::new(),
        };
        let unsure = Threshold {
            surely: true,
            ..threshold(FigureKind::Failed, Operator::AtMost, Limit::Number(0.5))
        };
        let mut plan = GatePlan {
            thresholds: vec![unsure],
            ..GatePlan::default()
        };
        assert!(judge(&plan, &figures, None).is_met);
        plan.inconclusive = Inconclusive::Fail;
        let report = judge(&plan, &figures, None);
        assert!(!report.is_met && !report.checks[0].is_met);
        assert_eq!(report.checks[0].verdict, Verdict::Inconclusive);
    }
}
