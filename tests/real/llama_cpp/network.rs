use super::answers::{rows, without_latency};
use super::protocols::{MOST, PROTOCOLS};
use super::{KEY, Llama};
use crate::proxy::{Harm, Proxy, When};

/// What happens to every fifth connection, one after the other.
const FAULTS: [(When, Harm); 10] = [
    (When::Accepted, Harm::Reset),
    (When::RequestHead, Harm::Cut),
    (When::Request, Harm::Reset),
    (When::Answered, Harm::Cut),
    (When::Answered, Harm::Stall),
    (When::ReplyHeadHalf, Harm::Reset),
    (When::ReplyHead, Harm::Garbage),
    (When::ReplyHalf, Harm::Cut),
    (When::ReplyHalf, Harm::Stall),
    (When::LastByte, Harm::Cut),
];

/// A job of the protocols that have a stream, at this port.
fn job(port: u16, backend: &str, more: &str) -> String {
    let protocols = &PROTOCOLS[..8];
    let backends = protocols
        .iter()
        .map(|protocol| protocol.backend_at(port, backend));
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.name).collect();
    format!(
        "inputs: rows.jsonl\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\nmax_failures: 100%\nbackends:\n{}matrix: [{}]\n{more}\n",
        backends.collect::<String>(),
        names.join(", ")
    )
}

#[test]
fn a_stream_brings_the_same_results_as_a_reply_in_one_piece() {
    let Some(llama) = Llama::start("a_stream_brings_the_same_results") else {
        return;
    };
    let results = ["", "stream: true"].map(|backend| {
        let scratch = llama.scratch();
        rows(&scratch);
        scratch.write("job.yaml", job(llama.port(), backend, ""));
        scratch.run(0);
        without_latency(&scratch)
    });
    assert_eq!(results[1], results[0]);
}

#[test]
fn a_network_that_harms_every_fifth_connection_changes_no_answer_and_hides_no_bill() {
    let Some(llama) = Llama::start("a_network_that_harms_every_fifth_connection") else {
        return;
    };
    for backend in ["timeout: 2s", "timeout: 2s, stream: true"] {
        let (calm, harmed) = (llama.scratch(), llama.scratch());
        rows(&calm);
        rows(&harmed);
        calm.write("job.yaml", job(llama.port(), "", ""));
        let (_, calm) = calm.run(0);
        let before = llama.counts("tokens_predicted_total");
        let address = ([127, 0, 0, 1], llama.port()).into();
        let proxy = Proxy::before(address, |number| {
            let strikes = number % 5 == 3;
            strikes.then(|| FAULTS[number / 5 % FAULTS.len()])
        });
        let port = proxy.url().rsplit(':').next().unwrap().parse().unwrap();
        let retry = "retry: { attempts: 6, initial: 50ms, max: 200ms }\nconcurrency: 4";
        harmed.write("job.yaml", job(port, backend, retry));
        let (ran, published) = harmed.run(0);
        ran.never_says(KEY);
        let (mut unclear, mut failed) = (0, 0);
        for (line, calm) in published.lines.iter().zip(&calm.lines) {
            let attempts = line["attempts"].as_array().unwrap();
            let of = |class: &str| {
                attempts
                    .iter()
                    .filter(|attempt| attempt["class"] == class)
                    .count()
            };
            unclear += of("ambiguous");
            failed += attempts
                .iter()
                .filter(|attempt| attempt["class"].is_string())
                .count();
            match line["status"] == "failed" {
                // What may have been billed is made again once.
                true => assert!(of("ambiguous") + of("invalid") >= 2, "{line}"),
                false => assert_eq!(
                    (&line["status"], &line["answer"]),
                    (&calm["status"], &calm["answer"]),
                    "{line}"
                ),
            }
        }
        assert!(failed > 5, "only {failed} attempts met a fault");
        assert!(
            published.count("failed") < 5,
            "{} rows failed",
            published.count("failed")
        );
        // Whatever the server made is paid, or was said to be possible.
        let made = llama.counts("tokens_predicted_total") - before;
        let told = published.report["tokens"]["output_tokens"]
            .as_u64()
            .unwrap() as usize;
        assert!(told <= made, "{told} told, {made} made");
        let billed = unclear
            + published.report["attempts"]["by_class"]["invalid"]
                .as_u64()
                .unwrap_or(0) as usize;
        assert!(
            made <= told + billed * MOST as usize,
            "{made} made, {told} told, {billed} unclear"
        );
    }
}
