//! Settings as YAML, each with where it is from.

use crate::engine::yaml::{block, comment, flow, scalar};
use crate::job::{Setting, Step};

/// Where the remarks begin, if the lines before them are not longer.
const REMARKS: usize = 44;

/// The settings as YAML; `about` has more to say of a backend.
pub(super) fn yaml(settings: &[Setting], about: &dyn Fn(&str) -> Vec<String>) -> String {
    let mut yaml = String::new();
    let mut above: &[Step] = &[];
    for setting in settings {
        let Some((last, parents)) = setting.path.split_last() else {
            continue;
        };
        let shared = above
            .iter()
            .zip(&setting.path)
            .take_while(|(a, b)| a == b)
            .count();
        // What begins an item of a list has the dash.
        let mut dash = false;
        for (depth, step) in parents.iter().enumerate().skip(shared) {
            match step {
                Step::Item(_) => dash = true,
                Step::Key(key) => {
                    line(&mut yaml, depth, dash, &format!("{}:", scalar(key)), "");
                    dash = false;
                    if let [Step::Key(top), Step::Key(name)] = &setting.path[..=depth]
                        && top == "backends"
                    {
                        for remark in about(name) {
                            let text = format!("# {}", comment(&remark));
                            line(&mut yaml, depth + 1, false, &text, "");
                        }
                    }
                }
            }
        }
        let depth = parents.len();
        let from = setting.from.to_string();
        let (begin, dash) = match last {
            Step::Key(key) => (format!("{}: ", scalar(key)), dash),
            Step::Item(_) => ("- ".to_owned(), false),
        };
        let text = setting.value.as_str();
        match text.and_then(|text| block(text, 2 * depth + 2)) {
            Some((mark, lines)) => {
                line(&mut yaml, depth, dash, &format!("{begin}{mark}"), &from);
                yaml.push_str(&lines);
            }
            None => line(
                &mut yaml,
                depth,
                dash,
                &format!("{begin}{}", flow(&setting.value)),
                &from,
            ),
        }
        above = &setting.path;
    }
    yaml
}

/// One line. A step into an item of a list takes no depth of its own: the dash stands where it would begin.
fn line(yaml: &mut String, depth: usize, dash: bool, text: &str, from: &str) {
    let indent = "  ".repeat(depth.saturating_sub(usize::from(dash)));
    let line = format!("{indent}{}{text}", if dash { "- " } else { "" });
    match from {
        "" => yaml.push_str(&line),
        from => yaml.push_str(&format!("{line:<REMARKS$} # {}", comment(from))),
    }
    yaml.push('\n');
}
