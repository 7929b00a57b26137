//! Templates that are text with columns in it and nothing else, as most prompts are: what they render to is put
//! together here, and the engine is asked only for what is not plain, every error included.

use std::collections::HashSet;

use super::{Extras, MAX_RENDERED, ROW};
use crate::words::Row;

/// Far below what would exhaust the engine's fuel.
const MAX_PARTS: usize = 1_000;

/// Text and columns, in order.
#[derive(Debug)]
pub(super) struct Plain(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    /// `{{ name }}`
    Name(String),
    /// `{{ row.name }}` or `{{ row["any name"] }}`
    Cell(String),
}

impl Plain {
    /// What a template that the engine compiles consists of; `None` if it is not surely plain.
    pub(super) fn read(source: &str) -> Option<Self> {
        // Blocks and comments, wherever they stand.
        if source.contains("{%") || source.contains("{#") {
            return None;
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((text, inside)) = rest.split_once("{{") {
            let (part, behind) = part(inside)?;
            parts.push(Part::Text(text.to_owned()));
            parts.push(part);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        (parts.len() <= MAX_PARTS).then_some(Self(parts))
    }

    /// Whether each of its names is one to the engine too, and not a word such as `true`.
    pub(super) fn reads_only(&self, names: &HashSet<String>) -> bool {
        self.0.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::Name(name) => names.contains(name),
            Part::Cell(_) => names.contains(ROW),
        })
    }

    /// The text over a row and further names; `None` where the engine has to say what it is, or what is wrong.
    pub(super) fn render(&self, row: &Row, extras: &Extras) -> Option<String> {
        let text = |name: &str| match extras.get(name) {
            Some(value) => value.as_str(),
            None => row.get(name),
        };
        let is_hidden = |name: &str| extras.get(name).is_some() || row.get(name).is_some();
        let pieces = self.0.iter().map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Name(name) => text(name),
            Part::Cell(_) if is_hidden(ROW) => None,
            Part::Cell(column) => row.get(column),
        });
        let pieces: Vec<&str> = pieces.collect::<Option<_>>()?;
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        (size <= MAX_RENDERED).then(|| pieces.concat())
    }
}

/// What stands behind `{{`, and what comes behind its `}}`.
fn part(inside: &str) -> Option<(Part, &str)> {
    let (name, rest) = identifier(inside.trim_ascii_start())?;
    let (part, rest) = match rest.chars().next() {
        Some('.') if name == ROW => {
            let (column, rest) = identifier(&rest[1..])?;
            (Part::Cell(column.to_owned()), rest)
        }
        Some('[') if name == ROW => {
            let (column, rest) = quoted(&rest[1..])?;
            (Part::Cell(column.to_owned()), rest.strip_prefix(']')?)
        }
        _ => (Part::Name(name.to_owned()), rest),
    };
    let behind = rest.trim_ascii_start().strip_prefix("}}")?;
    Some((part, behind))
}

fn identifier(text: &str) -> Option<(&str, &str)> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let length = text.bytes().take_while(is_part).count();
    let (name, rest) = text.split_at(length);
    let starts_well = name.starts_with(|first: char| !first.is_ascii_digit());
    starts_well.then_some((name, rest))
}

/// A text in quotes that needs no unescaping.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inside, rest) = text[1..].split_once(quote)?;
    (!inside.contains('\\')).then_some((inside, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::row;
    use super::super::{Template, TemplateError};
    use super::*;

    /// Whether the template is plain, after both ways rendered the same.
    #[track_caller]
    fn same_both_ways(source: &str, row: &Arc<Row>, extras: &Extras) -> bool {
        let Ok(template) = Template::compile(source) else {
            return false;
        };
        let asked: Result<String, TemplateError> = template.by_engine(row, extras);
        assert_eq!(template.render_with(row, extras), asked, "{source:?}");
        let plain = template.plain.as_ref();
        let put_together = plain.and_then(|plain| plain.render(row, extras));
        if let Some(text) = &put_together {
            assert_eq!(Ok(text), asked.as_ref(), "{source:?}");
        }
        put_together.is_some()
    }

    #[test]
    fn text_with_columns_in_it_is_plain() {
        let row = row(&[
            ("a", "1\r\n"),
            ("Customer {{ Name", "Ada"),
            ("_b2", "{{ a }}"),
        ]);
        for source in [
            "",
            "\n",
            "text\r\n",
            " { text } }} %} #} ",
            "{{a}}",
            "\n {{ a }} \n\n",
            "{{\n\ta\r\n}}{{ a }}{",
            "{ {{ a }} }",
            "{{ _b2 }}\u{a0}{{ row._b2 }}",
            "{{ row['Customer {{ Name'] }}{{ row[\"a\"] }}\n",
        ] {
            assert!(
                same_both_ways(source, &row, &Extras::default()),
                "{source:?}"
            );
        }
    }

    #[test]
    fn what_is_not_surely_plain_is_left_to_the_engine() {
        let row = row(&[
            ("a", "1"),
            ("true", "2"),
            ("none", "3"),
            ("\\", "4"),
            ("items", "5"),
        ]);
        for source in [
            " {{- a }}",
            "{{ a -}} ",
            "{{+ a }}",
            "{{ a +}}",
            "{# a #}{{ a }}",
            "{% raw %}{{ a }}{% endraw %}",
            "{% set a = 2 %}{{ a }}",
            "{{ true }}{{ none }}",
            "{{ None }}",
            "{{ a | upper }}",
            "{{ a.b }}",
            "{{ 'a' }}",
            "{{ (a) }}",
            "{{ a }}}}{{ missing }}",
            "{{ row }}",
            "{{ row.missing }}",
            "{{ row['\\\\'] }}",
            "{{ row['a' ~ ''] }}",
            "{{ row . a }}",
            "{{ row.a.b }}",
            "{{ row.items() }}",
            "{{ not }}",
            "{{ a b }}",
            "{{ a\u{a0}}}",
            "{{ é }}",
            "{{{ a }}}",
            "{{ a }",
            "{{",
            "{{}}",
        ] {
            assert!(
                !same_both_ways(source, &row, &Extras::default()),
                "{source:?}"
            );
        }
    }

    #[test]
    fn a_name_means_the_same_both_ways() {
        let extras = Extras::default().with("prompt", "asked").with("max", 5);
        let plain = row(&[
            ("a", "1"),
            ("prompt", "cell"),
            ("max", "cell"),
            ("self", "me"),
        ]);
        assert!(same_both_ways(
            "{{ prompt }} {{ row.prompt }} {{ row.max }}",
            &plain,
            &extras
        ));
        assert!(
            !same_both_ways("{{ self }}", &plain, &extras),
            "it is a word of the engine's"
        );
        assert!(
            !same_both_ways("{{ max }}", &plain, &extras),
            "it is no text"
        );
        // A column hides the row, and so does an extra.
        let hiding = row(&[("row", "cell"), ("a", "1")]);
        assert!(same_both_ways("{{ row }}", &hiding, &Extras::default()));
        assert!(!same_both_ways("{{ row.a }}", &hiding, &Extras::default()));
        assert!(!same_both_ways(
            "{{ row['row'] }}",
            &hiding,
            &Extras::default()
        ));
        let extras = Extras::default().with("row", "given");
        assert!(!same_both_ways("{{ row.a }}", &plain, &extras));
        assert!(same_both_ways("{{ row }}", &plain, &extras));
    }

    #[test]
    fn what_is_too_large_or_has_too_many_parts_is_the_engine_s_to_refuse() {
        let row = row(&[("a", &"x".repeat(MAX_RENDERED / 2))]);
        assert!(same_both_ways("{{ a }}{{ a }}", &row, &Extras::default()));
        assert!(!same_both_ways("{{ a }}.{{ a }}", &row, &Extras::default()));
        assert!(Plain::read(&"{{ a }}".repeat(MAX_PARTS / 2 - 1)).is_some());
        assert!(Plain::read(&"{{ a }}".repeat(MAX_PARTS / 2)).is_none());
    }

    #[test]
    fn whatever_is_written_renders_the_same_both_ways() {
        const PIECES: [&str; 48] = [
            "{{ a }}",
            "{{a}}",
            "{{ b_1 }}",
            "{{ row.a }}",
            "{{ row['b c'] }}",
            "{{ row[\"a\"] }}",
            "{{ ",
            " }}",
            "{{",
            "}}",
            "{",
            "}",
            "{%",
            "%}",
            "{#",
            "#}",
            "-",
            "+",
            "a",
            "row",
            ".",
            "[",
            "]",
            "'",
            "\"",
            "\\",
            " ",
            "\n",
            "\r\n",
            "\t",
            "\u{b}",
            "\u{c}",
            "\u{a0}",
            "é",
            "\0",
            "text",
            "true",
            "none",
            "loop",
            "self",
            "range",
            "missing",
            "{{- a -}}",
            "{% raw %}",
            "{% endraw %}",
            "{% if a %}",
            "{% endif %}",
            "| upper",
        ];
        const NAMES: [&str; 10] = [
            "a", "b_1", "b c", "row", "true", "self", "loop", "range", "text", "missing",
        ];
        let seed = 0x71a1;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut plain = 0;
        for _ in 0..60_000 {
            // Columns are written more often than pieces of which nothing comes.
            let piece = |random: &mut fastrand::Rng| match random.bool() {
                true => PIECES[random.usize(..6)],
                false => PIECES[random.usize(..PIECES.len())],
            };
            let source: String = (0..random.usize(..7)).map(|_| piece(&mut random)).collect();
            let mut cells = Vec::new();
            for name in NAMES {
                if name == "a" || random.u8(0..3) == 0 {
                    cells.push((name, PIECES[random.usize(..PIECES.len())]));
                }
            }
            let mut extras = Extras::default();
            for name in NAMES {
                if random.u8(0..12) == 0 {
                    extras = match random.bool() {
                        true => extras.with(name, "{{ given }}"),
                        false => extras.with(name, 7),
                    };
                }
            }
            plain += u32::from(same_both_ways(&source, &row(&cells), &extras));
        }
        // Else the ways were hardly compared.
        assert!(plain > 10_000, "{plain} were plain");
    }
}
