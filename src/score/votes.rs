//! What the labels say together that one model gave one row.

/// The label that more of them are than any other; `None` where two are as many.
pub(super) fn majority<'a>(labels: &[&'a str]) -> Option<&'a str> {
    let counts = counts(labels);
    let most = counts.iter().map(|(_, count)| *count).max()?;
    let mut first = counts.iter().filter(|(_, count)| *count == most);
    let (label, _) = first.next()?;
    first.next().is_none().then_some(*label)
}

/// The share of pairs that agree; `None` without a pair.
pub(super) fn agreeing(labels: &[&str]) -> Option<f64> {
    let pairs = |n: usize| n * n.saturating_sub(1) / 2;
    let all = pairs(labels.len());
    let alike: usize = counts(labels).iter().map(|(_, count)| pairs(*count)).sum();
    (all > 0).then(|| alike as f64 / all as f64)
}

fn counts<'a>(labels: &[&'a str]) -> Vec<(&'a str, usize)> {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable();
    sorted
        .chunk_by(|one, next| one == next)
        .map(|run| (run[0], run.len()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_is_no_majority() {
        assert_eq!(majority(&["a", "b", "a"]), Some("a"));
        assert_eq!(majority(&["a", "b", "c", "b"]), Some("b"));
        assert_eq!(majority(&["a", "b"]), None);
        assert_eq!(majority(&[]), None);
    }

    #[test]
    fn agreement_is_over_pairs() {
        assert_eq!(agreeing(&["a", "a", "b"]), Some(1.0 / 3.0));
        assert_eq!(agreeing(&["a", "a"]), Some(1.0));
        assert_eq!(agreeing(&["a"]), None);
    }
}
