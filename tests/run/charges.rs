//! What an attempt is charged: by the request, by the hour, by counts that contradict each other.

use serde_json::{Value, json};

use crate::published::units;
use crate::scratch::Scratch;
use crate::served::{Served, completion, ok};

/// The exact sum of what the attempts of all results cost.
fn sum(lines: &[Value]) -> i128 {
    let attempts = lines.iter().flat_map(|line| line["attempts"].as_array());
    let costs = attempts
        .flatten()
        .map(|attempt| units(attempt["cost_usd"].as_str().expect("a known cost")));
    costs.sum()
}

/// The line of an attempt to which a server said that it had used this.
fn charged(scratch: &Scratch, usage: Value) -> Value {
    let server = Served::new(move |_, _| {
        let message = json!({ "role": "assistant", "content": "x" });
        let mut body = completion(message, "stop");
        body["usage"] = usage.clone();
        ok(&body)
    });
    scratch
        .rows(1)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (_, published) = scratch.run(0);
    published.lines[0]["attempts"][0].clone()
}

#[test]
fn a_fee_is_paid_for_each_answered_request_and_for_no_other() {
    let scratch = Scratch::new();
    scratch.rows(40).job(
        "backends: { a: { type: echo, delay: 0ms, failures: { row_fatal: 40% }, price: { per_request: 0.001 } } }\n\
         max_failures: 40",
    );
    let (_, published) = scratch.run(0);
    let answered = published.count("answered");
    assert!((10..40).contains(&answered), "{answered}");
    let total = units(published.report["cost"]["total_usd"].as_str().unwrap());
    assert_eq!(total, answered as i128 * units("0.001"));
    assert_eq!(sum(&published.lines), total);
}

#[test]
fn an_hour_of_a_server_is_shared_by_the_requests_in_flight() {
    let scratch = Scratch::new();
    // Ten at once for a fifth of a second, twice.
    scratch.rows(20).job(
        "backends: { a: { type: echo, delay: 200ms, price: { per_hour: 3600 } } }\nconcurrency: 10",
    );
    let (_, published) = scratch.run(0);
    let total = units(published.report["cost"]["total_usd"].as_str().unwrap());
    assert_eq!(sum(&published.lines), total);
    // A dollar a second: it is the time that counts, and not the requests.
    let (least, most) = (units("0.4"), units("2.0"));
    assert!((least..most).contains(&total), "{total}");
    let time = published.report["tokens"]["server_time_us"]
        .as_u64()
        .unwrap();
    assert!(units("0.000001") * i128::from(time) <= total, "{time}");
}

#[test]
fn nobody_pays_for_a_servers_time_beyond_the_timeout() {
    let scratch = Scratch::new();
    scratch.rows(3).job(
        "backends: { a: { type: echo, delay: 10s, timeout: 30ms, price: { per_hour: 3600 } } }\n\
         concurrency: 1\nretry: { attempts: 1 }\nbudget: 0.09",
    );
    let (_, published) = scratch.run(3);
    // A dollar a second, and each of them was given up a moment too late.
    for line in &published.lines {
        let attempt = &line["attempts"][0];
        assert_eq!(attempt["usage"]["server_time_us"], 30_000, "{line}");
        assert_eq!(attempt["cost_usd"], "0.03", "{line}");
    }
}

#[test]
fn counts_that_contradict_the_providers_total_are_flagged_and_charged_the_dearer_way() {
    let scratch = Scratch::new();
    let attempt = &charged(
        &scratch,
        json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 18 }),
    );
    assert_eq!(attempt["usage"]["unclassified_tokens"], 3);
    assert_eq!(attempt["usage"]["inconsistent"], true);
    // 10 at 1, 5 at 2, and 3 of which nobody knows what they are, at 2.
    assert_eq!(attempt["cost_usd"], "0.000026");
}

#[test]
fn more_tokens_than_were_asked_for_are_charged_and_flagged() {
    // A prompt of five bytes, and 16 tokens at most.
    for (input, output, cost, flagged) in [
        (10, 16, "0.000042", None),
        (10, 17, "0.000044", Some(true)),
        (1000, 5, "0.00101", Some(true)),
    ] {
        let scratch = Scratch::new();
        let usage = json!({ "prompt_tokens": input, "completion_tokens": output });
        let attempt = &charged(&scratch, usage);
        assert_eq!(
            attempt["usage"]["inconsistent"].as_bool(),
            flagged,
            "{input} {output}"
        );
        assert_eq!(attempt["cost_usd"], cost);
    }
}

#[test]
fn a_price_that_changes_between_two_runs_changes_nothing_that_was_paid() {
    let scratch = Scratch::new();
    let job = |price: u32| {
        scratch.job(&format!(
            "backends: {{ a: {{ type: echo, price: {{ per_request: {price} }} }} }}"
        ));
    };
    job(1);
    scratch.rows(2).run(0);
    job(3);
    scratch.rows(3).run(0);
    let (_, published) = scratch.run(0);
    assert_eq!(published.report["cost"]["total_usd"], "5.00");
    let store = rusqlite::Connection::open(scratch.path().join("out/run.db")).unwrap();
    let query = "SELECT terms ->> 'per_request', source, count(*), group_concat(DISTINCT cost_usd)
         FROM attempts JOIN prices USING (price) GROUP BY price ORDER BY 1";
    let mut query = store.prepare(query).unwrap();
    let lines = query.query_map([], |line| {
        Ok((line.get(0)?, line.get(1)?, line.get(2)?, line.get(3)?))
    });
    let lines: Vec<(String, String, u32, String)> = lines.unwrap().map(Result::unwrap).collect();
    let line = |usd: &str, attempts| {
        (
            usd.to_owned(),
            "the job".to_owned(),
            attempts,
            usd.to_owned(),
        )
    };
    assert_eq!(lines, [line("1.00", 2), line("3.00", 1)]);
}
