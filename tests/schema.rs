//! The JSON Schema of the job file: it is the one that is checked in, takes every good job, and refuses what is wrong
//! with the shape of a bad one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_prompt_orchestrator::job;

const FILE: &str = "jobs/job.schema.json";
const COMMENT: &str = "# yaml-language-server: $schema=job.schema.json\n";

/// What is wrong with these is no matter of shape: it takes the other keys, the columns, the environment or other files to
/// see it. (Those that are no YAML at all are known by that.)
const NOT_OF_SHAPE: &[&str] = &[
    "a_column_with_a_space_in_braces",
    "a_later_key",
    "a_name_that_is_no_folder",
    "a_request_that_never_fits",
    "a_server_without_a_model",
    "account_that_no_request_fits",
    "accounts_that_differ",
    "addresses_that_are_refused",
    "an_address_with_an_escape",
    "answer_of_a_schema_that_is_none",
    "answers_that_cannot_be",
    "backend_twice_in_fallback",
    "budget_that_cannot_be_kept",
    "burst_without_a_rate",
    "cache_that_is_a_directory",
    "cost_per_row_that_cannot_be_kept",
    "empty_fallback",
    "environment_in_a_template",
    "escalation_of_nothing",
    "gate_of_scores_that_are_not_there",
    "gate_that_asks_for_nothing",
    "gate_that_the_job_cannot_have",
    "half_a_price",
    "http_addresses",
    "http_body",
    "key_over_plain_http",
    "limit_and_sample",
    "matrix_of_nothing",
    "matrix_with_wrong_names",
    "missing_column",
    "missing_key_variable",
    "no_backends",
    "nothing_but_a_name",
    "order_said_three_times",
    "parameters_of_another_type",
    "price_file_of_something_else",
    "price_file_with_bad_cells",
    "price_file_with_other_columns",
    "prices_that_are_not_there",
    "prompt_said_twice",
    "prompt_that_asks_nothing",
    "result_column_clash",
    "route_of_nothing",
    "sampling_refused_by_the_model",
    "template_in_a_missing_file",
    "template_syntax",
    "unknown_api",
    "unknown_backend_in_fallback",
    "values_out_of_range",
];

/// `UPDATE_GOLDEN=1 cargo test --test schema` writes the file anew.
#[test]
fn the_schema_that_is_checked_in_is_that_of_the_types() {
    let schema = format!("{:#}\n", job::schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(FILE, &schema).unwrap();
    }
    let kept = fs::read_to_string(FILE).unwrap();
    assert!(
        kept == schema,
        "{FILE} is not what `runner schema` prints: write it anew with UPDATE_GOLDEN=1"
    );
}

#[test]
fn the_schema_is_one() {
    let schema = job::schema();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap();
}

#[test]
fn every_key_has_a_description() {
    let schema = job::schema();
    let mut mappings = vec![("Job", &schema)];
    let parts = schema["$defs"].as_object().unwrap();
    mappings.extend(parts.iter().map(|(name, part)| (name.as_str(), part)));
    assert!(mappings.len() > 15, "{mappings:?}");
    for (name, mapping) in mappings {
        assert_eq!(mapping["additionalProperties"], false, "{name}");
        assert!(!said(mapping).is_empty(), "{name}");
        for (key, shape) in mapping["properties"].as_object().unwrap() {
            assert!(!said(shape).is_empty(), "{name}.{key}");
        }
    }
}

#[test]
fn every_example_job_is_valid_and_says_where_the_schema_is() {
    let schema = job::schema();
    let jobs = jobs("jobs");
    assert!(jobs.len() >= 10, "{jobs:?}");
    for path in jobs {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(COMMENT), "{}", path.display());
        let job = json(&text).unwrap();
        if let Err(error) = jsonschema::validate(&schema, &job) {
            panic!("{}: {error} at {}", path.display(), error.instance_path());
        }
    }
}

#[test]
fn a_bad_job_is_refused_unless_its_fault_is_not_of_shape() {
    let schema = jsonschema::validator_for(&job::schema()).unwrap();
    let taken = jobs("fixtures/bad_jobs").into_iter().filter(|path| {
        let job = fs::read_to_string(path).ok().and_then(|text| json(&text));
        job.is_some_and(|job| schema.is_valid(&job))
    });
    let taken: Vec<String> = taken
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(taken, NOT_OF_SHAPE);
}

/// Every way to write a value that the reference shows, and some that are none.
#[test]
fn values_are_taken_and_refused_as_the_reader_does() {
    let schema = jsonschema::validator_for(&job::schema()).unwrap();
    for (key, good, bad) in [
        (
            "timeout",
            "[500ms, 30s, 2m, 1h 30m, 1.5s]",
            "[30, '', soon]",
        ),
        ("max_failures", "[0, 3, 1%, 0.5%]", "[-1, 0.5, '3', '%']"),
        (
            "max_waste",
            "[0.1, 10%, {share: 1%, after: 5}]",
            "[2, '10', {most: 1}]",
        ),
        (
            "budget",
            "[5, 0.002, {usd: 1, mode: strict}]",
            "[-1, '5', {mode: lax}]",
        ),
        (
            "inputs",
            "[a.csv, {path: a.csv}, [a.csv, {path: b.csv, limit: 3}]]",
            "[1, [[a.csv]], {file: a}]",
        ),
        (
            "prompt",
            "[hello, {user: hello}, {messages: [{role: user, content: a}]}]",
            "[1, [a], {text: a}, {messages: [{role: bot}]}]",
        ),
        (
            "answer",
            "[{labels: [a, 1, true]}, {number: true}, {number: {min: 1}}, {columns: [a]}, {columns: {a: /b}}]",
            "[a, {labels: a}, {number: false}, {columns: {a: b}}]",
        ),
        (
            "gate",
            "[{accuracy: '>= 0.9'}, {accuracy: {at_least: 0.9}}, {baseline: {path: a}, inconclusive: fail}]",
            "[{accuracy: 0.9}, {accuracy: {least: 1}}, {inconclusive: maybe}]",
        ),
        ("matrix", "[[a, [b, c]]]", "[a, [1]]"),
        (
            "score",
            "[{equals: a}, [{contains: [a, b], ignore: [case]}, {number: '1', tolerance: 1%}]]",
            "[a, {equal: a}, {ignore: [all]}, {tolerance: -1}]",
        ),
        ("durability", "[full, process]", "[most, 1]"),
    ] {
        for (values, is_good) in [(good, true), (bad, false)] {
            for value in json(values).unwrap().as_array().unwrap() {
                let job = serde_json::json!({ key: value });
                assert_eq!(schema.is_valid(&job), is_good, "{job}");
            }
        }
    }
}

fn said(shape: &Value) -> &str {
    shape["description"].as_str().unwrap_or_default()
}

fn json(yaml: &str) -> Option<Value> {
    serde_yaml::from_str(yaml).ok()
}

fn jobs(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(folder)).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut jobs: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "yaml"))
        .collect();
    jobs.sort();
    jobs
}
