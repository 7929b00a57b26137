use super::Llama;
use super::protocols::{PROTOCOLS, Protocol};

/// A job whose entries are all protocols, each asked once for each row.
fn job(llama: &Llama, more: &str) -> String {
    let backends = PROTOCOLS
        .iter()
        .map(|protocol| protocol.backend(llama, more));
    let names = PROTOCOLS.map(|Protocol { name, .. }| name).join(", ");
    format!(
        "backends:\n{}matrix: [{names}]\nretry: {{ attempts: 2 }}",
        backends.collect::<String>()
    )
}

#[test]
fn a_wrong_key_stops_each_backend_at_once_and_the_message_names_its_variable() {
    let Some(llama) = Llama::start("a_wrong_key_stops_each_backend_at_once") else {
        return;
    };
    let scratch = llama
        .scratch()
        .without_env("LLAMA_KEY")
        .env("LLAMA_KEY", "sk-wrong-c0ffee");
    scratch
        .rows(3)
        .job(&job(&llama, "limits: { concurrency: 1 }"));
    let (ran, published) = scratch.run(5);
    ran.says("Invalid API Key")
        .says("LLAMA_KEY")
        .never_says("sk-wrong-c0ffee");
    for (place, protocol) in PROTOCOLS.iter().enumerate() {
        let rows = (0..3).map(|row| row * PROTOCOLS.len() + place);
        let asked: Vec<usize> = rows
            .filter(|row| !published.attempts(*row).is_empty())
            .collect();
        // Which of its rows is asked first is nobody's business; the others were spared the same.
        let [row] = asked[..] else {
            panic!("{} was asked for the rows {asked:?}", protocol.name);
        };
        let line = &published.lines[row];
        assert_eq!(
            published.attempts(row),
            [format!("{} first config", protocol.name)],
            "{line}"
        );
        let error = line["error"]["message"].as_str().unwrap();
        assert!(error.contains("answered 401"), "{line}");
        assert!(
            error.contains("Invalid API Key") && error.contains("LLAMA_KEY"),
            "{line}"
        );
        assert_eq!(line["cost_usd"], "0.00", "{line}");
    }
    assert_eq!(llama.counts("tokens_predicted_total"), 0);
}

#[test]
fn a_missing_key_is_told_as_one() {
    let Some(llama) = Llama::start("a_missing_key_is_told_as_one") else {
        return;
    };
    let scratch = llama.scratch();
    let url = format!("http://127.0.0.1:{}", llama.port());
    scratch.rows(1).job(&format!(
        "backends:\n  local: {{ type: llama_cpp, url: '{url}' }}\n  queue: {{ type: vllm, url: '{url}' }}\n\
         matrix: [local, queue]"
    ));
    let (_, published) = scratch.run(5);
    for line in &published.lines {
        let error = line["error"]["message"].as_str().unwrap();
        assert!(
            error.contains("answered 401") && error.contains("api_key_env"),
            "{line}"
        );
    }
}

#[test]
fn a_prompt_that_does_not_fit_fails_its_row_and_no_other() {
    let Some(llama) = Llama::start("a_prompt_that_does_not_fit_fails_its_row_and_no_other") else {
        return;
    };
    let scratch = llama.scratch();
    let long = "why? ".repeat(1200);
    scratch
        .job(&job(&llama, ""))
        .write("rows.csv", format!("text\nshort one\n{long}\nshort two\n"));
    let (_, published) = scratch.run(3);
    for (place, line) in published.lines.iter().enumerate() {
        let is_long = place / PROTOCOLS.len() == 1;
        assert_eq!(line["status"] == "failed", is_long, "{line}");
        if is_long {
            let name = PROTOCOLS[place % PROTOCOLS.len()].name;
            assert_eq!(
                published.attempts(place),
                [format!("{name} first row_fatal")],
                "{line}"
            );
            let error = line["error"]["message"].as_str().unwrap();
            assert!(
                error.contains("exceeds the available context size"),
                "{line}"
            );
            assert!(error.contains("1024"), "{line}");
        }
    }
}

#[test]
fn an_unknown_model_is_answered_and_the_report_says_by_which() {
    let Some(llama) = Llama::start("an_unknown_model_is_answered_and_the_report_says_by_which")
    else {
        return;
    };
    let scratch = llama.scratch();
    let backend = PROTOCOLS[0]
        .backend(&llama, "")
        .replace("model: tiny", "model: gpt-nope");
    scratch
        .rows(2)
        .job(&format!("backends:\n{backend}max_failures: 100%"));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.column("run_model"), ["tiny", "tiny"]);
    ran.says("openai_chat: asked for gpt-nope, 2 replies from tiny");
}

#[test]
fn an_endpoint_that_the_server_lacks_is_a_mistake_of_the_job() {
    let Some(llama) = Llama::start("an_endpoint_that_the_server_lacks_is_a_mistake_of_the_job")
    else {
        return;
    };
    let scratch = llama.scratch();
    let url = format!("http://127.0.0.1:{}", llama.port());
    scratch.rows(1).job(&format!(
        "backends:\n  \
           generate: {{ type: vllm, api: generate, url: '{url}', api_key_env: LLAMA_KEY }}\n  \
           complete: {{ type: anthropic, api: complete, model: tiny, url: '{url}', api_key_env: LLAMA_KEY }}\n  \
           no_version: {{ type: openai, model: tiny, url: '{url}/v2', api_key_env: LLAMA_KEY }}\n\
         matrix: [generate, complete, no_version]"
    ));
    let (_, published) = scratch.run(5);
    for line in &published.lines {
        let error = line["error"]["message"].as_str().unwrap();
        assert!(
            error.contains("answered 404") && error.contains("`url`"),
            "{line}"
        );
        assert_eq!(line["attempts"][0]["class"], "config", "{line}");
    }
}

#[test]
fn probe_asks_each_backend_once() {
    let Some(llama) = Llama::start("probe_asks_each_backend_once") else {
        return;
    };
    let scratch = llama.scratch();
    scratch.rows(5).job(&job(&llama, ""));
    let ran = scratch.runner(&["probe", "job.yaml"]);
    // Noise may be cut at its cap, which is worth an exit code of its own.
    assert!(
        [Some(0), Some(3)].contains(&ran.code),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    for protocol in &PROTOCOLS {
        assert!(ran.stdout.contains(protocol.name), "{}", ran.stdout);
    }
}
