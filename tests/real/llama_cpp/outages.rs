use std::thread;
use std::time::Duration;

use super::answers::without_latency;
use super::protocols::{MOST, PROTOCOLS};
use super::{Llama, SLOTS};
use crate::direct;
use crate::published::Published;
use crate::scratch::{Scratch, until};

/// So many that something can happen meanwhile.
const ROWS: usize = 300;

/// A job that asks in two ways.
fn job(llama: &Llama, retry: &str) -> String {
    let backend = |place: usize| {
        PROTOCOLS[place]
            .backend(llama, "")
            .replace("temperature: 1.0, seed: 7", "temperature: 0")
    };
    let (chat, native) = (backend(0), backend(5));
    format!(
        "backends:\n{chat}{native}matrix: [openai_chat, llama_cpp_completion]\nretry: {{ {retry} }}\n\
         concurrency: {SLOTS}\nmax_failures: 100%"
    )
}

#[test]
fn a_server_that_is_still_loading_is_waited_for() {
    let test = "a_server_that_is_still_loading_is_waited_for";
    let Some(llama) = Llama::loading(test, Duration::from_secs(1)) else {
        return;
    };
    until("the server to say that it is loading", || {
        direct::get(llama.port(), "/health", "").is_some()
    });
    let scratch = llama.scratch();
    // A declared backend knows its server by its statuses alone, and a 503 may mean anything.
    let protocols = &PROTOCOLS[..8];
    let backends: String = protocols
        .iter()
        .map(|protocol| protocol.backend(&llama, ""))
        .collect();
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.name).collect();
    let names = names.join(", ");
    scratch.rows(2).job(&format!(
        "backends:\n{backends}matrix: [{names}]\nmax_failures: 100%"
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("failed") + published.count("not_run"), 0);
    let attempts = published
        .lines
        .iter()
        .flat_map(|line| line["attempts"].as_array().unwrap());
    let loading: Vec<_> = attempts
        .filter(|attempt| attempt["http_status"] == 503)
        .collect();
    assert!(
        !loading.is_empty(),
        "the server was loaded before it was asked"
    );
    for attempt in loading {
        assert_eq!(attempt["class"], "server", "{attempt}");
        assert!(
            attempt["error"].as_str().unwrap().contains("Loading model"),
            "{attempt}"
        );
        assert_eq!(attempt["cost_usd"], "0.00", "{attempt}");
    }
}

#[test]
fn a_server_that_dies_and_comes_back_answers_every_row() {
    let Some(mut llama) = Llama::start("a_server_that_dies_and_comes_back_answers_every_row")
    else {
        return;
    };
    let scratch = llama.scratch();
    scratch
        .rows(ROWS)
        .job(&job(&llama, "attempts: 10, initial: 200ms, max: 1s"));
    let undisturbed = scratch.run(0).1;
    let running = scratch.start(&["job.yaml", "--fresh"]);
    is_in_the_middle(&scratch);
    llama.kill();
    thread::sleep(Duration::from_millis(500));
    llama.comes_back();
    running.wait().exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.answers(), undisturbed.answers());
    assert_eq!(published.statuses(), undisturbed.statuses());
    let failed = classes(&published);
    assert!(!failed.is_empty(), "it died when everything was done");
    let known = ["ambiguous", "not_sent", "server"];
    assert!(
        failed.iter().all(|class| known.contains(&&**class)),
        "{failed:?}"
    );
    // What it was working on when it died may have been billed, and is not counted as paid.
    let cut = failed.iter().filter(|class| *class == "ambiguous").count();
    assert!(cut <= SLOTS, "{failed:?}");
    assert_eq!(
        published.report["cost"]["total_usd"],
        undisturbed.report["cost"]["total_usd"]
    );
}

#[test]
fn a_server_that_stays_away_ends_the_run_and_the_next_run_asks_only_the_rest() {
    let Some(mut llama) = Llama::start("a_server_that_stays_away_ends_the_run") else {
        return;
    };
    let scratch = llama.scratch();
    scratch
        .rows(ROWS)
        .job(&job(&llama, "attempts: 2, initial: 10ms, max: 50ms"));
    let undisturbed = scratch.run(0).1;
    let once = llama.counts("tokens_predicted_total");
    // A plan that gives up soon: no outage is waited for.
    let running = scratch.start(&["job.yaml", "--fresh", "--set", "retry.max_outage=1s"]);
    is_in_the_middle(&scratch);
    llama.kill();
    let ran = running.wait().exits(5).says("connection refused");
    drop(ran);
    let published = scratch.published("out", 5);
    let done = published
        .statuses()
        .iter()
        .filter(|status| ["answered", "truncated", "empty"].contains(status))
        .count();
    assert!(
        (1..2 * ROWS).contains(&done),
        "{done} were answered before the server died"
    );
    llama.comes_back();
    let (_, resumed) = scratch.run(0);
    assert_eq!(resumed.answers(), undisturbed.answers());
    let told = |published: &Published| {
        let lines = published.lines.iter().filter(|line| {
            ["answered", "truncated", "empty"]
                .iter()
                .any(|status| line["status"] == *status)
        });
        lines
            .map(|line| line["usage"]["output_tokens"].as_u64().unwrap() as usize)
            .sum::<usize>()
    };
    assert_eq!(
        llama.counts("tokens_predicted_total"),
        once - told(&published)
    );
}

#[test]
fn a_runner_that_is_killed_goes_on_and_the_server_is_asked_nothing_twice_but_what_was_in_flight() {
    let Some(llama) = Llama::start("a_runner_that_is_killed_goes_on") else {
        return;
    };
    let (calm, killed) = (llama.scratch(), llama.scratch());
    for scratch in [&calm, &killed] {
        scratch.rows(ROWS).job(&job(&llama, "attempts: 3"));
    }
    calm.run(0);
    let once = llama.counts("tokens_predicted_total");
    const KILLS: usize = 3;
    let mut died = 0;
    for _ in 0..KILLS {
        let running = killed.start(&["job.yaml"]);
        thread::sleep(Duration::from_millis(250));
        running.signal("KILL");
        died += usize::from(running.wait().code.is_none());
    }
    assert!(died > 0, "the run was over before it could be killed");
    // The server goes on with what nobody waits for any more.
    until("all slots to be free", || llama.working_on() == 0);
    killed.run(0);
    assert_eq!(without_latency(&killed), without_latency(&calm));
    let twice = llama.counts("tokens_predicted_total") - 2 * once;
    assert!(
        twice <= died * SLOTS * MOST as usize,
        "{twice} tokens were made twice"
    );
}

/// Waits until some rows are answered and others are not.
#[track_caller]
fn is_in_the_middle(scratch: &Scratch) {
    until("some rows to be answered", || {
        let ran = scratch.runner(&["status", "out", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let rows = |name: &str| status["rows"][name].as_u64().unwrap_or(0);
        rows("left") > 0 && rows("total") > rows("left") + 20
    });
}

/// The classes of all attempts that brought no answer.
fn classes(published: &Published) -> Vec<String> {
    let attempts = published
        .lines
        .iter()
        .flat_map(|line| line["attempts"].as_array().unwrap());
    let classes = attempts.filter_map(|attempt| attempt["class"].as_str());
    let classes = classes.filter(|class| !["flagged", "invalid"].contains(class));
    classes.map(str::to_owned).collect()
}
