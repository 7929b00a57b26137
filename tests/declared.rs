//! Backends that a job declares: what the plan holds, and what is posted.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio_prompt_orchestrator::job::{BackendKind, HttpBackend, Job, Plan, Surroundings};
use tokio_prompt_orchestrator::words::{Columns, Digest, Request, Row};

fn columns() -> Arc<Columns> {
    let names = ["prompt", "model", "language", "Customer Name"];
    Arc::new(Columns::new(names.map(str::to_owned).to_vec()))
}

fn request() -> Request {
    let cells = ["why", "a column", "\"de\"", "Ada \u{1}"];
    Request::user("Q: why").with_row(Arc::new(Row {
        index: 0,
        id: "r".to_owned(),
        columns: columns(),
        cells: cells.map(str::to_owned).to_vec(),
        key: Digest::default(),
    }))
}

#[track_caller]
fn good(text: &str, overrides: &[&str]) -> Plan {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let columns = columns();
    let surroundings = Surroundings {
        columns: Some(&columns),
        env: &|name| (name == "VARIABLE").then(|| "secret".to_owned()),
        today: jiff::civil::date(2026, 11, 22),
        prices: &[],
        sends: true,
    };
    Job::parse(Path::new("eval.yaml"), text, &overrides)
        .and_then(|job| job.resolve(&surroundings, Vec::new()))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// A job with one declared backend, whose keys these are.
fn declared(keys: &str) -> String {
    format!(
        "inputs: rows.csv\nprompt: \"Q: {{{{ prompt }}}}\"\nbackends: {{ mine: {{ type: http, \
         url: \"http://localhost:1/answer/?v=1\", pointers: {{ text: /a }}, {keys} }} }}\n"
    )
}

fn http(plan: &Plan) -> &HttpBackend {
    match &plan.backends[0].kind {
        BackendKind::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_declared_backend_has_its_whole_address_no_price_and_no_caps_that_nobody_wrote() {
    let plan = good(&declared("body: { q: 1 }"), &[]);
    let backend = &plan.backends[0];
    assert_eq!((backend.model(), backend.max_tokens()), (None, None));
    assert_eq!(backend.price(), None);
    let mine = http(&plan);
    assert_eq!(mine.url, "http://localhost:1/answer/?v=1");
    assert_eq!(
        (mine.timeout.as_secs(), mine.api_key_env.as_deref()),
        (60, None)
    );
    let plan = good(
        &declared(
            "body: { q: 1 }, model: m, max_tokens: 9, timeout: 2s, price: { input: 1, output: 2 }, \
             headers: { X-A: \"1\" }, headers_env: { X-Key: VARIABLE }",
        ),
        &[],
    );
    let backend = &plan.backends[0];
    assert_eq!(
        (backend.model(), backend.max_tokens()),
        (Some("m"), Some(9))
    );
    assert!(backend.price().is_some());
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(http(&plan).headers, [pair("x-a", "1")]);
    assert_eq!(http(&plan).headers_env, [pair("x-key", "VARIABLE")]);
}

#[test]
fn what_a_declared_backend_posts_can_be_overridden_and_keeps_its_types() {
    let body = "body: { q: \"{{ prompt }}\", n: 1, f: 0.5, t: true, z: null, s: \"1\", l: [a, 2] }";
    let overrides = [
        "backends.mine.body.n=3",
        "backends.mine.body.l.0={{ language }}",
        "backends.mine.body.new.deep=Q: {{ row['Customer Name'] }}",
    ];
    let sent = http(&good(&declared(body), &overrides))
        .body(&request())
        .unwrap();
    let expected = json!({
        "q": "Q: why", "n": 3, "f": 0.5, "t": true, "z": null, "s": "1", "l": ["\"de\"", 2],
        "new": { "deep": "Q: Ada \u{1}" },
    });
    assert_eq!(sent, expected);
}

#[test]
fn the_names_that_a_body_is_given_hide_columns_of_the_same_name() {
    let text = declared("body: [\"{{ prompt }}\", \"{{ row.prompt }}\", \"{{ model }}\"]");
    let plan = good(&text, &[]);
    // The backend has no model, so that name is free for the column.
    let expected = json!(["Q: why", "why", "a column"]);
    assert_eq!(http(&plan).body(&request()).unwrap(), expected);

    let plan = good(&text, &["backends.mine.model=m"]);
    let expected = json!(["Q: why", "why", "m"]);
    assert_eq!(http(&plan).body(&request()).unwrap(), expected);
}

#[test]
fn a_text_that_is_one_expression_keeps_its_type_and_every_other_is_a_text() {
    let text = declared(
        "max_tokens: 9, body: { a: \"{{ max_tokens }}\", b: \"{{ max_tokens }} tokens\", \
         c: \"{{ messages }}\", d: \" {{ max_tokens }}\", e: \"{{ '7' | int }}\", f: \"{{ language }}\", \
         g: \"{{ system }}\", \"{{ h }}\": 1 }",
    );
    let expected = json!({
        "a": 9, "b": "9 tokens", "c": [{"role": "user", "content": "Q: why"}], "d": " 9", "e": 7,
        "f": "\"de\"", "g": "", "{{ h }}": 1,
    });
    let sent = http(&good(&text, &[])).body(&request()).unwrap();
    assert_eq!(sent, expected);
}

#[test]
fn a_body_that_is_one_template_must_render_to_json() {
    let body = |template: &str| {
        let text = declared(&format!("body: '{template}'"));
        http(&good(&text, &[])).body(&request())
    };
    let sent = body("{ \"q\": {{ row[\"Customer Name\"] | tojson }}, \"n\": [1, 2.5] }").unwrap();
    assert_eq!(sent, json!({ "q": "Ada \u{1}", "n": [1, 2.5] }));
    let error = body("Q: {{ language }}").unwrap_err().message;
    assert!(
        error.contains("no JSON") && error.contains("tojson"),
        "{error}"
    );
    assert!(!error.contains("\"de\""), "row text: {error}");
}
