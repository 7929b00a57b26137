//! The table of docs/servers.md: which servers were tried, and what each of them was tried with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A server, and how it stands above its column.
struct Column {
    /// The folder of its tests; `None` of one that is too heavy for them and was tried by hand.
    folder: Option<&'static str>,
    title: &'static str,
}

/// Something that is tried, and the test of each column that tries it.
struct Check {
    what: &'static str,
    tests: &'static [&'static str],
    /// Whether it was tried by hand where there are no tests.
    by_hand: bool,
}

const COLUMNS: [Column; 5] = [
    Column {
        folder: Some("llama_cpp"),
        title: "llama.cpp",
    },
    Column {
        folder: Some("litellm"),
        title: "LiteLLM's proxy",
    },
    Column {
        folder: Some("portkey"),
        title: "Portkey's gateway",
    },
    Column {
        folder: Some("aimock"),
        title: "aimock",
    },
    Column {
        folder: None,
        title: "vLLM, by hand",
    },
];

const CHECKS: [Check; 21] = [
    Check {
        what: "answers, usage, status and cost are those of the server, in the order of the rows",
        tests: &[
            "every_protocol_brings_what_the_server_itself_says_and_in_the_order_of_the_rows",
            "every_protocol_brings_through_a_proxy_what_the_server_behind_it_says",
            "a_declared_backend_brings_through_a_gateway_what_the_server_behind_it_says",
            "whole_cut_and_refused_answers_of_a_mock_are_told_as_such_in_every_protocol",
        ],
        by_hand: true,
    },
    Check {
        what: "the report's tokens are those that the server counts",
        tests: &[
            "the_tokens_of_the_report_are_those_that_the_server_counts",
            "every_protocol_brings_through_a_proxy_what_the_server_behind_it_says",
        ],
        by_hand: true,
    },
    Check {
        what: "results are the same, byte for byte, one by one and many at a time",
        tests: &["two_runs_publish_the_same_bytes_one_by_one_or_many_at_a_time"],
        by_hand: false,
    },
    Check {
        what: "`answer: { labels }` holds the model to the labels",
        tests: &["a_schema_makes_even_noise_answer_with_a_label"],
        by_hand: false,
    },
    Check {
        what: "no more in flight than the limit, as the server sees it",
        tests: &[
            "the_server_never_works_on_more_than_the_limit_allows",
            "the_limits_of_a_proxys_key_and_of_the_job_are_kept_to",
        ],
        by_hand: true,
    },
    Check {
        what: "without a limit: all of the server's slots, and no queue in it",
        tests: &["without_a_limit_a_job_keeps_to_the_slots_of_the_server"],
        by_hand: false,
    },
    Check {
        what: "requests per minute",
        tests: &[
            "requests_per_minute_are_kept_to",
            "the_limits_of_a_proxys_key_and_of_the_job_are_kept_to",
        ],
        by_hand: true,
    },
    Check {
        what: "limits that the server states, and how long a refusal asks to wait",
        tests: &[
            "the_limits_of_a_proxys_key_and_of_the_job_are_kept_to",
            "a_mock_that_asks_for_a_second_is_left_alone_for_a_second_and_not_for_its_whole_window",
        ],
        by_hand: false,
    },
    Check {
        what: "connections that the server closes, and fewer threads than connections",
        tests: &[
            "connections_that_the_server_closes_after_a_hundred_requests_cost_no_attempt",
            "more_connections_than_the_server_has_threads_hold_no_row_up",
        ],
        by_hand: false,
    },
    Check {
        what: "a network that cuts, resets, stalls and garbles, in between: no answer changed, no bill hidden",
        tests: &["a_network_that_harms_every_fifth_connection_changes_no_answer_and_hides_no_bill"],
        by_hand: false,
    },
    Check {
        what: "`stream: true`: the same results",
        tests: &["a_stream_brings_the_same_results_as_a_reply_in_one_piece"],
        by_hand: false,
    },
    Check {
        what: "SIGKILL of the runner: the next run asks only what was not answered",
        tests: &[
            "a_runner_that_is_killed_goes_on_and_the_server_is_asked_nothing_twice_but_what_was_in_flight",
            "after_a_kill_a_mock_is_asked_for_no_row_that_it_has_answered",
        ],
        by_hand: true,
    },
    Check {
        what: "the server dies and comes back: every row is answered",
        tests: &[
            "a_server_that_dies_and_comes_back_answers_every_row",
            "a_gateway_that_dies_and_comes_back_answers_every_row",
            "a_mock_that_dies_and_comes_back_answers_every_row",
        ],
        by_hand: false,
    },
    Check {
        what: "the server stays away: exit 5, and the next run goes on",
        tests: &[
            "a_server_that_stays_away_ends_the_run_and_the_next_run_asks_only_the_rest",
            "a_proxy_that_is_killed_and_started_again_is_asked_for_the_rest",
        ],
        by_hand: false,
    },
    Check {
        what: "the server is still loading: waited for",
        tests: &["a_server_that_is_still_loading_is_waited_for"],
        by_hand: false,
    },
    Check {
        what: "a wrong or a missing key: the backend is out of the run, the message names the variable",
        tests: &[
            "a_wrong_key_stops_each_backend_at_once_and_the_message_names_its_variable",
            "a_missing_key_is_told_as_one",
            "what_a_proxy_refuses_ends_in_its_class_and_says_what_to_do",
            "what_a_gateway_refuses_ends_in_its_class_and_says_why",
            "whole_cut_and_refused_answers_of_a_mock_are_told_as_such_in_every_protocol",
        ],
        by_hand: true,
    },
    Check {
        what: "an unknown model: told as such, or as the model that answered",
        tests: &[
            "an_unknown_model_is_answered_and_the_report_says_by_which",
            "an_endpoint_that_the_server_lacks_is_a_mistake_of_the_job",
            "what_a_proxy_refuses_ends_in_its_class_and_says_what_to_do",
        ],
        by_hand: true,
    },
    Check {
        what: "a prompt beyond the context: its row fails, and no other",
        tests: &[
            "a_prompt_that_does_not_fit_fails_its_row_and_no_other",
            "what_a_proxy_refuses_ends_in_its_class_and_says_what_to_do",
            "a_prompt_that_is_too_long_for_the_server_behind_a_gateway_fails_its_row_and_no_other",
        ],
        by_hand: true,
    },
    Check {
        what: "the key in no byte that is written or printed; `runner probe`",
        tests: &[
            "the_key_stands_in_no_byte_that_is_written_or_printed",
            "probe_asks_each_backend_once",
            "every_protocol_brings_through_a_proxy_what_the_server_behind_it_says",
            "a_declared_backend_brings_through_a_gateway_what_the_server_behind_it_says",
            "whole_cut_and_refused_answers_of_a_mock_are_told_as_such_in_every_protocol",
        ],
        by_hand: false,
    },
    Check {
        what: "a key without money: the backend is out of the run, the next one answers",
        tests: &["what_a_proxy_refuses_ends_in_its_class_and_says_what_to_do"],
        by_hand: false,
    },
    Check {
        what: "failures at random: the report's attempts are the requests in the server's journal",
        tests: &["the_attempts_of_a_run_are_those_in_the_journal_of_a_mock_that_fails_at_random"],
        by_hand: false,
    },
];

const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->\n";

#[test]
fn the_page_of_the_servers_shows_what_is_tried() {
    let page = root().join("docs/servers.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, &expected).unwrap();
    }
    assert_eq!(
        text, expected,
        "UPDATE_GOLDEN=1 cargo test --test real writes it"
    );
}

#[test]
fn the_page_of_the_servers_names_the_versions_that_are_installed() {
    let text = fs::read_to_string(root().join("docs/servers.md")).unwrap();
    for column in COLUMNS.iter().filter_map(|column| column.folder) {
        let (name, version) = pinned(&root().join("tests/real/servers").join(column));
        assert!(
            text.contains(&format!("`{name}` {version}")),
            "{name} {version}"
        );
    }
}

/// The package that a server comes in, and its version.
fn pinned(folder: &Path) -> (String, String) {
    if let Ok(packages) = fs::read_to_string(folder.join("package.json")) {
        let packages: Value = serde_json::from_str(&packages).unwrap();
        let packages = packages["dependencies"].as_object().unwrap();
        let (name, version) = packages.iter().next().unwrap();
        return (name.clone(), version.as_str().unwrap().to_owned());
    }
    let packages = fs::read_to_string(folder.join("requirements.txt")).unwrap();
    let mut lines = packages.lines();
    let (name, version) = lines.find_map(|line| line.split_once("==")).unwrap();
    (name.to_owned(), version.to_owned())
}

fn table() -> String {
    let titles = COLUMNS.map(|column| column.title).join(" | ");
    let mut table = format!("| | {titles} |\n|---|{}\n", "---|".repeat(COLUMNS.len()));
    for check in CHECKS {
        let cells = COLUMNS.map(|column| match column.folder {
            Some(folder) if tests_of(folder, check.tests) => "✓",
            None if check.by_hand => "✓",
            _ => "",
        });
        table.push_str(&format!("| {} | {} |\n", check.what, cells.join(" | ")));
    }
    table
}

/// Whether a server's folder has one of these tests.
fn tests_of(folder: &str, tests: &[&str]) -> bool {
    let files = fs::read_dir(root().join("tests/real").join(folder)).unwrap();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let all: String = texts.collect();
    tests
        .iter()
        .any(|test| all.contains(&format!("#[test]\nfn {test}()")))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
