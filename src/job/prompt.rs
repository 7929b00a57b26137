//! The prompt: messages, their templates, and the very place where a template or an expression goes wrong.

use std::ops::Range;

use super::decode::{At, need};
use super::read::{Job, read_text};
use super::source::{Source, Span};
use super::written::{MessageKeys, Prompt, PromptKeys};
use super::{MessageTemplate, Problem, Problems, suggest};
use crate::template::{Condition, Template};
use crate::words::{Columns, Role};

/// What to do about a template that cannot be read.
const BRACES: &str =
    "a column is written `{{ name }}`; braces that are text are written `{{ \"{{\" }}`";

/// Which names a template may use.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The input's columns; `None` where they are not known, and then any name will do.
    pub columns: Option<&'a Columns>,
    /// Further names.
    pub also: &'a [&'a str],
}

/// The messages of the prompt, system messages first; empty where there is a problem.
pub fn resolve(job: &Job, names: Names<'_>, problems: &mut Vec<Problem>) -> Vec<MessageTemplate> {
    let Some(prompt) = &job.keys.prompt else {
        if job.keys.written.key("prompt").is_none() {
            let problem = job.start.problem("the job has no `prompt`");
            problems.push(problem.help("say what to ask for each row: `prompt: \"{{ column }}\"`"));
        }
        return Vec::new();
    };
    let mut messages = match &prompt.value {
        Prompt::User(text) => vec![message(Role::User, text, &prompt.span, names, problems)],
        Prompt::Keys(keys) => from_keys(job, keys, &prompt.span, names, problems),
    };
    // A stable sort: the order among the others stays.
    messages.sort_by_key(|message| message.as_ref().is_some_and(|m| m.role != Role::System));
    messages.into_iter().flatten().collect()
}

fn from_keys(
    job: &Job,
    keys: &PromptKeys,
    prompt: &Span,
    names: Names<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Option<MessageTemplate>> {
    let ways = ["user", "messages", "file"];
    let mut written = ways
        .iter()
        .filter_map(|way| Some((way, keys.written.key(way)?)));
    match (written.next(), written.next()) {
        (None, _) => {
            let problem = prompt.problem("the prompt asks nothing");
            problems.push(problem.help("write one of `user`, `messages` and `file`"));
        }
        (Some((first, _)), Some((second, span))) => {
            let problem = span.problem(format!("`{first}` and `{second}` exclude each other"));
            problems.push(problem.help("keep one of the two"));
        }
        _ => {}
    }
    if let (Some(span), Some(_)) = (keys.written.key("system"), keys.written.key("messages")) {
        let problem = span.problem("`system` and `messages` exclude each other");
        problems.push(problem.help("make it a message with `role: system`"));
    }
    let mut messages = Vec::new();
    if let Some(At { value, span }) = &keys.system {
        messages.push(message(Role::System, value, span, names, problems));
    }
    if let Some(At { value, span }) = &keys.user {
        messages.push(message(Role::User, value, span, names, problems));
    }
    if let Some(file) = &keys.file {
        messages.push(from_file(job, file, names, problems));
    }
    if let Some(list) = &keys.messages {
        messages.extend(list.value.0.iter().map(|item| turn(item, names, problems)));
        let asks = |item: &At<MessageKeys>| {
            item.value
                .role
                .as_ref()
                .is_none_or(|r| r.value == Role::User)
        };
        if !list.value.0.iter().any(asks) {
            let place = keys.written.key("messages").unwrap_or(&list.span);
            let problem = place.problem("no message has the role `user`");
            problems.push(problem.help("add `- { role: user, content: ... }`"));
        }
    }
    messages
}

fn turn(
    item: &At<MessageKeys>,
    names: Names<'_>,
    problems: &mut Vec<Problem>,
) -> Option<MessageTemplate> {
    need(item, "message", &["role", "content"], problems);
    let content = item.value.content.as_ref()?;
    let role = item
        .value
        .role
        .as_ref()
        .map_or(Role::User, |role| role.value);
    message(role, &content.value, &content.span, names, problems)
}

fn from_file(
    job: &Job,
    file: &At<String>,
    names: Names<'_>,
    problems: &mut Vec<Problem>,
) -> Option<MessageTemplate> {
    let path = job.folder().join(&file.value);
    match read_text(&path) {
        Ok(text) => {
            let source = Source::new(path.display().to_string(), text);
            let whole = source.span(0, source.text.len());
            message(Role::User, &source.text, &whole, names, problems)
        }
        Err(Problems(found)) => {
            problems.extend(found.into_iter().map(|problem| match problem.place {
                Some(_) => problem,
                None => {
                    let help = problem.help;
                    let help = help.unwrap_or("paths are relative to the job file".to_owned());
                    file.span.problem(problem.message).help(help)
                }
            }));
            None
        }
    }
}

fn message(
    role: Role,
    text: &str,
    span: &Span,
    names: Names<'_>,
    problems: &mut Vec<Problem>,
) -> Option<MessageTemplate> {
    let content = template(text, span, names, problems)?;
    let place = Some(span.place());
    Some(MessageTemplate {
        role,
        content,
        place,
    })
}

/// Compiles a template and checks the names that it uses.
pub fn template(
    text: &str,
    span: &Span,
    names: Names<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Template> {
    let template = match Template::compile(text) {
        Ok(template) => template,
        Err(error) => {
            let place = part_of(span, text, error.range);
            let problem = place.problem(format!("template: {}", error.message));
            problems.push(match bare_column(text, names.columns) {
                Some(column) => problem.help(format!("write `{{{{ row[\"{column}\"] }}}}`")),
                None if error.message.contains("ends too early") && text.contains("{%") => {
                    problem.help("a block such as `{% if ... %}` goes on to its `{% endif %}`")
                }
                None => problem.help(BRACES),
            });
            return None;
        }
    };
    let Some(columns) = names.columns else {
        return Some(template);
    };
    let before = problems.len();
    for name in template.unknown_names(columns, names.also) {
        let problem = use_of(span, &name).problem(format!("there is no column `{name}`"));
        problems.push(advise(problem, &name, columns, names.also));
    }
    (problems.len() == before).then_some(template)
}

/// Compiles an expression over the row and checks the names that it uses.
pub fn condition(
    text: &str,
    span: &Span,
    columns: Option<&Columns>,
    problems: &mut Vec<Problem>,
) -> Option<Condition> {
    let help = "leave `when` out where the rule is for every row";
    if text.trim().is_empty() {
        problems.push(span.problem("`when` says nothing").help(help));
        return None;
    }
    let condition = match Condition::compile(text) {
        Ok(condition) => condition,
        Err(error) => {
            let place = part_of(span, text, error.range);
            let problem = place.problem(format!("`when`: {}", error.message));
            problems.push(problem.help(match compares_with_one_sign(text) {
                true => "two values are compared with `==`",
                false => "write an expression over the columns, such as `tier == \"premium\"`",
            }));
            return None;
        }
    };
    if condition.is_constant() {
        let problem = span.problem("`when` reads no column: it is the same for every row");
        problems.push(problem.help(help));
    }
    let Some(columns) = columns else {
        return Some(condition);
    };
    let before = problems.len();
    for name in condition.unknown_names(columns) {
        let quoted = |before: &str, after: &str| {
            before.ends_with(['"', '\'']) && after.starts_with(['"', '\''])
        };
        let place = word(span, &name, |before, after| !quoted(before, after));
        let problem = place.problem(format!("there is no column `{name}`"));
        problems.push(advise(problem, &name, columns, &[]));
    }
    (problems.len() == before).then_some(condition)
}

/// Whether there is a `=` of its own.
fn compares_with_one_sign(expression: &str) -> bool {
    let rest = ["==", "!=", "<=", ">="].iter();
    rest.fold(expression.to_owned(), |text, sign| text.replace(sign, ""))
        .contains('=')
}

/// The column that stands in a template's braces as if its name were an identifier.
fn bare_column<'a>(text: &str, columns: Option<&'a Columns>) -> Option<&'a str> {
    let blocks = text
        .split("{{")
        .skip(1)
        .filter_map(|block| block.split("}}").next());
    let inside: Vec<&str> = blocks
        .map(|block| block.split('|').next().unwrap_or("").trim())
        .collect();
    let names = columns?.names().iter().map(String::as_str);
    names
        .into_iter()
        .find(|name| name.contains([' ', '-', '.']) && inside.contains(name))
}

fn advise(problem: Problem, name: &str, columns: &Columns, also: &[&str]) -> Problem {
    let as_identifier = |column: &str| -> String {
        let letters = column
            .trim()
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' });
        letters.collect::<String>().to_lowercase()
    };
    let columns: Vec<&str> = columns.names().iter().map(String::as_str).collect();
    // A column whose name is no identifier can only be read through `row`.
    let spelled = columns.iter().find(|column| {
        as_identifier(column) == name.to_lowercase()
            && as_identifier(column) != column.to_lowercase()
    });
    if let Some(column) = spelled {
        return problem.help(format!("did you mean `row[\"{column}\"]`?"));
    }
    let all: Vec<&str> = columns.iter().chain(also).copied().collect();
    suggest::among(problem, name, &all)
}

/// These bytes of a text, where the job file has them; all of it where YAML wrote it otherwise (folded, or with escapes).
fn part_of(span: &Span, text: &str, range: Option<Range<usize>>) -> Span {
    let place = || {
        let range = range?;
        let written = span.text();
        let line_start = text.get(..range.start)?.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next()?;
        let number = text[..line_start].matches('\n').count();
        let (at, shown) = match text.contains('\n') {
            // A block has each line of the text as a line of its own, further in.
            true if written.lines().count() >= text.lines().count() => {
                let before: usize = written
                    .split_inclusive('\n')
                    .take(number)
                    .map(str::len)
                    .sum();
                (before, written[before..].lines().next()?)
            }
            true => return None,
            false => (0, written),
        };
        let start = span.start + at + shown.find(line)? + (range.start - line_start);
        // What goes on for lines is shown by its first.
        let length = range.len().min(line.len() - (range.start - line_start));
        Some(span.source.span(start, start + length))
    };
    place().unwrap_or_else(|| span.clone())
}

/// The first use of a name inside the braces of a template.
pub fn use_of(span: &Span, name: &str) -> Span {
    word(span, name, |before, _| {
        let opened = before.rfind("{{").max(before.rfind("{%"));
        let closed = before.rfind("}}").max(before.rfind("%}"));
        opened > closed
    })
}

/// The first place where this name stands as a word of its own, if what is before and after it will do.
fn word(span: &Span, name: &str, will_do: impl Fn(&str, &str) -> bool) -> Span {
    let text = span.text();
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let found = text.match_indices(name).find(|(at, _)| {
        let (before, after) = (&text[..*at], &text[at + name.len()..]);
        will_do(before, after)
            && !before.ends_with(|c: char| in_word(c) || c == '.')
            && !after.starts_with(in_word)
    });
    match found {
        Some((at, _)) => span
            .source
            .span(span.start + at, span.start + at + name.len()),
        None => span.clone(),
    }
}
