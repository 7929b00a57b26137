//! Layer 1: prompt templates over the cells of a row.
//!
//! What this module promises: a template sees the row's columns (by name, and as `row["any name"]`),
//! the [`Extras`] that it is given, and nothing else: no environment, no files, no other templates, no
//! functions. Any other name is an error, never empty text. What a row holds is data: it is put in byte for byte and
//! never read as a template again. Time and memory of one rendering are bounded.

mod plain;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use crate::words::{Columns, Row};

use plain::Plain;

/// Bounds the instructions and the memory (about 64 bytes each) of one rendering.
const FUEL: u64 = 1_000_000;
/// The largest rendered text, in bytes.
const MAX_RENDERED: usize = 16 << 20;
/// The name under which the whole row can be read, for columns whose name is no identifier.
const ROW: &str = "row";
const NAME: &str = "template";

/// A compiled template.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    /// What it consists of, where that is text and columns alone.
    plain: Option<Arc<Plain>>,
}

/// Why a template cannot be compiled or rendered. The message holds no row text, but for the name of
/// a column that a template looked up by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong, a lowercase fragment.
    pub message: String,
    /// The line in the template, counted from 1, where it is known.
    pub line: Option<usize>,
    /// Which bytes of the template are meant, where that is known.
    pub range: Option<Range<usize>>,
    /// Whether a name is not there, as that of a column.
    pub names_a_column: bool,
}

impl Template {
    /// Compiles a template. Its text is kept as written, a final line break included.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let globals: Vec<String> = environment
            .globals()
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in globals {
            environment.remove_global(&name);
        }
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        // Its messages would show what a row holds.
        environment.set_debug(false);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| describe(&error))?);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| describe(&error))?;
        let mut template = Self {
            environment: Arc::new(environment),
            plain: None,
        };
        let reads = |plain: &Plain| {
            let names = template.compiled().undeclared_variables(false);
            plain.reads_only(&names)
        };
        template.plain = Plain::read(source).filter(reads).map(Arc::new);
        Ok(template)
    }

    /// The names that it reads and that are neither columns nor among `also`, sorted.
    pub fn unknown_names(&self, columns: &Columns, also: &[&str]) -> Vec<String> {
        let used: BTreeSet<String> = self
            .compiled()
            .undeclared_variables(false)
            .into_iter()
            .collect();
        used.into_iter()
            .filter(|name| {
                name != ROW && columns.position(name).is_none() && !also.contains(&name.as_str())
            })
            .collect()
    }

    /// Renders it over a row.
    pub fn render(&self, row: &Arc<Row>) -> Result<String, TemplateError> {
        self.render_with(row, &Extras::default())
    }

    /// Renders it over a row and further names.
    pub fn render_with(&self, row: &Arc<Row>, extras: &Extras) -> Result<String, TemplateError> {
        let plain = self.plain.as_ref();
        match plain.and_then(|plain| plain.render(row, extras)) {
            Some(text) => Ok(text),
            None => self.by_engine(row, extras),
        }
    }

    /// The same of any template.
    fn by_engine(&self, row: &Arc<Row>, extras: &Extras) -> Result<String, TemplateError> {
        let text = self
            .compiled()
            .render(Scope::over(row, extras))
            .map_err(|error| describe(&error))?;
        if text.len() > MAX_RENDERED {
            return Err(TemplateError {
                message: format!(
                    "the rendered text is larger than {} MiB",
                    MAX_RENDERED >> 20
                ),
                line: None,
                range: None,
                names_a_column: false,
            });
        }
        Ok(text)
    }

    fn compiled(&self) -> minijinja::Template<'_, '_> {
        self.environment
            .get_template(NAME)
            .expect("the template was added when it was compiled")
    }
}

/// A compiled expression over a row that is true or not.
#[derive(Debug, Clone)]
pub struct Condition {
    template: Template,
    expression: Arc<str>,
}

impl Condition {
    /// Compiles an expression such as `tier == "premium"`.
    pub fn compile(expression: &str) -> Result<Self, TemplateError> {
        // Taken alone first, so that it cannot end the block that it is put into.
        Environment::new()
            .compile_expression(expression)
            .map_err(|error| describe(&error))?;
        let source = format!("{{% if ({expression}) %}}1{{% endif %}}");
        let template = Template::compile(&source).map_err(|error| TemplateError {
            // The bytes of what was put around it are not those of the expression.
            range: None,
            ..error
        })?;
        Ok(Self {
            template,
            expression: Arc::from(expression),
        })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether it reads nothing of the row, and so cannot tell one row from another.
    pub fn is_constant(&self) -> bool {
        let read = self.template.compiled().undeclared_variables(false);
        read.is_empty()
    }

    /// The names that it reads and that are not columns, sorted.
    pub fn unknown_names(&self, columns: &Columns) -> Vec<String> {
        self.template.unknown_names(columns, &[])
    }

    /// Whether it is true of a row. Empty text, 0 and empty lists are not.
    pub fn holds(&self, row: &Arc<Row>) -> Result<bool, TemplateError> {
        self.template.render(row).map(|text| !text.is_empty())
    }
}

/// A compiled expression over a row that has a value, which need not be a text.
#[derive(Debug, Clone)]
pub struct Expression(Template);

impl Expression {
    /// The name that the value is given to be found again; nobody writes it.
    const VALUE: &str = "__value_of_the_expression__";

    /// The expression of a template that is one `{{ expression }}` and nothing else.
    pub fn alone(template: &str) -> Option<Self> {
        let inside = template.strip_prefix("{{")?.strip_suffix("}}")?;
        // `{{-` and `-}}` trim what stands around, and there is nothing around.
        let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
        let inside = inside.strip_suffix(['-', '+']).unwrap_or(inside);
        // Taken alone first, as there may be two: `{{ a }} and {{ b }}`.
        Environment::new().compile_expression(inside).ok()?;
        let source = format!("{{% set {} = ({inside}) %}}", Self::VALUE);
        Template::compile(&source).ok().map(Self)
    }

    /// Its value over a row and further names.
    pub fn value(
        &self,
        row: &Arc<Row>,
        extras: &Extras,
    ) -> Result<serde_json::Value, TemplateError> {
        let captured = self
            .0
            .compiled()
            .render_captured(Scope::over(row, extras))
            .map_err(|error| describe(&error))?;
        let unusable = |message: &str| TemplateError {
            message: message.to_owned(),
            line: None,
            range: None,
            names_a_column: false,
        };
        let value = captured.state().lookup(Self::VALUE).unwrap_or_default();
        if value.is_undefined() {
            return Err(unusable("undefined value"));
        }
        // A cell can ask for infinity (`| float`), and JSON would make a null of it.
        if f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite()) {
            return Err(unusable("the value is no finite number"));
        }
        serde_json::to_value(&value).map_err(|_| unusable("the value cannot be written as JSON"))
    }
}

/// Names that a template sees beside the row's. One that is a column too hides the column, which
/// `row["name"]` still reads: what a body or reply means must not hang on the input's header.
#[derive(Debug, Clone, Default)]
pub struct Extras(Arc<Vec<(&'static str, Value)>>);

impl Extras {
    /// With this name too.
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        Arc::make_mut(&mut self.0).push((name, Value::from(Serde(value))));
        self
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut all = self.0.iter();
        all.find(|(extra, _)| *extra == name)
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template")
            .field(&self.compiled().source())
            .finish()
    }
}

/// A syntax error in the words of who wrote the template, not of who reads it.
fn plainly(detail: &str) -> String {
    let words = [
        ("end of variable block", "`}}`"),
        ("end of block", "`%}`"),
        ("unexpected end of input", "the text ends too early"),
        ("end of input", "the end of the text"),
        (
            "unexpected input after expression",
            "there is more after the expression",
        ),
    ];
    let told = |text: String, (word, meant): (&str, &str)| text.replace(word, meant);
    words.into_iter().fold(detail.to_owned(), told)
}

fn describe(error: &minijinja::Error) -> TemplateError {
    let message = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "the template does too much work for one row".to_owned(),
        (ErrorKind::SyntaxError, Some(detail)) => plainly(detail),
        (ErrorKind::UndefinedError, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    TemplateError {
        message,
        line: error.line(),
        range: error.range(),
        names_a_column: matches!(error.kind(), ErrorKind::UndefinedError),
    }
}

/// What a template can see.
#[derive(Debug)]
struct Scope {
    row: Arc<Row>,
    extras: Extras,
}

impl Scope {
    fn over(row: &Arc<Row>, extras: &Extras) -> Value {
        Value::from_object(Self {
            row: Arc::clone(row),
            extras: extras.clone(),
        })
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        if let Some(value) = self.extras.get(name) {
            return Some(value.clone());
        }
        if let Some(cell) = self.row.get(name) {
            return Some(Value::from(cell));
        }
        (name == ROW).then(|| Value::from_object(Cells(Arc::clone(&self.row))))
    }
}

/// The row as a map from column to cell.
#[derive(Debug)]
struct Cells(Arc<Row>);

impl Object for Cells {
    /// A missing column is an error that names it; undefined would only say that something is.
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let missing = || {
            let message = format!("there is no column `{}`", name.escape_debug());
            Value::from(minijinja::Error::new(ErrorKind::UndefinedError, message))
        };
        Some(self.0.get(name).map_or_else(missing, Value::from))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.columns.names().iter();
        Enumerator::Values(names.map(|name| Value::from(name.as_str())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Digest;

    pub(super) fn row(cells: &[(&str, &str)]) -> Arc<Row> {
        let names = cells.iter().map(|(name, _)| (*name).to_owned()).collect();
        Arc::new(Row {
            index: 0,
            id: "t:1".to_owned(),
            columns: Arc::new(Columns::new(names)),
            cells: cells.iter().map(|(_, cell)| (*cell).to_owned()).collect(),
            key: Digest::default(),
        })
    }

    #[track_caller]
    fn check(source: &str, cells: &[(&str, &str)], expected: Result<&str, &str>) {
        let rendered = Template::compile(source).and_then(|template| template.render(&row(cells)));
        match (rendered, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{error}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn cells_are_put_in_byte_for_byte_and_never_rendered_again() {
        for cell in [
            "{{7*7}}",
            "{% endraw %}",
            "<b>&amp;",
            "a\r\nb\0",
            "\u{202e}é😀",
            "{% include 'x' %}",
        ] {
            check(
                "[{{ body }}]\n",
                &[("body", cell)],
                Ok(&format!("[{cell}]\n")),
            );
        }
        let braces = "{{".repeat(1_000_000);
        check("{{ body }}", &[("body", &braces)], Ok(&braces));
    }

    #[test]
    fn a_column_whose_name_is_no_identifier_is_read_through_row() {
        check(
            "{{ row['Customer Name'] }}",
            &[("Customer Name", "Ada")],
            Ok("Ada"),
        );
        check(
            "{{ row['Customer name'] }}",
            &[("Customer Name", "Ada")],
            Err("there is no column `Customer name`"),
        );
    }

    #[test]
    fn a_missing_name_is_an_error_even_in_a_condition() {
        check("{{ missing }}", &[("body", "x")], Err("undefined"));
        check(
            "{% if missing %}a{% endif %}",
            &[("body", "x")],
            Err("undefined"),
        );
    }

    #[test]
    fn nothing_but_the_row_can_be_reached() {
        check("{% include 'x' %}", &[], Err("unknown statement"));
        check("{{ range(3) }}", &[], Err("unknown function"));
        check("{{ env.PATH }}", &[], Err("undefined"));
    }

    #[test]
    fn endless_work_is_cut_off() {
        let nested = "{% for a in body %}{% for b in body %}{% for c in body %}x{% endfor %}{% endfor %}{% endfor %}";
        check(nested, &[("body", &"y".repeat(1000))], Err("too much work"));
    }

    #[test]
    fn unknown_names_are_found_without_rendering() {
        let columns = Columns::new(vec!["body".to_owned(), "label".to_owned()]);
        let template = Template::compile(
            "{{ bdy }}{% set x = 1 %}{{ x }}{{ label|upper }}{{ env.PATH }}{{ row.a }}",
        )
        .unwrap();
        assert_eq!(template.unknown_names(&columns, &[]), ["bdy", "env"]);
    }

    #[test]
    fn an_expression_alone_keeps_its_type() {
        let row = row(&[("n", "007"), ("prompt", "a cell")]);
        let extras = Extras::default().with("prompt", "asked").with("max", 5);
        for (source, value) in [
            ("{{ n }}", Ok(serde_json::json!("007"))),
            ("{{- n | int -}}", Ok(serde_json::json!(7))),
            ("{{max}}", Ok(serde_json::json!(5))),
            ("{{ [max, prompt] }}", Ok(serde_json::json!([5, "asked"]))),
            (
                "{{ row.prompt ~ '}} {{' }}",
                Ok(serde_json::json!("a cell}} {{")),
            ),
            ("{{ row['no'] }}", Err("there is no column `no`")),
            ("{{ row.prompt.no }}", Err("undefined")),
            ("{{ 'inf' | float }}", Err("no finite number")),
        ] {
            let expression = Expression::alone(source).unwrap();
            match (expression.value(&row, &extras), value) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{source}"),
                (Err(error), Err(part)) => assert!(error.message.contains(part), "{error}"),
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        }
        for text in [
            "{{ n }} {{ n }}",
            " {{ n }}",
            "{{ n }}\n",
            "n",
            "{{",
            "{{}}",
            "{{ n ) }}",
        ] {
            assert!(Expression::alone(text).is_none(), "{text}");
        }
    }
}
