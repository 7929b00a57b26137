//! What several answers to a row come to.

use crate::words::DecidedBy;

/// The answer that counts of these (`None`: not a valid one, or one that decides nothing), how it came to count, and
/// which share of all of them it is. `escalated`: what those said who are asked where the others disagree.
pub fn consensus(
    answers: &[Option<String>],
    escalated: Option<String>,
) -> (Option<String>, DecidedBy, f64) {
    let count = |label: &str| {
        let same = answers.iter().flatten().filter(|answer| *answer == label);
        same.count()
    };
    let share = |label: &str| count(label) as f64 / answers.len().max(1) as f64;
    if let Some(label) = escalated {
        let agreement = share(&label);
        return (Some(label), DecidedBy::Escalation, agreement);
    }
    let most = answers.iter().flatten().map(|label| count(label)).max();
    let mut winners: Vec<&String> = answers
        .iter()
        .flatten()
        .filter(|label| Some(count(label)) == most)
        .collect();
    winners.sort();
    winners.dedup();
    match winners[..] {
        [label] => {
            let by = match most == Some(answers.len()) {
                true => DecidedBy::Unanimous,
                false => DecidedBy::Majority,
            };
            (Some(label.clone()), by, share(label))
        }
        _ => {
            let best = winners.first().map_or(0.0, |label| share(label));
            (None, DecidedBy::Nobody, best)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_answer_counts_unless_two_are_or_somebody_decides() {
        let of = |answers: &[&str], escalated: Option<&str>| {
            let answer = |text: &&str| (*text != "-").then(|| (*text).to_owned());
            let answers: Vec<_> = answers.iter().map(answer).collect();
            let (label, by, agreement) = consensus(&answers, escalated.map(str::to_owned));
            (label.unwrap_or_default(), by.as_str(), agreement)
        };
        let said = |label: &str, by, agreement| (label.to_owned(), by, agreement);
        assert_eq!(of(&["a", "a"], None), said("a", "unanimous", 1.0));
        assert_eq!(of(&["a", "b", "a", "-"], None), said("a", "majority", 0.5));
        assert_eq!(of(&["a", "b"], None), said("", "nobody", 0.5));
        assert_eq!(of(&["a", "b"], Some("b")), said("b", "escalated", 0.5));
        assert_eq!(of(&["a", "-"], None), said("a", "majority", 0.5));
        assert_eq!(of(&["-", "-"], None), said("", "nobody", 0.0));
        assert_eq!(of(&["-"], Some("c")), said("c", "escalated", 0.0));
    }
}
