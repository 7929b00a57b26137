//! "Did you mean …?"

use super::Problem;

/// The problem with the best advice there is: the candidate that was probably meant, else all.
pub fn among(problem: Problem, name: &str, candidates: &[&str]) -> Problem {
    match closest(name, candidates) {
        Some(close) => problem.help(format!("did you mean `{close}`?")),
        None if candidates.is_empty() => problem,
        None => problem.help(there_are(candidates)),
    }
}

/// The candidate that was probably meant.
pub fn closest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name, &candidate.to_lowercase());
    let (distance, close) = candidates
        .iter()
        .map(|candidate| (distance(candidate), *candidate))
        .min()?;
    let longest = name.chars().count().max(close.chars().count());
    (distance <= 1.max(longest / 3)).then_some(close)
}

/// All that there is, as a sentence.
pub fn there_are(names: &[&str]) -> String {
    match names {
        [only] => format!("there is only `{only}`"),
        names => format!("there are {}", list(names)),
    }
}

/// The names as prose: "`a`, `b` and `c`".
pub fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised_and_another_word_is_not() {
        let keys = ["fallback", "retry", "timeout", "url"];
        assert_eq!(closest("falback", &keys), Some("fallback"));
        assert_eq!(closest("Retry", &keys), Some("retry"));
        assert_eq!(closest("uri", &keys), Some("url"));
        assert_eq!(closest("matrix", &keys), None);
    }
}
