//! What a run tells an OpenTelemetry collector, and that it matters to no run whether there is one.

// Helpers, shared with other test binaries.
#[path = "common/loopback.rs"]
#[allow(clippy::unwrap_used, reason = "a test's helper may panic")]
mod loopback;
#[path = "common/published.rs"]
mod published;
#[path = "common/scratch.rs"]
mod scratch;
#[path = "common/served.rs"]
mod served;

use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use loopback::{Act, Loopback, Seen, head, reply};
use scratch::{Ran, Scratch};
use served::{Served, fails, prompt, says};

const KEY: &str = "canary-0123456789abcdef";
const PROMPT: &str = "what the prompt says";
const ANSWER: &str = "what the answer says";
/// A run of a few rows, what the collector is waited for at its end, and a slow machine.
const SOON: Duration = Duration::from_secs(9);

#[test]
fn every_request_that_was_sent_is_a_span_of_its_run_and_is_measured() {
    let collector = Collector::new();
    // The first row is answered at its second attempt, the second one by another backend.
    let server = Served::new(|number, seen| match prompt(seen).as_str() {
        "row 1" if number == 0 => fails(500, "oops"),
        "row 2" => fails(500, "oops"),
        _ => says("yes"),
    });
    let other = Served::always(served::ok(&json!({
        "model": "old-2026",
        "choices": [{ "text": "no", "finish_reason": "length" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 },
    })));
    let scratch = collector
        .scratch("http/json")
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=ours");
    scratch.rows(4).job(&format!(
        "backends: {{ {}, {} }}\nretry: {{ initial: 1ms, attempts: 2 }}\nconcurrency: 1",
        server.backend("a", ""),
        other
            .backend("b", ", api: completions")
            .replace("model: m,", "model: old,"),
    ));
    let before = SystemTime::now();
    // An answer that is cut fails the run.
    let (ran, published) = scratch.run(3);
    assert_eq!(telemetry(&ran), [""; 0], "{}", ran.stderr);

    let spans = collector.spans();
    let run = spans.iter().find(|span| span["name"] == "runner.run");
    let run = run.expect("a span of the run");
    assert_eq!(attribute(run, "runner.exit_code"), "3");
    assert_eq!(attribute(run, "runner.job"), "job");
    let requests: Vec<_> = spans
        .iter()
        .filter(|span| span["name"] != "runner.run")
        .collect();
    let ledger: Vec<_> = published.lines.iter().flat_map(attempts).collect();
    assert_eq!((requests.len(), ledger.len()), (7, 7), "{spans:#?}");
    for (row, attempt) in &ledger {
        let of_it = |span: &&&Value| {
            attribute(span, "runner.row") == *row
                && attribute(span, "runner.attempt") == text(&attempt["number"])
        };
        let span = requests.iter().find(of_it).expect("a span of the attempt");
        agrees(span, attempt, run);
        let backend = match attempt["backend"] == "a" {
            true => (&server, ["chat m", "chat", "m"]),
            false => (&other, ["text_completion old", "text_completion", "old"]),
        };
        let (server, [name, operation, model]) = backend;
        assert_eq!(span["name"], name);
        assert_eq!(span["kind"], 3);
        assert_eq!(attribute(span, "gen_ai.operation.name"), operation);
        assert_eq!(attribute(span, "gen_ai.request.model"), model);
        assert_eq!(attribute(span, "gen_ai.provider.name"), "openai");
        let (host, port) = server.url()["http://".len()..]
            .rsplit_once(':')
            .expect("a port");
        assert_eq!(attribute(span, "server.address"), host);
        assert_eq!(attribute(span, "server.port"), port);
        // The times are those of the request, by the clock on the wall.
        let (began, ended) = (
            time(span, "startTimeUnixNano"),
            time(span, "endTimeUnixNano"),
        );
        assert!(before <= began && began <= ended && ended <= SystemTime::now());
        let took = ended.duration_since(began).expect("it took some time");
        let latency = attempt["latency_ms"].as_u64().expect("milliseconds");
        assert_eq!(took.as_millis() as u64, latency);
    }

    let duration = collector.metric("gen_ai.client.operation.duration");
    assert_eq!(duration["unit"], "s");
    let points = points(&duration);
    let count = |class: &str| -> u64 {
        let of_it = points
            .iter()
            .filter(|point| attribute(point, "error.type") == class);
        of_it.map(|point| number(&point["count"])).sum()
    };
    assert_eq!((count(""), count("server")), (4, 3), "{duration:#}");
    let bounds = points[0]["explicitBounds"].as_array().expect("bounds");
    assert_eq!(
        (bounds.len(), &bounds[0], &bounds[13]),
        (14, &json!(0.01), &json!(81.92))
    );
    let tokens = collector.metric("gen_ai.client.token.usage");
    assert_eq!(tokens["unit"], "{token}");
    let sum = |kind: &str, model: &str| -> f64 {
        let of_it = points_of(
            &tokens,
            &[("gen_ai.token.type", kind), ("gen_ai.request.model", model)],
        );
        of_it.iter().filter_map(|point| point["sum"].as_f64()).sum()
    };
    assert_eq!(
        (sum("input", "m"), sum("output", "m")),
        (30.0, 15.0),
        "{tokens:#}"
    );
    assert_eq!(
        (sum("input", "old"), sum("output", "old")),
        (7.0, 3.0),
        "{tokens:#}"
    );

    for resource in collector.resources() {
        assert_eq!(attribute(&resource, "service.name"), "runner");
        assert_eq!(attribute(&resource, "team"), "ours");
    }
}

#[test]
fn a_request_that_another_one_has_overtaken_is_a_span_too() {
    let collector = Collector::new();
    let server = Served::new(|number, _| match number {
        0 => Act::Hang(Vec::new()),
        _ => says("yes"),
    });
    let scratch = collector.scratch("http/json");
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\nhedge_after: 50ms",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    let spans = collector.spans();
    let run = spans
        .iter()
        .find(|span| span["name"] == "runner.run")
        .expect("a run");
    let ledger: Vec<_> = published.lines.iter().flat_map(attempts).collect();
    assert_eq!((spans.len(), ledger.len()), (3, 2), "{spans:#?}");
    for (_, attempt) in &ledger {
        let number = attempt["number"].to_string();
        let of_it = |span: &&Value| attribute(span, "runner.attempt") == number;
        agrees(
            spans.iter().find(of_it).expect("a span of it"),
            attempt,
            run,
        );
    }
}

#[test]
fn what_was_asked_and_answered_is_sent_where_somebody_wants_it_and_a_key_never() {
    for content in [false, true] {
        let collector = Collector::new();
        let error = json!({ "error": { "message": format!("{KEY} sent {PROMPT}") } }).to_string();
        let server = Served::new(move |number, _| match number {
            0 => reply(500, &[], error.as_bytes(), 0),
            _ => {
                let message = json!({ "role": "assistant", "content": format!("{ANSWER} {KEY}") });
                let mut body = served::completion(message, &format!("why-{KEY}"));
                body["model"] = json!(format!("model-{KEY}"));
                served::ok(&body)
            }
        });
        let scratch = collector
            .scratch("http/json")
            .env("CANARY", KEY)
            .env("OTEL_SERVICE_NAME", "evals")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=ours");
        scratch
            .write("rows.csv", format!("text\n{PROMPT}\n"))
            .job(&format!(
                "backends: {{ {} }}\nretry: {{ initial: 1ms }}",
                server.backend("a", ", api_key_env: CANARY")
            ));
        let args: &[&str] = match content {
            true => &["job.yaml", "--log-content"],
            false => &["job.yaml"],
        };
        scratch.runner(args).exits(0);
        for seen in collector.seen() {
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            assert!(!body.contains(KEY), "{body}");
            assert_eq!(seen.header("x-team"), Some("ours"));
            if !content {
                assert!(!body.contains(PROMPT) && !body.contains(ANSWER), "{body}");
            }
        }
        for resource in collector.resources() {
            assert_eq!(attribute(&resource, "service.name"), "evals");
        }
        let spans = collector.spans();
        let answered = spans
            .iter()
            .find(|span| !attribute(span, "gen_ai.response.model").is_empty())
            .expect("a span of the answer");
        assert_eq!(attribute(answered, "gen_ai.response.model"), "model-[key]");
        let said = |name: &str| -> Value {
            serde_json::from_str(&attribute(answered, name)).unwrap_or_default()
        };
        let (asked, answer) = match content {
            true => (
                json!([{ "role": "user", "parts": [{ "type": "text", "content": PROMPT }] }]),
                json!([{
                    "role": "assistant",
                    "parts": [{ "type": "text", "content": format!("{ANSWER} [key]") }],
                    "finish_reason": "why-[key]",
                }]),
            ),
            false => (Value::Null, Value::Null),
        };
        assert_eq!(said("gen_ai.input.messages"), asked);
        assert_eq!(said("gen_ai.output.messages"), answer);
    }
}

#[test]
fn a_collector_that_is_dead_or_slow_or_failing_neither_holds_up_nor_fails_the_run() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dead = format!("http://{}", gone.local_addr().expect("its address"));
    drop(gone);
    let slow = Loopback::always(Act::Hang(head(200, &[])));
    let failing = Loopback::json(500, &json!({ "error": "no room" }));
    let server = Served::echo();
    for (url, why) in [
        (&dead, ": "),
        (&slow.url, "the collector takes them too slowly"),
        (&failing.url, "HTTP export failed with status code: 500"),
    ] {
        // A queue that is much too small for so many rows.
        let scratch = Scratch::new()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "16")
            .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8");
        scratch
            .rows(200)
            .job(&format!("backends: {{ {} }}", server.backend("a", "")));
        let (ran, published) = scratch.run(0);
        assert_eq!(published.count("answered"), 200);
        assert!(ran.took < SOON, "{:?}", ran.took);
        let told = telemetry(&ran);
        assert_eq!(told.len(), 1, "{}", ran.stderr);
        let lost = "warning: 201 of 201 spans and the metrics were not delivered as telemetry: ";
        assert!(
            told[0].starts_with(lost) && told[0].contains(why),
            "{}",
            told[0]
        );
    }
}

#[test]
fn what_does_not_fit_into_the_queue_is_lost_and_counted() {
    let collector = Collector(Loopback::new(|_| {
        std::thread::sleep(Duration::from_millis(800));
        reply(200, &[], b"{}", 0)
    }));
    let scratch = collector
        .scratch("http/json")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8");
    scratch
        .rows(200)
        .job("backends: { a: { type: echo, delay: 0ms } }");
    let (ran, _) = scratch.run(0);
    let told = telemetry(&ran);
    assert_eq!(told.len(), 1, "{}", ran.stderr);
    let lost = told[0].strip_prefix("warning: ");
    let lost = lost.and_then(|told| told.split_once(" of 201 spans were not delivered"));
    let (lost, _) = lost.unwrap_or_else(|| panic!("{}", told[0]));
    let (lost, taken) = (lost.parse().unwrap_or(0), collector.spans().len());
    assert!(taken > 0 && taken + lost == 201, "{taken} and {lost}");
    assert!(ran.took < SOON, "{:?}", ran.took);
}

#[test]
fn what_was_not_delivered_is_told_to_programs_before_the_end() {
    let failing = Loopback::json(500, &json!({}));
    let scratch = Scratch::new().env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &failing.url);
    scratch.rows(1).job("backends: { a: { type: echo } }");
    let ran = scratch.runner(&["job.yaml", "--json"]).exits(0);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let told = lines
        .iter()
        .position(|line| line.to_string().contains("as telemetry: "));
    let told = told.unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!(lines[told]["event"], "warning");
    assert!(told < lines.len() - 1, "{lines:#?}");
}

#[test]
fn nothing_is_sent_that_nobody_asked_for() {
    let server = Served::echo();
    let job = |scratch: &Scratch| {
        scratch
            .rows(2)
            .job(&format!("backends: {{ {} }}", server.backend("a", "")));
        let ran = scratch.runner(&["job.yaml"]).exits(0);
        assert_eq!(telemetry(&ran), [""; 0], "{}", ran.stderr);
    };
    // Whoever sent it somewhere else would have to tell that nobody took it.
    job(&Scratch::new());
    job(&Scratch::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", " "));

    let collector = Collector::new();
    job(&collector
        .scratch("http/json")
        .env("OTEL_SDK_DISABLED", "TRUE"));
    assert!(collector.seen().is_empty());

    // One of the two, at an address of its own.
    let own = format!("{}/own", collector.0.url);
    job(&Scratch::new().env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &own));
    let seen = collector.seen();
    assert!(
        !seen.is_empty() && seen.iter().all(|seen| seen.line == "POST /own"),
        "{seen:?}"
    );
    // What everybody understands, where nobody says otherwise.
    assert_eq!(
        seen[0].header("content-type"),
        Some("application/x-protobuf")
    );
    let name = b"gen_ai.client.operation.duration";
    assert!(seen[0].body.windows(name.len()).any(|part| part == name));
}

#[test]
fn variables_that_are_wrong_are_told_of_and_the_run_goes_on() {
    for (name, value, said) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "user:hunter2@localhost:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT is no address like http://localhost:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "OTEL_EXPORTER_OTLP_PROTOCOL is neither http/protobuf nor http/json; a collector that speaks gRPC takes these \
             at another port, mostly 4318",
        ),
    ] {
        let collector = Collector::new();
        let scratch = collector.scratch("http/json").env(name, value);
        scratch.rows(1).job("backends: { a: { type: echo } }");
        let (ran, _) = scratch.run(0);
        assert_eq!(
            telemetry(&ran),
            [format!("warning: no telemetry is sent: {said}")]
        );
        assert!(!ran.stderr.contains("hunter2"));
        assert!(collector.seen().is_empty());
    }
}

/// Takes everything.
struct Collector(Loopback);

impl Collector {
    fn new() -> Self {
        Self(Loopback::json(200, &json!({})))
    }

    /// A place whose runs tell this collector.
    fn scratch(&self, protocol: &str) -> Scratch {
        Scratch::new()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.0.url)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.seen()
    }

    fn at(&self, line: &str, list: &str) -> Vec<Value> {
        let seen = self.seen();
        let bodies = seen.iter().filter(|seen| seen.line == line).map(Seen::json);
        bodies.flat_map(|body| values(&body[list])).collect()
    }

    fn traces(&self) -> Vec<Value> {
        self.at("POST /v1/traces", "resourceSpans")
    }

    fn resources(&self) -> Vec<Value> {
        let metrics = self.at("POST /v1/metrics", "resourceMetrics");
        let both = self.traces().into_iter().chain(metrics);
        let resources: Vec<_> = both.map(|sent| sent["resource"].clone()).collect();
        assert!(resources.len() >= 2, "{resources:?}");
        resources
    }

    fn spans(&self) -> Vec<Value> {
        let scopes = self
            .traces()
            .into_iter()
            .flat_map(|sent| values(&sent["scopeSpans"]));
        scopes.flat_map(|scope| values(&scope["spans"])).collect()
    }

    /// The last that was told of a metric.
    fn metric(&self, name: &str) -> Value {
        let sent = self.at("POST /v1/metrics", "resourceMetrics").into_iter();
        let scopes = sent.flat_map(|sent| values(&sent["scopeMetrics"]));
        let mut metrics = scopes.flat_map(|scope| values(&scope["metrics"]));
        let last = metrics.rfind(|metric| metric["name"] == name);
        last.unwrap_or_else(|| panic!("no {name}"))
    }
}

/// A span says of an attempt what the ledger says.
#[track_caller]
fn agrees(span: &Value, attempt: &Value, run: &Value) {
    assert_eq!(span["traceId"], run["traceId"]);
    assert_eq!(span["parentSpanId"], run["spanId"]);
    let class = attempt["class"]
        .as_str()
        .filter(|class| *class != "flagged");
    assert_eq!(attribute(span, "error.type"), class.unwrap_or_default());
    assert_eq!(span["status"]["code"] == 2, class.is_some(), "{span:#}");
    for (name, field) in [
        ("runner.backend", "backend"),
        ("runner.kind", "kind"),
        ("http.response.status_code", "http_status"),
    ] {
        assert_eq!(attribute(span, name), text(&attempt[field]), "{name}");
    }
    for name in ["input_tokens", "output_tokens"] {
        let used = attribute(span, &format!("gen_ai.usage.{name}"));
        assert_eq!(used, text(&attempt["usage"][name]), "{name}");
    }
    if class.is_none() {
        assert_eq!(
            attribute(span, "gen_ai.response.model"),
            text(&attempt["model"])
        );
        let (reasons, flagged) = (
            attribute(span, "gen_ai.response.finish_reasons"),
            attempt["class"].is_string(),
        );
        assert_eq!(reasons, if flagged { "length" } else { "stop" });
    }
}

/// The attempts of a line of the results, each with the row that it was made for.
fn attempts(line: &Value) -> Vec<(String, Value)> {
    let row = text(&line["id"]);
    let attempts = values(&line["attempts"]);
    let numbered = (1..).zip(attempts).map(|(number, mut attempt)| {
        attempt["number"] = json!(number);
        (row.clone(), attempt)
    });
    numbered.collect()
}

/// What is said of telemetry.
fn telemetry(ran: &Ran) -> Vec<&str> {
    ran.stderr
        .lines()
        .filter(|line| line.contains("telemetry"))
        .collect()
}

fn points(metric: &Value) -> Vec<Value> {
    values(&metric["histogram"]["dataPoints"])
}

fn points_of(metric: &Value, wanted: &[(&str, &str)]) -> Vec<Value> {
    let points = points(metric).into_iter();
    let of_it = |point: &Value| {
        wanted
            .iter()
            .all(|(name, value)| attribute(point, name) == *value)
    };
    points.filter(of_it).collect()
}

/// The value of an attribute, as text; of a list its first value; empty where there is none.
fn attribute(of: &Value, name: &str) -> String {
    let attributes = values(&of["attributes"]);
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    let value = found
        .map(|attribute| attribute["value"].clone())
        .unwrap_or_default();
    let value = match value["arrayValue"]["values"].as_array() {
        Some(list) => list[0].clone(),
        None => value,
    };
    value
        .as_object()
        .and_then(|value| value.values().next())
        .map(text)
        .unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> u64 {
    text(value).parse().expect("a number")
}

fn time(span: &Value, name: &str) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(number(&span[name]))
}

fn values(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}
