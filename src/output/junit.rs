//! `junit.xml`, for CI systems: a suite of the gate's checks, and one of the rows that fell short.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::frame::Frame;
use super::report::Report;
use crate::words::{GateCheck, ResultLine, Status, Verdict, steers};

/// The file's name.
pub(super) const NAME: &str = "junit.xml";

/// So many rows are shown each for itself: nobody reads more, and the page of a CI system has to bear them.
const SHOWN: usize = 500;
/// What is shown of a text, in characters.
const LONGEST: usize = 400;

/// The rows that fell short, as far as they are shown.
pub(super) struct Rows {
    entries: Vec<String>,
    scorers: Vec<String>,
    asking: Vec<usize>,
    repeats: bool,
    shown: Vec<Short>,
    /// How many more there are without an answer or a score, and with a wrong answer.
    more: [u64; 2],
    good: u64,
}

/// A row that fell short.
struct Short {
    name: String,
    /// Whether it has an answer, which is known to be a wrong one.
    is_wrong: bool,
    why: String,
    details: String,
}

impl Rows {
    /// None yet.
    pub(super) fn of(frame: &Frame) -> Self {
        Self {
            entries: frame.entries.clone(),
            scorers: frame.scorers.clone(),
            asking: frame.asking.clone(),
            repeats: frame.repeat > 1,
            shown: Vec::new(),
            more: [0, 0],
            good: 0,
        }
    }

    /// Looks at a line of the results.
    pub(super) fn add(&mut self, line: &ResultLine<'_>) {
        let answered = line.outcome.status == Status::Answered;
        let scores = &line.marks.scores;
        let lacks = self.asking.iter().any(|at| scores.get(*at) == Some(&None));
        let is_whole = answered && !lacks;
        if is_whole && scores.iter().flatten().all(|score| *score >= 1.0) {
            self.good += 1;
        } else if self.shown.len() < SHOWN {
            let short = self.short(line, is_whole);
            self.shown.push(short);
        } else {
            self.more[usize::from(is_whole)] += 1;
        }
    }

    fn short(&self, line: &ResultLine<'_>, is_wrong: bool) -> Short {
        let item = &line.outcome.item;
        let mut name = item.row.id.clone();
        if let (Some(entry), true) = (
            self.entries.get(item.entry as usize),
            self.entries.len() > 1,
        ) {
            name.push_str(&format!(" [{entry}]"));
        }
        if self.repeats {
            name.push_str(&format!(" #{}", item.repeat + 1));
        }
        let answered = line.outcome.status == Status::Answered;
        let why = match (answered, line.outcome.failure()) {
            (true, _) => self.scores(line),
            (false, Some((class, error))) => {
                format!("{}: {class}: {error}", line.outcome.status.as_str())
            }
            (false, None) => line.outcome.status.as_str().to_owned(),
        };
        let mut details = Vec::new();
        if let Some(gold) = &line.marks.gold {
            details.push(format!("expected: {gold}"));
        }
        if let Some(answer) = line.answer() {
            details.push(format!("answer: {answer}"));
        }
        details.extend(line.marks.remarks.iter().flatten().cloned());
        let details: Vec<String> = details.iter().map(|line| plain(line)).collect();
        Short {
            name: plain(&name),
            is_wrong,
            why: plain(&why),
            details: details.join("\n"),
        }
    }

    /// The scores that are not full, or not there: `equals 0, judge 0.5`, `no score of judge`.
    fn scores(&self, line: &ResultLine<'_>) -> String {
        let scores = self.scorers.iter().zip(&line.marks.scores).enumerate();
        let short = scores.filter_map(|(at, (name, score))| match score {
            Some(score) => (*score < 1.0).then(|| format!("{name} {score}")),
            None => {
                let is_asked = self.asking.contains(&at);
                is_asked.then(|| format!("no score of {name}"))
            }
        });
        short.collect::<Vec<_>>().join(", ")
    }

    /// The whole file. What the run as a whole puts up with is shown as skipped: the file is as red as the exit code.
    pub(super) fn render(self, report: &Report, exit_code: u8) -> String {
        let mut junit = Junit::new(plain(&report.job));
        let gate = report.gate.as_ref();
        if let Some(gate) = gate {
            let mut suite = TestSuite::new("gate");
            suite.add_test_cases(gate.checks.iter().map(check));
            junit.add_test_suite(suite);
        }
        let forgiven = Forgiven {
            unknown: [0, 7].contains(&exit_code),
            wrong: gate.is_none_or(|gate| gate.is_met),
        };
        junit.add_test_suite(self.suite(&forgiven));
        let text = junit.to_string();
        text.expect("writing to memory does not fail")
    }

    fn suite(self, forgiven: &Forgiven) -> TestSuite {
        let mut suite = TestSuite::new("rows");
        let case = |name: &str, status| {
            let mut case = TestCase::new(name, status);
            case.set_classname("rows");
            case
        };
        suite.add_test_case(case(
            &match self.good {
                1 => "1 row as wanted".to_owned(),
                rows => format!("{rows} rows as wanted"),
            },
            TestCaseStatus::success(),
        ));
        for short in &self.shown {
            let mut status = forgiven.status(short.is_wrong);
            status.set_message(short.why.as_str());
            if !short.details.is_empty() {
                status.set_description(short.details.as_str());
            }
            suite.add_test_case(case(&short.name, status));
        }
        let without = match self.asking.is_empty() {
            true => "without an answer",
            false => "without an answer or a score",
        };
        for (is_wrong, what) in [(false, without), (true, "with a wrong answer")] {
            let count = self.more[usize::from(is_wrong)];
            if count > 0 {
                let mut status = forgiven.status(is_wrong);
                status.set_message("the results have them all");
                suite.add_test_case(case(&format!("{count} more rows {what}"), status));
            }
        }
        suite
    }
}

/// Which rows that fell short do not fail the run.
struct Forgiven {
    /// Without an answer, or without a score that somebody was to give.
    unknown: bool,
    wrong: bool,
}

impl Forgiven {
    fn status(&self, is_wrong: bool) -> TestCaseStatus {
        let forgiven = match is_wrong {
            true => self.wrong,
            false => self.unknown,
        };
        match forgiven {
            true => TestCaseStatus::skipped(),
            false => TestCaseStatus::non_success(NonSuccessKind::Failure),
        }
    }
}

fn check(check: &GateCheck) -> TestCase {
    let mut status = match (check.verdict, check.is_met) {
        (Verdict::Pass, _) => TestCaseStatus::success(),
        (_, true) => TestCaseStatus::skipped(),
        (_, false) => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    if check.verdict != Verdict::Pass {
        let unsure = match check.verdict {
            Verdict::Inconclusive => "inconclusive: ",
            _ => "",
        };
        status.set_message(format!("{unsure}{}", plain(&check.text)));
    }
    let mut case = TestCase::new(plain(&check.name), status);
    case.set_classname("gate");
    case
}

/// Text from outside on one line, without what steers and what XML cannot hold, and not too long.
fn plain(text: &str) -> String {
    let held = |c: char| match c {
        c if steers(c) => ' ',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c => c,
    };
    let mut plain: String = text.chars().take(LONGEST).map(held).collect();
    if text.chars().nth(LONGEST).is_some() {
        plain.push('…');
    }
    plain
}
