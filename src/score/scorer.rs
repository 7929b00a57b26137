//! What an answer is worth that needs nobody's opinion: it is compared with what the job wants of it.

use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;

use crate::answer::{Place, Reader, expression, last_number};
use crate::job::{Ignore, ScorerKind, Tolerance, Wanted};
use crate::template::Template;
use crate::words::Row;

/// A scorer that looks at an answer.
#[derive(Debug)]
pub struct Matcher {
    place: Option<Place>,
    wanted: Compiled,
}

#[derive(Debug)]
enum Compiled {
    Equals(Template, Vec<Ignore>),
    Contains(Vec<Template>, Vec<Ignore>),
    Regex(Template, LastPattern),
    Number(Template, Tolerance),
    Something,
}

/// The expression of the last row: most jobs have the same one for all rows, and reading it takes longer than looking
/// for it.
#[derive(Debug, Default)]
struct LastPattern(Mutex<Option<(String, Read)>>);

/// An expression, or why it is none.
type Read = Result<Regex, String>;

impl LastPattern {
    fn expression(&self, pattern: &str) -> Read {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((same, read)) if same == pattern => read.clone(),
            _ => {
                let read = expression(pattern);
                *last = Some((pattern.to_owned(), read.clone()));
                read
            }
        }
    }
}

/// What an answer is worth.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// From 0 to 1; `None` where nobody can tell.
    pub score: Option<f64>,
    /// What it should be, where it should be one thing.
    pub expected: Option<String>,
    /// Why nobody can tell, or what else is worth saying.
    pub remark: Option<String>,
}

impl Score {
    fn of(is_right: bool) -> Self {
        Self {
            score: Some(f64::from(u8::from(is_right))),
            ..Self::default()
        }
    }

    fn unknown(remark: impl Into<String>) -> Self {
        Self {
            remark: Some(remark.into()),
            ..Self::default()
        }
    }

    fn expecting(self, expected: impl Into<String>) -> Self {
        Self {
            expected: Some(expected.into()),
            ..self
        }
    }
}

impl Matcher {
    /// The scorer, if it is one that looks at the answer alone.
    pub fn of(kind: &ScorerKind) -> Option<Self> {
        let ScorerKind::Match { json_path, wanted } = kind else {
            return None;
        };
        let template = |text: &String| {
            Template::compile(text).expect("templates were compiled when the job was read")
        };
        let place = json_path.as_ref();
        let place =
            place.map(|place| Place::parse(place).expect("places were read when the job was"));
        let wanted = match wanted {
            Wanted::Equals { text, ignore } => Compiled::Equals(template(text), ignore.clone()),
            Wanted::Contains { texts, ignore } => {
                Compiled::Contains(texts.iter().map(template).collect(), ignore.clone())
            }
            Wanted::Regex(pattern) => Compiled::Regex(template(pattern), LastPattern::default()),
            Wanted::Number { text, tolerance } => Compiled::Number(template(text), *tolerance),
            Wanted::Something => Compiled::Something,
        };
        Some(Self { place, wanted })
    }

    /// Whether it says what an answer should be.
    pub fn expects(&self) -> bool {
        matches!(self.wanted, Compiled::Equals(..) | Compiled::Number(..))
    }

    /// Whether it compares the whole answer with one text: what labels are judged by.
    pub fn is_of_labels(&self) -> bool {
        self.place.is_none() && matches!(self.wanted, Compiled::Equals(..))
    }

    /// What a row's answer is worth; without a valid one nothing, if the row says what it should be. `reader`: what
    /// reads the job's answers.
    pub fn score(&self, row: &Arc<Row>, answer: Option<&str>, reader: Option<&Reader>) -> Score {
        let found = match (&self.place, answer) {
            (Some(place), Some(answer)) => serde_json::from_str(answer)
                .ok()
                .and_then(|json| place.find(&json)),
            (_, answer) => answer.map(str::to_owned),
        };
        match self.compared(row, found.as_deref(), reader) {
            Ok(score) => score,
            Err(error) => Score::unknown(format!("what is wanted cannot be rendered: {error}")),
        }
    }

    fn compared(
        &self,
        row: &Arc<Row>,
        found: Option<&str>,
        reader: Option<&Reader>,
    ) -> Result<Score, String> {
        let render = |template: &Template| template.render(row).map_err(|error| error.to_string());
        Ok(match &self.wanted {
            Compiled::Something => Score::of(found.is_some()),
            Compiled::Equals(template, ignore) => {
                let wanted = render(template)?;
                if wanted.trim().is_empty() {
                    return Ok(Score::unknown(NOTHING_WANTED));
                }
                // A label is known in whatever spelling the input has it.
                let label = reader.filter(|_| self.place.is_none());
                let wanted = label
                    .and_then(|reader| reader.read(&wanted).ok())
                    .unwrap_or(wanted);
                let same = |found: &str| normal(found, ignore) == normal(&wanted, ignore);
                Score::of(found.is_some_and(same)).expecting(wanted.trim())
            }
            Compiled::Contains(templates, ignore) => {
                let wanted = templates
                    .iter()
                    .map(render)
                    .collect::<Result<Vec<_>, _>>()?;
                let wanted: Vec<&String> = wanted
                    .iter()
                    .filter(|text| !text.trim().is_empty())
                    .collect();
                if wanted.is_empty() {
                    return Ok(Score::unknown(NOTHING_WANTED));
                }
                let found = found.map(|found| normal(found, ignore));
                let all = found.is_some_and(|found| {
                    wanted
                        .iter()
                        .all(|text| found.contains(&normal(text, ignore)))
                });
                Score::of(all)
            }
            Compiled::Regex(template, last) => {
                let pattern = render(template)?;
                if pattern.is_empty() {
                    return Ok(Score::unknown(NOTHING_WANTED));
                }
                match last.expression(&pattern) {
                    Ok(pattern) => Score::of(found.is_some_and(|found| pattern.is_match(found))),
                    Err(error) => {
                        Score::unknown(format!("the pattern is no regular expression: {error}"))
                    }
                }
            }
            Compiled::Number(template, tolerance) => {
                let wanted = render(template)?;
                if wanted.trim().is_empty() {
                    return Ok(Score::unknown(NOTHING_WANTED));
                }
                let Some((digits, value)) = last_number(&wanted) else {
                    return Ok(Score::unknown(format!("{wanted:?} is no number")));
                };
                let most = match tolerance {
                    Tolerance::Absolute(most) => *most,
                    Tolerance::Relative(share) => share * value.abs(),
                };
                // Not off by what is lost where numbers are held in binary.
                let slack = 1e-9 * value.abs().max(most).max(f64::MIN_POSITIVE);
                let close = |(_, found): (String, f64)| (found - value).abs() <= most + slack;
                Score::of(found.and_then(last_number).is_some_and(close)).expecting(digits)
            }
        })
    }
}

/// Why a row is not scored that is none of those to be scored.
pub const NOTHING_WANTED: &str = "the row does not say what is wanted";

/// The text without what makes no difference.
fn normal(text: &str, ignore: &[Ignore]) -> String {
    let mut text = text.to_owned();
    if ignore.contains(&Ignore::Punctuation) {
        text.retain(|c| c.is_alphanumeric() || c.is_whitespace());
    }
    if ignore.contains(&Ignore::Case) {
        text = text.to_lowercase();
    }
    if ignore.contains(&Ignore::Space) {
        text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Form;
    use crate::words::{Columns, Digest};

    fn row(cell: &str) -> Arc<Row> {
        Arc::new(Row {
            index: 0,
            id: "1".to_owned(),
            columns: Arc::new(Columns::new(vec!["gold".to_owned()])),
            cells: vec![cell.to_owned()],
            key: Digest::default(),
        })
    }

    fn score(wanted: Wanted, place: Option<&str>, gold: &str, answer: &str) -> Option<f64> {
        let json_path = place.map(str::to_owned);
        let matcher = Matcher::of(&ScorerKind::Match { json_path, wanted }).unwrap();
        matcher.score(&row(gold), Some(answer), None).score
    }

    fn gold() -> String {
        "{{ gold }}".to_owned()
    }

    #[test]
    fn texts_are_the_same_but_for_what_makes_no_difference() {
        let equals = |ignore: &[Ignore], gold_text: &str, answer: &str| {
            let ignore = ignore.to_vec();
            score(
                Wanted::Equals {
                    text: gold(),
                    ignore,
                },
                None,
                gold_text,
                answer,
            )
        };
        use Ignore::{Case, Punctuation, Space};
        assert_eq!(equals(&[Space], "New York", " New  York\n"), Some(1.0));
        assert_eq!(equals(&[Space], "New York", "new york"), Some(0.0));
        assert_eq!(equals(&[Space, Case], "New York", "new york"), Some(1.0));
        assert_eq!(
            equals(&[Space, Case, Punctuation], "New York", "“New York”, NY"),
            Some(0.0)
        );
        assert_eq!(
            equals(&[Space, Case, Punctuation], "New York!", "\"new york.\""),
            Some(1.0)
        );
        assert_eq!(equals(&[], "a", "a "), Some(0.0));
        // A row without a gold value is not scored.
        assert_eq!(equals(&[Space], " ", "a"), None);
        let contains = |texts: &[&str], answer: &str| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            score(
                Wanted::Contains {
                    texts,
                    ignore: vec![Case],
                },
                None,
                "b",
                answer,
            )
        };
        assert_eq!(contains(&["A", "{{ gold }}"], "xaxbx"), Some(1.0));
        assert_eq!(contains(&["A", "{{ gold }}"], "xa"), Some(0.0));
        let regex = |answer: &str| {
            score(
                Wanted::Regex("^{{ gold }}+$".to_owned()),
                None,
                "ab",
                answer,
            )
        };
        assert_eq!((regex("abb"), regex("ba")), (Some(1.0), Some(0.0)));
        let regex = score(Wanted::Regex(gold()), None, "(", "x");
        assert_eq!(regex, None);
    }

    #[test]
    fn numbers_are_found_in_what_stands_around_them_and_may_be_off_by_a_tolerance() {
        let number = |tolerance, gold_text: &str, answer: &str| {
            score(
                Wanted::Number {
                    text: gold(),
                    tolerance,
                },
                None,
                gold_text,
                answer,
            )
        };
        use Tolerance::{Absolute, Relative};
        assert_eq!(
            number(Absolute(0.0), "18", "So she makes $18 a day."),
            Some(1.0)
        );
        assert_eq!(
            number(Absolute(0.0), "steps\n#### 1,234", "#### 1234.0"),
            Some(1.0)
        );
        assert_eq!(number(Absolute(0.0), "18", "17 or 19"), Some(0.0));
        assert_eq!(number(Absolute(0.1), "0.3", "0.4"), Some(1.0));
        assert_eq!(number(Absolute(0.1), "0.3", "0.41"), Some(0.0));
        assert_eq!(number(Relative(0.01), "-200", "-198"), Some(1.0));
        assert_eq!(number(Relative(0.01), "-200", "-197.9"), Some(0.0));
        assert_eq!(number(Absolute(1.0), "5", "none"), Some(0.0));
        assert_eq!(number(Absolute(1.0), "none", "5"), None);
    }

    #[test]
    fn a_place_in_json_is_looked_at_and_a_label_in_any_spelling_is_one() {
        let equals = || Wanted::Equals {
            text: gold(),
            ignore: Vec::new(),
        };
        let answer = r#"{"a": {"b": ["x", 2]}}"#;
        assert_eq!(score(equals(), Some("$.a.b[0]"), "x", answer), Some(1.0));
        assert_eq!(score(equals(), Some("/a/b/1"), "2", answer), Some(1.0));
        assert_eq!(score(equals(), Some("$.z"), "x", answer), Some(0.0));
        assert_eq!(score(equals(), Some("$.z"), "x", "no json"), Some(0.0));
        assert_eq!(score(Wanted::Something, Some("$.a"), "", answer), Some(1.0));
        assert_eq!(score(Wanted::Something, Some("$.z"), "", answer), Some(0.0));
        let labels = vec!["Bug".to_owned(), "other".to_owned()];
        let reader = Reader::new(Form::Labels {
            labels,
            abstain: None,
        })
        .unwrap();
        let wanted = equals();
        let matcher = Matcher::of(&ScorerKind::Match {
            json_path: None,
            wanted,
        })
        .unwrap();
        let found = matcher.score(&row("bug"), Some("Bug"), Some(&reader));
        assert_eq!(
            (found.score, found.expected.as_deref()),
            (Some(1.0), Some("Bug"))
        );
        let found = matcher.score(&row("bug"), None, Some(&reader));
        assert_eq!(found.score, Some(0.0));
    }
}
