//! What a model, a server or a row may hold to harm those who look at the results, in every output.

use std::fs;
use std::path::Path;

use scraper::{Html, Node, Selector};
use serde_json::json;

use crate::loopback::reply;
use crate::scratch::Scratch;
use crate::served::{self, Served};

/// The payloads of a file below `fixtures/payloads`: one a line, as JSON texts.
#[track_caller]
fn payloads(name: &str, at_least: usize) -> Vec<String> {
    let path = Path::new("fixtures/payloads").join(name);
    let text = fs::read_to_string(&path).expect("the payloads are there");
    let payload = |line: &str| serde_json::from_str(line).expect("a line is a JSON text");
    let payloads: Vec<String> = text.lines().map(payload).collect();
    assert!(payloads.len() >= at_least, "{}", payloads.len());
    payloads
}

/// `rows.csv` with a column `x` of these cells.
fn cells(payloads: &[String]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["n", "x"]).expect("a header");
    for (number, payload) in payloads.iter().enumerate() {
        let record = [number.to_string(), payload.clone()];
        writer.write_record(record).expect("a record");
    }
    writer.into_inner().expect("the CSV")
}

/// A job whose model answers what the row says.
fn repeated(scratch: &Scratch, payloads: &[String], more: &str) {
    scratch.write("rows.csv", cells(payloads)).write(
        "job.yaml",
        format!(
            "inputs: rows.csv\nprompt: \"[{{{{ x }}}}]\"\noutput: {{ dir: out{more} }}\n\
             backends: {{ a: {{ type: echo, reply: \"{{{{ x }}}}\" }} }}\nmax_failures: 100%\n"
        ),
    );
}

/// Whether a spreadsheet may take it for a formula, whatever it looks past.
fn may_be_a_formula(cell: &str) -> bool {
    let seen = |c: &char| {
        c.is_alphanumeric()
            || c.is_ascii_punctuation()
            || ('\u{fe50}'..='\u{ff5f}').contains(c) && *c != '\u{feff}'
    };
    cell.chars()
        .find(seen)
        .is_some_and(|first| "=+-@|%＝＋－＠｜％﹦﹢﹣﹫".contains(first))
}

#[test]
fn no_answer_is_a_formula_to_a_spreadsheet_and_no_input_is_changed() {
    let formulas = payloads("formulas.txt", 60);
    assert!(formulas.iter().all(|text| may_be_a_formula(text)));
    for (more, safe) in [
        ("", true),
        (", csv_safe: prefix", true),
        (", csv_safe: off", false),
    ] {
        let scratch = Scratch::new();
        repeated(&scratch, &formulas, more);
        let (_, published) = scratch.run(0);
        let read = |cells: Vec<&str>| cells.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(published.column("x"), formulas);
        assert_eq!(read(published.answers()), formulas, "JSONL is lossless");
        let answers = read(published.column("answer"));
        match safe {
            true => {
                assert!(!answers.iter().any(|answer| may_be_a_formula(answer)));
                let behind = |text: &String| format!("'{text}");
                assert_eq!(answers, formulas.iter().map(behind).collect::<Vec<_>>());
            }
            false => assert_eq!(answers, formulas),
        }
        scratch.runner(&["verify", "out"]).exits(0);
        let file = scratch.path().join("out/results.csv");
        let before = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        scratch.runner(&["export", "out"]).exits(0);
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[test]
fn numbers_stay_numbers() {
    let numbers = [
        "-5", "+1.5", "1e3", "-1,234.5", "-0", "+2.5E-7", " -4", "-5%", "0.1",
    ];
    let numbers = numbers.map(str::to_owned);
    let scratch = Scratch::new();
    repeated(&scratch, &numbers, "");
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("answer"), numbers);
}

/// Everything that a page may consist of: elements, and the attributes of each beside `class`, `id`, `role`, `hidden` and
/// what starts with `aria-`.
const ELEMENTS: [(&str, &[&str]); 39] = [
    ("html", &["lang"]),
    ("head", &[]),
    ("meta", &["charset", "http-equiv", "content", "name"]),
    ("title", &[]),
    ("style", &[]),
    ("script", &[]),
    ("body", &[]),
    ("header", &[]),
    ("nav", &[]),
    ("a", &["href"]),
    ("section", &[]),
    ("h1", &[]),
    ("h2", &[]),
    ("h3", &[]),
    ("p", &[]),
    ("dl", &[]),
    ("dt", &[]),
    ("dd", &[]),
    ("div", &[]),
    ("span", &[]),
    ("ul", &[]),
    ("li", &[]),
    ("table", &[]),
    ("thead", &[]),
    ("tbody", &[]),
    ("tr", &["data-kinds"]),
    ("th", &["scope"]),
    ("td", &["data-label"]),
    ("figure", &[]),
    ("figcaption", &[]),
    ("svg", &["viewBox", "preserveAspectRatio"]),
    ("rect", &["x", "y", "width", "height"]),
    ("line", &["x1", "x2", "y1", "y2"]),
    ("circle", &["cx", "cy", "r"]),
    ("label", &[]),
    ("input", &["type", "autocomplete"]),
    ("select", &[]),
    ("option", &["value"]),
    ("output", &[]),
];

/// A page as a browser reads it: nothing in it runs, loads or leads anywhere but what the runner itself has put there.
#[track_caller]
pub fn assert_inert_page(page: &str) {
    let read = Html::parse_document(page);
    let mut scripts = Vec::new();
    let mut policies = Vec::new();
    for node in read.tree.nodes() {
        let node = match node.value() {
            Node::Element(element) => element,
            Node::Comment(comment) => panic!("a comment: {comment:?}"),
            Node::ProcessingInstruction(found) => panic!("{found:?}"),
            _ => continue,
        };
        let (name, attributes) = (node.name(), node.attrs());
        let known = ELEMENTS.iter().find(|(known, _)| *known == name);
        let (_, allowed) = known.unwrap_or_else(|| panic!("an element {name}"));
        for (attribute, value) in attributes {
            let everywhere = ["class", "id", "role", "hidden"].contains(&attribute);
            let known =
                everywhere || attribute.starts_with("aria-") || allowed.contains(&attribute);
            assert!(known, "{attribute} of {name}: {value}");
            let plain = |c: char| c.is_ascii_alphanumeric() || " #%./-_".contains(c);
            let own = ["content", "http-equiv"].contains(&attribute);
            assert!(
                own || value.chars().all(plain),
                "{attribute} of {name}: {value}"
            );
            assert!(attribute != "href" || value.starts_with('#'), "{value}");
        }
        policies.extend(
            node.attr("http-equiv")
                .map(|_| node.attr("content").unwrap_or_default()),
        );
        if ["script", "style"].contains(&name) {
            scripts.push(name);
        }
    }
    assert_eq!(scripts, ["style", "script"]);
    let [policy] = policies[..] else {
        panic!("{policies:?}");
    };
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    for (element, file) in [("style", "report.css"), ("script", "report.js")] {
        let own = fs::read_to_string(Path::new("src/output/html").join(file)).expect("it is there");
        let selector = Selector::parse(element).expect("it is the name of an element");
        let found: String = read
            .select(&selector)
            .flat_map(|found| found.text())
            .collect();
        assert_eq!(found, own, "{element}");
    }
}

/// Markdown in which nothing but headings, tables, lists, quotes and folded parts of the runner's own is active.
#[track_caller]
pub fn assert_inert_markdown(markdown: &str) {
    let own =
        |line: &str| ["<details>", "</details>"].contains(&line) || line.starts_with("<summary>");
    for line in markdown.lines().filter(|line| !own(line)) {
        let text = line.trim_start_matches(['#', '>']);
        // The runner's own: what a backend was found to allow, and what is stressed.
        let text = text.replace("**total**", "");
        let mut before = ' ';
        for (at, character) in text.char_indices() {
            let rest = &text[at + character.len_utf8()..];
            let escaped = before == '\\';
            match character {
                '_' if before.is_alphanumeric() && rest.starts_with(char::is_alphanumeric) => {}
                '<' | '>' | '[' | ']' | '`' | '*' | '_' | '~' => assert!(escaped, "{line}"),
                '#' if before != '&' => assert!(escaped && rest.starts_with("&#8203;"), "{line}"),
                '@' => assert!(rest.starts_with("&#8203;"), "{line}"),
                ':' => assert!(!rest.starts_with('/'), "{line}"),
                '.' => assert!(!text[..at].to_lowercase().ends_with("www"), "{line}"),
                '&' => assert!(
                    ["amp;", "#36;", "#8203;"]
                        .iter()
                        .any(|own| rest.starts_with(own)),
                    "{line}"
                ),
                _ => {}
            }
            before = if escaped && character == '\\' {
                ' '
            } else {
                character
            };
        }
    }
}

/// Text in which nothing steers what shows it.
#[track_caller]
fn assert_only_shown(text: &str) {
    let steers = |c: char| {
        c != '\n' && c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(found) = text.find(steers) {
        panic!("{:?}", &text[found..].chars().take(40).collect::<String>());
    }
}

/// The same of what a CI system reads along, too.
#[track_caller]
pub fn assert_inert_output(output: &str) {
    assert_only_shown(output);
    for line in output.lines() {
        let line = line.trim_start();
        assert!(
            !["::", "##vso[", "##["]
                .iter()
                .any(|command| line.starts_with(command)),
            "{line}"
        );
    }
}

/// Everything that is read by people after the payloads went through a run: as rows, their names and their columns, as
/// answers, as models and as errors.
fn went_through(payloads: &[String]) -> Vec<(String, String, Vec<String>)> {
    let mut all = Vec::new();
    for part in payloads.chunks(120) {
        let scratch = Scratch::new();
        repeated(&scratch, part, "");
        all.push(seen(&scratch));
        for failing in [0, 1] {
            let scratch = Scratch::new();
            let said = part.to_vec();
            let server = Served::new(move |_, seen| {
                let number: usize = served::prompt(seen).parse().unwrap_or(0);
                let payload = &said[number];
                if number % 2 == failing {
                    let body = json!({ "error": { "message": payload, "code": payload, "type": payload } });
                    return reply(400, &[], body.to_string().as_bytes(), 0);
                }
                let message = json!({ "role": "assistant", "content": payload });
                let mut body = served::completion(message, "stop");
                body["model"] = json!(payload);
                served::ok(&body)
            });
            let rows = String::from_utf8(cells(part)).expect("payloads are text");
            let rows = rows.replacen("n,x\n", "n,\"x<img src=x onerror=alert(1)>\"\n", 1);
            scratch.write("rows.csv", rows).write(
                "job.yaml",
                format!(
                    "inputs: {{ path: rows.csv, id: \"x<img src=x onerror=alert(1)>\" }}\nprompt: \"{{{{ n }}}}\"\n\
                     output: {{ dir: out }}\nbackends: {{ {} }}\nmax_failures: 100%\n",
                    server.backend("a", "")
                ),
            );
            all.push(seen(&scratch));
        }
    }
    all
}

/// The page, the Markdown and all that was printed.
fn seen(scratch: &Scratch) -> (String, String, Vec<String>) {
    let mut printed = Vec::new();
    for args in [
        &["job.yaml"][..],
        &["status", "out"],
        &["report", "out"],
        &["report", "out", "--format", "md"],
        &["report", "out", "--format", "json"],
        &["verify", "out"],
        &["export", "out"],
    ] {
        let ran = scratch.runner(args);
        assert!(
            matches!(ran.code, Some(0 | 3)),
            "{args:?}: {}{}",
            ran.stdout,
            ran.stderr
        );
        printed.extend([ran.stdout, ran.stderr]);
    }
    let read = |name: &str| {
        fs::read_to_string(scratch.path().join("out").join(name)).expect("it was written")
    };
    (read("report.html"), read("report.md"), printed)
}

#[test]
fn no_payload_is_markup_in_a_report() {
    let payloads = payloads("html.txt", 200);
    let mut pages = 0;
    for (page, markdown, printed) in went_through(&payloads) {
        assert_inert_page(&page);
        assert_inert_markdown(&markdown);
        printed
            .iter()
            .for_each(|printed| assert_inert_output(printed));
        pages += 1;
        assert!(
            page.len() < 5_000_000 && page.contains("evil.example"),
            "it is shown"
        );
    }
    assert_eq!(pages, payloads.len().div_ceil(120) * 3);
}

#[test]
fn no_payload_commands_a_terminal_or_a_ci_system() {
    for (page, markdown, printed) in went_through(&payloads("terminal.txt", 80)) {
        assert_inert_page(&page);
        assert_inert_markdown(&markdown);
        assert_only_shown(&page);
        assert_inert_output(&markdown);
        printed
            .iter()
            .for_each(|printed| assert_inert_output(printed));
    }
}
