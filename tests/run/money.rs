use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::loopback::{Act, reply};
use crate::published::{Published, units};
use crate::scratch::Scratch;
use crate::served::{self, Served, completion, ok};

/// A million tokens cost so many dollars: one token so many units.
const UNITS: u64 = 1_000_000_000;
const SOUND: &str = "no script panics";

/// A server that bills every request that it works on, whatever becomes of the reply.
struct Billing {
    server: Served,
    name: &'static str,
    rates: (u64, u64),
    bills: Arc<Mutex<HashMap<String, Bill>>>,
}

/// What it bills for a request.
#[derive(Clone, Copy)]
struct Bill {
    units: i128,
    /// Whether its reply says so, and is whole.
    told: bool,
}

impl Billing {
    /// 12 of 100 requests meet with a fault, each of ten as often. Which, is drawn for the prompt and how often
    /// it came.
    fn new(name: &'static str, rates: (u64, u64), seed: u64) -> Self {
        let bills = Arc::new(Mutex::new(HashMap::new()));
        let (written, came) = (
            Arc::clone(&bills),
            Mutex::new(HashMap::<String, u64>::new()),
        );
        let server = Served::new(move |number, seen| {
            let prompt = served::prompt(seen);
            let mut came = came.lock().expect(SOUND);
            let times = came.entry(prompt.clone()).or_default();
            *times += 1;
            let mut random = fastrand::Rng::with_seed(seed + *times);
            prompt.bytes().for_each(|byte| {
                random = fastrand::Rng::with_seed(random.u64(..) ^ u64::from(byte));
            });
            let fault = (random.u32(0..100) < 12).then(|| random.u32(0..10));
            let id = format!("{name}-{number}");
            // No more than there are bytes, and than was allowed.
            let (input, output) = (random.u64(1..=prompt.len() as u64), random.u64(0..=16));
            let worked = !matches!(fault, Some(0..3));
            let units = i128::from(UNITS * (input * rates.0 + output * rates.1));
            let bill = Bill {
                units: if worked { units } else { 0 },
                told: matches!(fault, None | Some(5 | 8 | 9)),
            };
            written.lock().expect(SOUND).insert(id.clone(), bill);
            act(fault, &id, &prompt, (input, output))
        });
        Self {
            server,
            name,
            rates,
            bills,
        }
    }

    fn backend(&self) -> String {
        let (name, url, (input, output)) = (self.name, self.server.url(), self.rates);
        format!(
            "{name}: {{ type: openai, url: \"{url}/v1\", model: m, max_tokens: 16, timeout: 400ms, \
             price: {{ input: {input}, output: {output} }} }}"
        )
    }

    /// What it would write on its invoice.
    fn invoice(&self) -> i128 {
        self.bills
            .lock()
            .expect(SOUND)
            .values()
            .map(|bill| bill.units)
            .sum()
    }
}

fn act(fault: Option<u32>, id: &str, prompt: &str, (input, output): (u64, u64)) -> Act {
    let header = [("x-request-id", id)];
    let body = |text: &str, reason: &str| {
        let message = json!({ "role": "assistant", "content": text });
        let mut body = completion(message, reason);
        body["usage"] = json!({ "prompt_tokens": input, "completion_tokens": output });
        body
    };
    let answers = |body: &Value, missing| reply(200, &header, body.to_string().as_bytes(), missing);
    match fault {
        None => answers(&body(prompt, "stop"), 0),
        Some(0) => served::fails_with(429, "rate_limit_exceeded", &header),
        Some(1) => served::fails_with(500, "server_error", &header),
        // Gone before any work was done; and after it.
        Some(2) => Act::Write(Vec::new()),
        Some(3) => answers(&body(prompt, "stop"), 10),
        Some(4) => reply(200, &header, b"<html>", 0),
        Some(5) => answers(&body("", "stop"), 0),
        Some(6) => Act::Hang(Vec::new()),
        Some(7) => {
            let mut silent = body(prompt, "stop");
            silent["usage"].take();
            answers(&silent, 0)
        }
        Some(8) => answers(&body(prompt, "length"), 0),
        Some(_) => {
            let mut nothing = body("", "stop");
            nothing["choices"] = json!([]);
            answers(&nothing, 0)
        }
    }
}

fn usd(value: &Value) -> i128 {
    units(value.as_str().expect("an amount"))
}

/// The report is the sum over the lines of the ledger, each of these is what the server billed for it, and what
/// nobody knows contains the rest.
#[track_caller]
fn reconcile(scratch: &Scratch, published: &Published, servers: &[&Billing]) {
    let store = rusqlite::Connection::open(scratch.path().join("out/run.db"));
    let store = store.expect("a store");
    let query = "SELECT request_id, cost, cost_usd FROM attempts";
    let mut query = store.prepare(query).expect("a query");
    let lines = query.query_map([], |line| Ok((line.get(0)?, line.get(1)?, line.get(2)?)));
    type Line = (Option<String>, String, Option<String>);
    let lines: Result<Vec<Line>, _> = lines.expect("it can be asked").collect();
    let lines = lines.expect("it can be read");
    let requests: usize = servers
        .iter()
        .map(|billing| billing.server.requests())
        .sum();
    assert_eq!(lines.len(), requests);
    let bills: HashMap<String, Bill> = servers
        .iter()
        .flat_map(|billing| billing.bills.lock().expect(SOUND).clone())
        .collect();
    let (mut paid, mut possible, mut matched) = (0, 0, 0);
    for (id, cost, amount) in &lines {
        let amount = units(amount.as_deref().expect("every request has a bound"));
        let known = cost == "known";
        *(if known { &mut paid } else { &mut possible }) += amount;
        let Some(billed) = id.as_ref().map(|id| bills[id]) else {
            continue;
        };
        matched += 1;
        assert!(known || !billed.told, "{id:?}");
        assert!(
            amount == billed.units || (!known && amount > billed.units),
            "{id:?}"
        );
    }
    assert!(
        matched * 10 > lines.len() * 9,
        "{matched} of {}",
        lines.len()
    );
    let cost = &published.report["cost"];
    assert_eq!(usd(&cost["total_usd"]), paid);
    assert_eq!(usd(&cost["possibly_billed_usd"]), possible);
    assert_eq!(cost["unbounded_attempts"], 0);
    let invoice: i128 = servers.iter().map(|billing| billing.invoice()).sum();
    assert!(
        paid < invoice && invoice <= paid + possible,
        "{paid} {invoice} {possible}"
    );
}

#[test]
fn with_faults_the_report_is_the_sum_of_the_attempts_and_contains_the_servers_own_ledger() {
    let scratch = Scratch::new();
    let (cheap, dear) = (
        Billing::new("cheap", (1, 2), 1),
        Billing::new("dear", (3, 15), 2),
    );
    let job = |prompt: &str| {
        let (cheap, dear) = (cheap.backend(), dear.backend());
        scratch.write(
            "job.yaml",
            format!(
                "inputs: rows.csv\nprompt: \"{prompt}\"\noutput: {{ dir: out }}\n\
                 backends: {{ {cheap}, {dear} }}\nretry: {{ attempts: 2, initial: 1ms, max: 2ms }}\n\
                 concurrency: 16\nmax_failures: 100%\n"
            ),
        );
    };
    job("How is {{ text }}?");
    let (_, published) = scratch.rows(500).run(0);
    reconcile(&scratch, &published, &[&cheap, &dear]);
    let cost = &published.report["cost"];
    for name in ["useful", "truncated", "invalid"] {
        assert!(usd(&cost["by_use"][name]) > 0, "{name}");
    }
    assert!(usd(&cost["by_backend"]["dear"]) > 0);
    assert!(usd(&cost["possibly_billed_usd"]) > 0);
    scratch.runner(&["verify", "out"]).exits(0);
    // Fewer rows, another question for some of them, and what failed once more.
    job("How is {% if text < 'row 3' %}{{ text }} now{% else %}{{ text }}{% endif %}?");
    let (_, published) = scratch.rows(450).run(0);
    reconcile(&scratch, &published, &[&cheap, &dear]);
    let cost = &published.report["cost"];
    for name in ["useful", "superseded", "removed"] {
        assert!(usd(&cost["by_use"][name]) > 0, "{name}");
    }
    assert_eq!(cost["by_use"]["removed"], cost["removed_rows_usd"]);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn what_was_wasted_what_an_answer_cost_and_what_the_rest_may_cost_is_said() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match served::prompt(seen).as_str() {
        "row 2" => served::ends("cut", "length"),
        "row 4" => served::says(""),
        "row 5" => served::fails(500, "server_error"),
        prompt => served::says(prompt),
    });
    scratch.rows(6).job(&format!(
        "backends: {{ {} }}\nretry: {{ attempts: 1 }}\nmax_failures: 3",
        server.backend("a", "")
    ));
    let (ran, published) = scratch.run(0);
    let said = "\
spent: $0.0000600 useful, $0.0000400 wasted (truncated $0.0000200, invalid $0.0000200)
per answered row: $0.0000333
left: 1 row, about $0.0000200 more at $0.0000200 a row, as for the 5 done so far
";
    ran.says(said);
    let cost = &published.report["cost"];
    assert_eq!(cost["wasted_usd"], "0.00004");
    assert_eq!(cost["per_answered_row_usd"], "0.000033333333333");
    assert_eq!(cost["per_asked_row_usd"], "0.000016666666667");
    assert_eq!(cost["rows_left"], 1);
    assert_eq!(cost["projected_rest_usd"], "0.00002");
    for file in ["report.md", "report.html"] {
        let text = fs::read_to_string(scratch.path().join("out").join(file)).unwrap();
        for line in said.lines() {
            assert!(text.contains(line), "{file}: {line}");
        }
    }
}

#[test]
fn what_a_providers_prompt_cache_saved_is_said() {
    for (details, price, saved, said) in [
        (
            json!({ "cached_tokens": 600 }),
            "cache_read: 0.1",
            "0.00054",
            "the providers' prompt caches saved $0.000540\n",
        ),
        (json!({}), "cache_read: 0.1", "0.00", "per answered row"),
    ] {
        let scratch = Scratch::new();
        let server = Served::new(move |_, _| {
            let message = json!({ "role": "assistant", "content": "x" });
            let mut body = completion(message, "stop");
            body["usage"] = json!({
                "prompt_tokens": 1000, "completion_tokens": 5, "prompt_tokens_details": details,
            });
            ok(&body)
        });
        scratch.rows(1).job(&format!(
            "backends: {{ a: {{ type: openai, url: \"{}/v1\", model: m, max_tokens: 16, \
             price: {{ input: 1, output: 2, {price} }} }} }}",
            server.url()
        ));
        let (ran, published) = scratch.run(0);
        assert_eq!(published.report["cost"]["prompt_cache_saved_usd"], saved);
        ran.says(said);
    }
}

#[test]
fn what_falling_back_cost_is_said_beside_what_the_first_backend_would_have_asked() {
    let scratch = Scratch::new();
    let cheap = Served::new(|_, seen| match served::prompt(seen).as_str() {
        "row 2" | "row 3" => served::fails(500, "server_error"),
        prompt => served::says(prompt),
    });
    let dear = Served::echo();
    scratch.rows(4).job(&format!(
        "backends: {{ {}, dear: {{ type: openai, url: \"{}/v1\", model: m, max_tokens: 16, \
         price: {{ input: 10, output: 20 }} }} }}\nretry: {{ attempts: 1 }}",
        cheap.backend("cheap", ""),
        dear.url()
    ));
    let (ran, published) = scratch.run(0);
    let expected = json!({
        "rows": 2, "unknown_rows": 0, "paid_usd": "0.0004", "at_first_price_usd": "0.00004",
    });
    assert_eq!(published.report["cost"]["fallback"], expected);
    ran.says(
        "2 answers of a fallback cost $0.000400; at the price of the first backend $0.0000400\n",
    );
}

#[test]
fn a_run_that_was_free_says_nothing_of_money() {
    let scratch = Scratch::new();
    scratch.rows(3).job(
        "backends: { a: { type: echo, delay: 0ms, failures: { flagged: 50% } } }\nmax_failures: 3",
    );
    let (ran, _) = scratch.run(0);
    ran.never_says("$");
    let text = fs::read_to_string(scratch.path().join("out/report.md")).unwrap();
    assert!(
        !text.contains("spent:") && !text.contains("per answered row"),
        "{text}"
    );
}

#[test]
fn the_page_loads_nothing_and_runs_nothing_but_its_search() {
    let scratch = Scratch::new();
    scratch
        .rows(3)
        .job("backends: { a: { type: echo, delay: 0ms, price: { input: 1, output: 1 } } }");
    scratch.run(0);
    let page = fs::read_to_string(scratch.path().join("out/report.html")).unwrap();
    crate::payloads::assert_inert_page(&page);
    for bad in [
        "<link", "<img", "<iframe", " style=", "url(", "@import", "http:", "https:", " src=",
    ] {
        assert!(!page.contains(bad), "{bad}");
    }
    // Headings and headers for those who do not see it.
    for needed in [
        "<html lang=\"en\">",
        "<title>",
        "<h1>",
        "<th scope=\"col\"",
        "<th scope=\"row\">",
        "<svg role=\"img\"",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
    for drawn in page.split("<svg").skip(1) {
        let (attributes, inside) = drawn.split_once('>').unwrap();
        assert!(
            inside.starts_with("<title>") || attributes.contains("aria-hidden"),
            "{drawn}"
        );
    }
}
