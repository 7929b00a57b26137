//! What a page is put together from. Whatever text comes in is escaped here and nowhere else.

use sha2::{Digest, Sha256};

use crate::words::steers;

/// The style of the page, in it: nothing is fetched from anywhere.
const STYLE: &str = include_str!("report.css");
/// What searches the sample of rows. Nothing else may run, and without it all rows are shown.
const SCRIPT: &str = include_str!("report.js");
/// The longest text that is shown, in bytes as they are written. The whole is in the results.
const LONGEST: usize = 600;
/// The longest name.
const LONGEST_NAME: usize = 160;

/// A cell of a table.
pub(super) enum Cell {
    /// What the row is about.
    Name(String),
    /// A number, or what stands for one.
    Number(String),
    /// A bar: so much of the whole.
    Share(i128, i128),
    /// Words.
    Text(String),
    /// A word of the program, and the class of its colour.
    Mark(&'static str, &'static str),
    /// A count, and the class of how much that is.
    Heat(u64, &'static str),
    /// What one of [`super::charts`] has drawn.
    Drawn(String),
}

impl Cell {
    /// A count.
    pub(super) fn count(count: u64) -> Self {
        Cell::Number(count.to_string())
    }

    fn class(&self) -> &'static str {
        match self {
            Cell::Name(_) => "",
            Cell::Number(_) | Cell::Heat(..) => " class=\"number\"",
            Cell::Share(..) => " class=\"share\"",
            Cell::Text(_) => " class=\"text\"",
            Cell::Mark(..) => "",
            Cell::Drawn(_) => " class=\"drawn\"",
        }
    }

    fn render(&self) -> String {
        let class = self.class();
        match self {
            Cell::Name(text) => format!("<th scope=\"row\">{}</th>", escape_name(text)),
            Cell::Number(text) | Cell::Text(text) => format!("<td{class}>{}</td>", escape(text)),
            Cell::Mark(word, colour) => {
                format!("<td><span class=\"badge {colour}\">{word}</span></td>")
            }
            Cell::Heat(count, heat) => format!("<td class=\"number {heat}\">{count}</td>"),
            Cell::Drawn(drawn) => format!("<td{class}>{drawn}</td>"),
            Cell::Share(part, whole) => format!("<td{class}>{}</td>", bar(*part, *whole)),
        }
    }
}

/// A whole page.
pub(super) fn page(title: &str, body: &str) -> String {
    let [style, script] = [STYLE, SCRIPT].map(|text| base64(&Sha256::digest(text)));
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// A part of the page with a heading; nothing if there is nothing in it.
pub(super) fn section(id: &str, title: &str, inside: &str) -> String {
    match inside {
        "" => String::new(),
        inside => format!(
            "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n{inside}</section>\n"
        ),
    }
}

/// Figures that are seen first.
pub(super) fn figures(figures: &[(String, String)]) -> String {
    let figure = |(name, value): &(String, String)| {
        format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escape(value))
    };
    let figures: String = figures.iter().map(figure).collect();
    format!("<dl class=\"figures\">\n{figures}</dl>\n")
}

/// A paragraph.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A list; nothing without lines.
pub(super) fn list(lines: &[String]) -> String {
    let items = lines
        .iter()
        .map(|line| format!("<li>{}</li>\n", escape(line)));
    match lines {
        [] => String::new(),
        _ => format!("<ul>\n{}</ul>\n", items.collect::<String>()),
    }
}

/// A table with a title, if that is not empty. Nothing without rows.
pub(super) fn table(title: &str, header: &[&str], rows: &[Vec<Cell>]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let heads = header.iter().zip(first);
    let heads = heads.map(|(name, cell)| format!("<th scope=\"col\"{}>{name}</th>", cell.class()));
    let line = |row: &Vec<Cell>| {
        let cells: String = row.iter().map(Cell::render).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let lines: String = rows.iter().map(line).collect();
    let title = match title {
        "" => String::new(),
        title => format!("<h3>{title}</h3>\n"),
    };
    format!(
        "{title}<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n",
        heads.collect::<String>()
    )
}

/// A bar, and how many percent it stands for.
fn bar(part: i128, whole: i128) -> String {
    // Twice as many, so that half of one is seen.
    let halves = part.saturating_mul(2000).checked_div(whole).unwrap_or(0);
    let share = (halves.saturating_add(1) / 2).clamp(0, 1000);
    let percent = format!("{}.{} %", share / 10, share % 10);
    format!(
        "<svg role=\"img\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\"><title>{percent}</title>\
         <rect class=\"track\" width=\"1000\" height=\"10\"/><rect class=\"part\" width=\"{share}\" height=\"10\"/></svg>\
         <span aria-hidden=\"true\">{percent}</span>"
    )
}

/// Text from a job file, a row or a server, as text: it becomes no markup, steers nothing, and has an end.
pub(super) fn escape(text: &str) -> String {
    escape_to(text, LONGEST)
}

/// The same of a name.
pub(super) fn escape_name(text: &str) -> String {
    escape_to(text, LONGEST_NAME)
}

/// The same of a text in which lines are told apart.
pub(super) fn escape_lines(text: &str) -> String {
    let lines = text.trim_end().split('\n');
    let lines: Vec<&str> = lines.map(|line| line.trim_end_matches('\r')).collect();
    let mut escaped = String::new();
    for line in lines {
        if !escaped.is_empty() {
            escaped.push('\n');
        }
        match LONGEST.checked_sub(escaped.len()) {
            Some(room) if room > 0 => escaped.push_str(&escape_to(line, room)),
            _ => return escaped + "…",
        }
    }
    escaped
}

fn escape_to(text: &str, most: usize) -> String {
    let (mut escaped, mut room) = (String::new(), most);
    for character in text.chars() {
        let mut own = [0; 4];
        let shown = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            character if steers(character) => "\u{fffd}",
            character => character.encode_utf8(&mut own),
        };
        match room.checked_sub(shown.len()) {
            Some(left) => room = left,
            None => return escaped + "…",
        }
        escaped.push_str(shown);
    }
    escaped
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            text.push(match digit <= three.len() {
                true => DIGITS[(bits >> (18 - 6 * digit)) as usize & 63] as char,
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_base64_as_rfc_4648_shows_it() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_bar_is_never_longer_than_the_whole() {
        let width = |part, whole| {
            let bar = bar(part, whole);
            let (_, part) = bar.split_once("class=\"part\" width=\"").unwrap();
            part.split_once('"').unwrap().0.to_owned()
        };
        assert_eq!(width(1, 3), "333");
        assert_eq!(width(2, 3), "667");
        assert_eq!(width(3, 3), "1000");
        assert_eq!(width(4, 3), "1000");
        assert_eq!(width(-1, 3), "0");
        assert_eq!(width(1, 0), "0");
        assert_eq!(width(i128::MAX, 1), "1000");
    }

    #[test]
    fn style_and_script_of_the_page_cannot_end_before_they_end() {
        assert!(!STYLE.contains('<'));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
    }
}
