//! What is wrong with a job, where, and what to do about it.

use std::borrow::Cow;
use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::words::steers;

/// A place in a file: what a person needs to find it and to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's path as the user would write it.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub width: usize,
    /// The whole line.
    pub source: String,
}

impl Place {
    /// The same with nothing in it that a terminal would obey; every character of the line keeps its column.
    fn harmless(&self) -> Self {
        let shown = |c: char| match steers(c) && c != '\t' {
            true => char::REPLACEMENT_CHARACTER,
            false => c,
        };
        Self {
            path: harmless(&self.path).into_owned(),
            source: self.source.chars().map(shown).collect(),
            ..self.clone()
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, a lowercase fragment.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// A few words at the place itself.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            label: None,
            help: None,
        }
    }

    /// The same problem at this place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same problem with a few words at its place.
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same problem with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As rustc would show it: message, `file:line:column`, the line, a marker, help.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let message = harmless(&self.message);
        let label = self.label.as_deref().map(harmless);
        let help = self.help.as_deref().map(harmless);
        let title = Level::ERROR.primary_title(message.as_ref());
        let place = self.place.as_ref().map(Place::harmless);
        let mut group = match &place {
            Some(place) => title.element(snippet(place, label.as_deref())),
            None => Group::with_title(title),
        };
        if let Some(help) = &help {
            group = group.element(Level::HELP.message(help.as_ref()));
        }
        renderer.render(&[group])
    }
}

/// The text with everything escaped that a terminal would obey or not show.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match steers(c) {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

fn snippet<'a>(
    place: &'a Place,
    label: Option<&'a str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let byte = |characters: usize| {
        place
            .source
            .char_indices()
            .nth(characters)
            .map_or(place.source.len(), |(byte, _)| byte)
    };
    let start = byte(place.column - 1);
    let end = byte(place.column - 1 + place.width).max(start);
    let mut annotation = AnnotationKind::Primary.span(start..end);
    if let Some(label) = label {
        annotation = annotation.label(label);
    }
    Snippet::source(place.source.as_str())
        .line_start(place.line)
        .path(place.path.as_str())
        .annotation(annotation)
}

/// Everything that is wrong, in the order of the file. Not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rendered: Vec<String> = self.0.iter().map(|p| p.render(false)).collect();
        writeln!(f, "{}", rendered.join("\n\n"))
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
