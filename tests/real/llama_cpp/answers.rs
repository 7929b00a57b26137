use std::fs;

use super::protocols::{PROTOCOLS, Protocol};
use super::{KEY, Llama};
use crate::scratch::Scratch;

const TEXTS: [&str; 12] = [
    "Where is my parcel?",
    "I was charged twice in May, and again in June.",
    "apple",
    "Crash on start, Windows 11",
    "42",
    "Grüße aus Köln 🦀",
    "The question is why",
    "Refund please!",
    "a b c d e f g",
    "{{ 7 * 7 }} {% endraw %}",
    "Say \\\"yes\\\" or \\\"no\\\"",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit",
];

/// The rows as a file of JSON Lines.
pub fn rows(scratch: &Scratch) {
    let lines = TEXTS.map(|text| format!("{{\"text\": \"{text}\"}}\n"));
    scratch.write("rows.jsonl", lines.concat());
}

/// The text of a row, as it is put to the server.
fn text(row: usize) -> String {
    TEXTS[row].replace("\\\"", "\"")
}

fn job(llama: &Llama, more: &str) -> String {
    let backends: String = PROTOCOLS
        .iter()
        .map(|protocol| protocol.backend(llama, ""))
        .collect();
    let names = PROTOCOLS.map(|Protocol { name, .. }| name).join(", ");
    format!(
        "inputs: rows.jsonl\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\nbackends:\n{backends}\
         matrix: [{names}]\nmax_failures: 100%\n{more}\n"
    )
}

#[test]
fn every_protocol_brings_what_the_server_itself_says_and_in_the_order_of_the_rows() {
    let Some(llama) = Llama::start("every_protocol_brings_what_the_server_itself_says") else {
        return;
    };
    let scratch = llama.scratch();
    rows(&scratch);
    scratch.write("job.yaml", job(&llama, "concurrency: 32"));
    let (_, published) = scratch.run(0);
    assert_eq!(published.lines.len(), TEXTS.len() * PROTOCOLS.len());
    let (mut answered, mut cut) = (0, 0);
    for (place, line) in published.lines.iter().enumerate() {
        let protocol = &PROTOCOLS[place % PROTOCOLS.len()];
        let prompt = text(place / PROTOCOLS.len());
        let said = protocol.ask(&llama, &prompt);
        let what = format!("{} of {prompt:?}: {said:?} and {line}", protocol.name);
        assert_eq!(line["row"]["text"], prompt, "{what}");
        assert_eq!(line["backend"], protocol.name, "{what}");
        assert_eq!(line["answer"], said.text, "{what}");
        assert_eq!(line["usage"]["input_tokens"], said.input, "{what}");
        assert_eq!(line["usage"]["output_tokens"], said.output, "{what}");
        let status = match (said.cut, said.text.trim()) {
            (true, _) => "truncated",
            (_, "") => "empty",
            _ => "answered",
        };
        assert_eq!(line["status"], status, "{what}");
        let micros = 3 * said.input + 7 * said.output;
        assert_eq!(line["cost_usd"], usd(micros), "{what}");
        assert_eq!(line["attempts"].as_array().map(Vec::len), Some(1), "{what}");
        *if said.cut { &mut cut } else { &mut answered } += 1;
    }
    // Neither of them may be all there is.
    assert!(answered > 20 && cut > 20, "{answered} answered, {cut} cut");
}

#[test]
fn two_runs_publish_the_same_bytes_one_by_one_or_many_at_a_time() {
    let Some(llama) = Llama::start("two_runs_publish_the_same_bytes") else {
        return;
    };
    let results = ["concurrency: 1", "concurrency: 64"].map(|concurrency| {
        let scratch = llama.scratch();
        rows(&scratch);
        scratch.write("job.yaml", job(&llama, concurrency));
        scratch.run(0);
        without_latency(&scratch)
    });
    assert_eq!(
        results[0].lines().count(),
        1 + TEXTS.len() * PROTOCOLS.len()
    );
    assert_eq!(results[0], results[1]);
}

#[test]
fn the_tokens_of_the_report_are_those_that_the_server_counts() {
    let Some(llama) = Llama::start("the_tokens_of_the_report_are_those_that_the_server_counts")
    else {
        return;
    };
    let scratch = llama.scratch();
    rows(&scratch);
    scratch.write("job.yaml", job(&llama, ""));
    let before = [
        "prompt_tokens_total",
        "prompt_tokens_cached_total",
        "tokens_predicted_total",
    ]
    .map(|name| llama.counts(name));
    let (_, published) = scratch.run(0);
    let counted = [
        "prompt_tokens_total",
        "prompt_tokens_cached_total",
        "tokens_predicted_total",
    ]
    .map(|name| llama.counts(name));
    let tokens = &published.report["tokens"];
    assert_eq!(tokens["output_tokens"], counted[2] - before[2], "{tokens}");
    let input = counted[0] + counted[1] - before[0] - before[1];
    assert_eq!(tokens["input_tokens"], input, "{tokens}");
}

#[test]
fn a_schema_makes_even_noise_answer_with_a_label() {
    let Some(llama) = Llama::start("a_schema_makes_even_noise_answer_with_a_label") else {
        return;
    };
    let scratch = llama.scratch();
    rows(&scratch);
    let labels = "answer: { labels: [billing, bug, question, other] }\n";
    for name in ["openai_chat", "llama_cpp_chat", "llama_cpp_completion"] {
        let protocol = PROTOCOLS
            .iter()
            .find(|protocol| protocol.name == name)
            .expect("a protocol");
        // The grammar leaves room for some white space, and noise takes it.
        let backend = protocol
            .backend(&llama, "")
            .replace("max_tokens: 24", "max_tokens: 120");
        let job = format!(
            "inputs: rows.jsonl\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: {name} }}\n{labels}backends:\n{backend}"
        );
        scratch.write("job.yaml", job);
        scratch.runner(&["job.yaml"]).exits(0);
        let published = scratch.published(name, 0);
        for answer in published.answers() {
            assert!(
                ["billing", "bug", "question", "other"].contains(&answer),
                "{name}: {answer}"
            );
        }
    }
}

#[test]
fn the_key_stands_in_no_byte_that_is_written_or_printed() {
    let Some(llama) = Llama::start("the_key_stands_in_no_byte_that_is_written_or_printed") else {
        return;
    };
    let scratch = llama.scratch();
    rows(&scratch);
    scratch.write("job.yaml", job(&llama, ""));
    let ran = scratch
        .runner(&["job.yaml", "--log", "run.log", "--log-content", "--json"])
        .exits(0);
    let ran = ran.never_says(KEY);
    assert!(!ran.stdout.is_empty());
    for file in ["run.log", "out/run.db", "out/report.html"] {
        assert!(scratch.path().join(file).is_file(), "{file}");
    }
    scratch.holds_nowhere(KEY);
}

/// The results without how long each took.
pub fn without_latency(scratch: &Scratch) -> String {
    let text = fs::read_to_string(scratch.path().join("out/results.csv")).unwrap();
    let mut records = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes());
    let records: Vec<csv::StringRecord> = records.records().map(Result::unwrap).collect();
    let latency = records[0]
        .iter()
        .position(|name| name == "run_latency_ms")
        .unwrap();
    let kept = records.iter().map(|record| {
        let fields = record
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != latency);
        fields
            .map(|(_, field)| field.replace('\n', "\\n"))
            .collect::<Vec<_>>()
            .join("|")
            + "\n"
    });
    kept.collect()
}

/// Millionths of a dollar as the results write them.
fn usd(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let kept = text.trim_end_matches('0').len().max("0.00".len());
    text[..kept].to_owned()
}
