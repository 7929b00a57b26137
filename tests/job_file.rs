//! The job file through the library's public face: what is refused and how that looks, and what a
//! good job means.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_prompt_orchestrator::job::{
    AnthropicApi, Backend, BackendKind, Entry, FallbackPolicy, InputPlan, Job, LlamaCppApi,
    MaxFailures, OpenAiApi, OutputFormat, Plan, Problem, Problems, Server, Surroundings, Take,
    VllmApi,
};
use tokio_prompt_orchestrator::words::{Columns, Price, Role, Status, Usage};

/// The environment of the tests.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "OPENAI_API_KEY" | "ANTHROPIC_API_KEY" | "VLLM_KEY" => "secret",
        "EMPTY" => " \n",
        _ => return None,
    };
    Some(value.to_owned())
}

fn columns() -> Arc<Columns> {
    let names = ["id", "body", "language", "Customer Name", "my_answer"];
    Arc::new(Columns::new(names.map(str::to_owned).to_vec()))
}

fn resolve_with(job: &Job, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Problems> {
    let columns = columns();
    let surroundings = Surroundings {
        columns: Some(&columns),
        env,
        today: jiff::civil::date(2026, 11, 22),
        prices: &[],
        sends: true,
    };
    job.resolve(&surroundings, Vec::new())
}

fn plan_of(text: &str, overrides: &[&str]) -> Result<Plan, Problems> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    resolve_with(
        &Job::parse(Path::new("jobs/eval.yaml"), text, &overrides)?,
        &env,
    )
}

#[track_caller]
fn good(text: &str, overrides: &[&str]) -> Plan {
    plan_of(text, overrides).unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn bad(text: &str, overrides: &[&str]) -> String {
    plan_of(text, overrides).expect_err("a problem").to_string()
}

/// A job with these backends, in the flow style of YAML.
fn with_backends(backends: &str) -> String {
    format!("inputs: rows.csv\nprompt: \"{{{{ body }}}}\"\nbackends: {{ {backends} }}\n")
}

fn server(backend: &Backend) -> &Server {
    match &backend.kind {
        BackendKind::OpenAi(_, server)
        | BackendKind::Anthropic(_, server)
        | BackendKind::LlamaCpp(_, server)
        | BackendKind::Vllm(_, server) => server,
        BackendKind::Echo(_) | BackendKind::Http(_) | BackendKind::Custom => {
            panic!("{} is no server", backend.name)
        }
    }
}

fn bad_jobs() -> Vec<PathBuf> {
    let folder = fs::read_dir("fixtures/bad_jobs").expect("the fixtures");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let mut jobs: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    jobs.sort();
    jobs
}

fn problems_of(path: &Path) -> Problems {
    let result = Job::read(path, &[]).and_then(|job| resolve_with(&job, &env));
    result.expect_err(&path.display().to_string())
}

/// `UPDATE_GOLDEN=1 cargo test --test job_file` writes the files anew; read the diff before a commit.
#[test]
fn every_bad_job_is_explained_as_its_golden_file_says() {
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let jobs = bad_jobs();
    assert!(jobs.len() >= 35, "{} cases", jobs.len());
    let mut wrong = Vec::new();
    for path in jobs {
        let shown = problems_of(&path).to_string();
        let golden = path.with_extension("txt");
        if bless {
            fs::write(&golden, &shown).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if shown != expected {
            wrong.push(format!(
                "{}\n{}",
                golden.display(),
                difference(&expected, &shown)
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The lines that differ, from the first to the last.
fn difference(expected: &str, got: &str) -> String {
    let (expected, got): (Vec<_>, Vec<_>) = (expected.lines().collect(), got.lines().collect());
    let same = expected
        .iter()
        .zip(&got)
        .take_while(|(a, b)| a == b)
        .count();
    let (expected, got) = (&expected[same..], &got[same..]);
    let pairs = expected.iter().rev().zip(got.iter().rev());
    let tail = pairs.take_while(|(a, b)| a == b).count();
    let signed = |sign: char, lines: &[&str]| -> String {
        let lines = &lines[..lines.len() - tail];
        lines
            .iter()
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    format!("{}{}", signed('-', expected), signed('+', got))
}

#[test]
fn no_secret_of_a_bad_job_is_ever_shown() {
    for path in bad_jobs() {
        let problems = problems_of(&path);
        let debug = format!("{problems:?}{problems}");
        assert!(!debug.contains("CANARY"), "{debug}");
    }
    let shown = bad(
        &with_backends("gpt: { type: openai, model: gpt-4o }"),
        &["backends.gpt.api_key=CANARY"],
    );
    assert!(
        !shown.contains("CANARY") && shown.contains("--set"),
        "{shown}"
    );
}

#[test]
fn an_alias_bomb_and_an_endless_file_are_refused_quickly() {
    let started = Instant::now();
    problems_of(Path::new("fixtures/bad_jobs/alias_bomb.yaml"));
    assert!(
        started.elapsed() < Duration::from_millis(100),
        "{:?}",
        started.elapsed()
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(problems_of(&path).to_string().contains("larger than 1 MiB"));
    let missing = folder.path().join("missing.yaml");
    assert!(problems_of(&missing).to_string().contains("cannot read"));
}

/// The job of the design page, without the keys that come later.
const TICKETS: &str = r#"
name: tickets
inputs:
  - path: ../fixtures/tickets.csv
    id: id
    limit: 1000
prompt:
  system: You label support tickets.
  user: |
    Ticket: {{ body }}
    Answer with one label.
backends:
  local:   { type: vllm, url: "http://localhost:8000", model: meta-llama/Llama-3.1-8B-Instruct, max_tokens: 16,
             limits: { concurrency: 64 } }
  gpt:
    type: openai
    model: gpt-4o-mini
    api_key_env: OPENAI_API_KEY
    max_tokens: 16
    temperature: 0.0
    timeout: 30s
    limits: { requests_per_minute: 500, tokens_per_minute: 200000, concurrency: 32 }
    price: { input: 0.15, output: 0.60 }
  claude: { type: anthropic, model: claude-3-5-haiku-20241022, max_tokens: 16,
            limits: { requests_per_minute: 50, input_tokens_per_minute: 50000, output_tokens_per_minute: 10000 } }
  dry:    { type: echo, delay: 10ms }
fallback: [local, gpt, claude]
retry: { attempts: 3, initial: 500ms, max: 30s }
concurrency: 128
max_failures: 0
output:
  dir: runs/tickets
  formats: [csv, jsonl]
"#;

#[test]
fn the_job_of_the_design_page_means_what_it_says() {
    let plan = good(TICKETS, &[]);
    assert_eq!(plan.name, "tickets");
    let [
        InputPlan {
            path,
            written,
            id,
            take,
            ..
        },
    ] = &plan.inputs[..]
    else {
        panic!("{:?}", plan.inputs)
    };
    assert_eq!(path, Path::new("jobs/../fixtures/tickets.csv"));
    assert_eq!(written, "../fixtures/tickets.csv");
    assert_eq!(id.as_ref().map(|(id, _)| id.as_str()), Some("id"));
    assert_eq!(*take, Take::First(1000));
    let roles: Vec<Role> = plan
        .prompt
        .messages
        .iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(roles, [Role::System, Role::User]);
    let names: Vec<&str> = plan.backends.iter().map(|backend| &*backend.name).collect();
    assert_eq!(names, ["local", "gpt", "claude"]);
    assert_eq!(plan.entries[0].rules[0].to, [0, 1, 2]);
    assert_eq!(plan.backends[1].limits.tokens_per_minute, Some(200_000));
    assert_eq!(
        plan.backends[2].limits.output_tokens_per_minute,
        Some(10_000)
    );
    assert_eq!(server(&plan.backends[1]).sampling.temperature, Some(0.0));
    assert_eq!(plan.retry.initial, Duration::from_millis(500));
    assert_eq!(plan.concurrency, 128);
    assert_eq!(plan.output.dir, Path::new("runs/tickets"));
}

#[test]
fn what_a_job_does_not_say_has_the_documented_default() {
    let plan = good(&with_backends("dry: { type: echo }"), &[]);
    assert_eq!(plan.name, "eval");
    assert_eq!(plan.inputs[0].take, Take::All);
    assert_eq!(plan.concurrency, 64);
    assert_eq!(plan.max_failures, MaxFailures::Rows(0));
    assert_eq!(
        (plan.retry.attempts, plan.retry.max),
        (3, Duration::from_secs(30))
    );
    assert_eq!(plan.output.dir, Path::new("runs/eval"));
    assert_eq!(
        plan.output.formats,
        [OutputFormat::Csv, OutputFormat::Jsonl]
    );
    let BackendKind::Echo(echo) = &plan.backends[0].kind else {
        panic!("no echo")
    };
    assert_eq!(
        (echo.delay, echo.model.as_str()),
        (Duration::from_millis(10), "echo")
    );
    assert_eq!(plan.backends[0].price(), Some(&Price::FREE));
}

#[test]
fn each_server_has_the_defaults_of_its_worker() {
    let backends = "gpt: { type: openai, model: gpt-4o-mini }, \
        claude: { type: anthropic, model: claude-3-opus-20240229 }, \
        cpp: { type: llama_cpp }, vllm: { type: vllm }";
    let plan = good(&with_backends(backends), &[]);
    let shown: Vec<_> = plan
        .backends
        .iter()
        .map(|backend| {
            let server = server(backend);
            let sampling = &server.sampling;
            (
                server.url.as_str(),
                sampling.max_tokens,
                sampling.temperature,
                sampling.top_p,
                server.timeout.as_secs(),
                server.api_key_env.as_deref(),
            )
        })
        .collect();
    let (openai, anthropic) = (Some("OPENAI_API_KEY"), Some("ANTHROPIC_API_KEY"));
    assert_eq!(
        shown,
        [
            (
                "https://api.openai.com/v1",
                256,
                Some(0.7),
                None,
                30,
                openai
            ),
            (
                "https://api.anthropic.com",
                1024,
                Some(1.0),
                None,
                60,
                anthropic
            ),
            ("http://localhost:8080", 256, Some(0.8), None, 30, None),
            (
                "http://localhost:8000",
                512,
                Some(0.7),
                Some(0.95),
                60,
                None
            ),
        ]
    );
    assert!(matches!(
        plan.backends[0].kind,
        BackendKind::OpenAi(OpenAiApi::Chat, _)
    ));
    assert!(matches!(
        plan.backends[1].kind,
        BackendKind::Anthropic(AnthropicApi::Messages, _)
    ));
    assert!(matches!(
        plan.backends[2].kind,
        BackendKind::LlamaCpp(LlamaCppApi::Chat, _)
    ));
    assert!(matches!(
        plan.backends[3].kind,
        BackendKind::Vllm(VllmApi::Chat, _)
    ));
}

#[test]
fn an_old_completion_model_is_asked_through_its_own_endpoint() {
    for model in [
        "gpt-3.5-turbo-instruct",
        "gpt-3.5-turbo-instruct-0914",
        "text-davinci-003",
    ] {
        let plan = good(
            &with_backends(&format!("a: {{ type: openai, model: {model} }}")),
            &[],
        );
        let kind = &plan.backends[0].kind;
        assert!(
            matches!(kind, BackendKind::OpenAi(OpenAiApi::Completions, _)),
            "{model}"
        );
    }
}

#[test]
fn addresses_come_from_the_environment_and_are_normalised() {
    let text = with_backends(
        "a: { type: openai, model: m }, b: { type: anthropic, model: m }, c: { type: llama_cpp }, \
         d: { type: vllm }, e: { type: vllm, url: \"http://gpu:9000/\" }",
    );
    let job = Job::parse(Path::new("eval.yaml"), text, &[]).unwrap();
    let env = |name: &str| match name {
        "OPENAI_BASE_URL" => Some("http://localhost:1/v1/".to_owned()),
        "ANTHROPIC_BASE_URL" => Some("http://localhost:2/v1".to_owned()),
        "LLAMA_CPP_URL" => Some("http://localhost:3/".to_owned()),
        "VLLM_URL" => Some("http://localhost:4/v1/".to_owned()),
        name => env(name),
    };
    let plan = resolve_with(&job, &env).unwrap();
    let urls: Vec<&str> = plan
        .backends
        .iter()
        .map(|backend| server(backend).url.as_str())
        .collect();
    assert_eq!(
        urls,
        [
            "http://localhost:1/v1",
            "http://localhost:2",
            "http://localhost:3",
            "http://localhost:4",
            "http://gpu:9000",
        ]
    );
    let metadata = |name: &str| match name {
        "VLLM_URL" => Some("http://169.254.169.254".to_owned()),
        name => env(name),
    };
    let shown = resolve_with(&job, &metadata).unwrap_err().to_string();
    assert!(shown.contains("VLLM_URL: this address"), "{shown}");
}

#[test]
fn prices_are_exact_and_come_from_the_job_before_the_table() {
    let backends = "a: { type: openai, model: gpt-4o-mini }, \
        b: { type: openai, model: gpt-4o-mini, price: { input: 0.1, output: 0.3, cache_read: 0.07 } }, \
        c: { type: openai, model: my-own }, d: { type: vllm }, e: { type: custom }";
    let plan = good(&with_backends(backends), &[]);
    let cost: Vec<Option<String>> = plan
        .backends
        .iter()
        .map(|backend| {
            Some(
                backend
                    .price()?
                    .bill(&Usage::new(3, 1))?
                    .total()
                    .to_string(),
            )
        })
        .collect();
    let shown: Vec<Option<&str>> = cost.iter().map(Option::as_deref).collect();
    assert_eq!(
        shown,
        [
            Some("0.00000105"),
            Some("0.0000006"),
            None,
            Some("0.00"),
            Some("0.00")
        ]
    );
}

#[test]
fn a_default_is_not_sent_to_a_model_that_refuses_it() {
    let plan = good(&with_backends("a: { type: openai, model: o3 }"), &[]);
    assert_eq!(server(&plan.backends[0]).sampling.temperature, None);
}

#[test]
fn an_override_wins_over_the_file_and_adds_what_is_not_there() {
    let overrides = [
        "backends.gpt.model=gpt-4o",
        "inputs.0.limit=10",
        "prompt.user=Really: {{ body }}, \"{{ language }}\"",
        "fallback=[gpt, dry]",
        "output.prefix=x_",
        "max_failures=0.5%",
    ];
    let plan = good(TICKETS, &overrides);
    assert_eq!(plan.backends[0].model(), Some("gpt-4o"));
    assert_eq!(plan.inputs[0].take, Take::First(10));
    let names: Vec<&str> = plan.backends.iter().map(|backend| &*backend.name).collect();
    assert_eq!(names, ["gpt", "dry"]);
    assert_eq!(
        plan.output.result_columns()[..2],
        ["x_answer", "x_run_status"]
    );
    assert_eq!(plan.max_failures, MaxFailures::PerMillion(5_000));
}

/// The backends of each entry and rule, by name.
fn order(plan: &Plan) -> Vec<Vec<Vec<&str>>> {
    let name = |at: &usize| &*plan.backends[*at].name;
    let rules = |entry: &Entry| {
        let to = entry
            .rules
            .iter()
            .map(|rule| rule.to.iter().map(name).collect());
        to.collect()
    };
    plan.entries.iter().map(rules).collect()
}

#[test]
fn only_the_backends_that_the_order_names_are_in_the_plan_in_the_order_of_their_first_use() {
    let job = with_backends(
        "a: { type: echo }, b: { type: echo }, c: { type: echo }, \
         gpt: { type: openai, model: gpt-4o, api_key_env: NOT_SET }",
    );
    let names = |plan: &Plan| -> String {
        let names = plan.backends.iter().map(|backend| &*backend.name);
        names.collect::<Vec<_>>().join(" ")
    };
    let plan = good(&job, &["matrix=[c, [b, c], [a, b]]", "repeat=3"]);
    assert_eq!(names(&plan), "c b a");
    assert_eq!(
        order(&plan),
        [[vec!["c"]], [vec!["b", "c"]], [vec!["a", "b"]]]
    );
    let entries = plan.entries.iter().map(|entry| &*entry.name);
    assert!(entries.eq(["c", "b>c", "a>b"]));
    assert_eq!(plan.repeat, 3);
    assert!(
        plan.output
            .result_columns()
            .ends_with(&["run_entry".into(), "run_repeat".into()])
    );

    let route = "route=[{ when: \"language == 'de'\", to: c }, { when: body, to: [a, c] }]";
    let plan = good(&job, &[route]);
    assert_eq!(names(&plan), "c a");
    assert_eq!(order(&plan), [[vec!["c"], vec!["a", "c"]]]);
    assert!(
        plan.output
            .result_columns()
            .ends_with(&["run_error".into()])
    );

    let shown = bad(&job, &["matrix=[a, [b, gpt]]"]);
    assert!(shown.contains("variable NOT_SET is not set"), "{shown}");
}

#[test]
fn when_the_next_backend_is_asked_is_what_the_job_says() {
    let plan = good(TICKETS, &[]);
    assert_eq!(plan.fallback, FallbackPolicy::default());
    assert_eq!(plan.hedge_after, None);
    let overrides = [
        "fallback_after=5s",
        "fallback_on=[invalid, row_fatal, refused, empty]",
        "hedge_after=10s",
        "retry.max_throttle_wait=1m",
        "retry.max_outage=2m",
    ];
    let plan = good(TICKETS, &overrides);
    let expected = FallbackPolicy {
        after: Some(Duration::from_secs(5)),
        on: vec![Status::Invalid, Status::Empty, Status::Refused],
        on_row_fatal: true,
    };
    assert_eq!(plan.fallback, expected);
    assert_eq!(plan.hedge_after, Some(Duration::from_secs(10)));
    assert_eq!(plan.retry.max_throttle_wait, Duration::from_secs(60));
    assert_eq!(plan.retry.max_outage, Duration::from_secs(120));
    assert_eq!(plan.retry.attempts, 3);
}

#[test]
fn backends_of_an_account_have_the_same_limits_whoever_writes_them() {
    let backends = "silent: { type: echo, account: acme }, \
        says: { type: echo, account: acme, limits: { requests_per_minute: 60, burst: 5 } }, \
        same: { type: custom, account: acme, limits: { burst: 5, requests_per_minute: 60 } }, \
        other: { type: echo, account: other }, own: { type: echo, limits: { concurrency: 2 } }";
    // Also where the backend that says them is not in use.
    for used in ["silent, says, same", "same, silent"] {
        let plan = good(
            &with_backends(backends),
            &[&format!("fallback=[{used}, other, own]")],
        );
        for backend in &plan.backends {
            let limits = &backend.limits;
            let (account, rate, concurrency) = match &*backend.name {
                "other" => (Some("other"), None, None),
                "own" => (None, None, Some(2)),
                _ => (Some("acme"), Some((60, Some(5))), None),
            };
            assert_eq!(backend.account.as_deref(), account);
            assert_eq!(
                limits.requests_per_minute.map(|rate| (rate, limits.burst)),
                rate
            );
            assert_eq!(limits.concurrency, concurrency);
        }
    }
}

#[test]
fn an_override_that_is_wrong_shows_itself_as_its_place() {
    for (text, part) in [
        ("concurrency", "`=` is missing"),
        ("concurency=3", "did you mean `concurrency`?"),
        ("concurrency=many", "expected a whole number"),
        ("backends.gpt.model.x=1", "nothing below"),
        ("inputs.7.limit=1", "not one of 1 list items"),
        ("fallback=[gpt", "unclosed"),
    ] {
        let shown = bad(TICKETS, &[text]);
        assert!(shown.contains(part), "{shown}");
        assert!(shown.contains("--> --set:1:"), "{shown}");
        assert!(shown.contains(&format!("1 | {text}")), "{shown}");
    }
}

#[test]
fn a_prompt_file_is_read_beside_the_job_and_its_problems_show_its_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eval.yaml");
    let prompt = folder.path().join("ask.md");
    let text = "inputs: rows.csv\nprompt: { system: Be brief., file: ask.md }\n\
                backends: { dry: { type: echo } }\n";
    fs::write(&path, text).unwrap();
    fs::write(&prompt, "Question:\n{{ body }}\n").unwrap();
    let plan = resolve_with(&Job::read(&path, &[]).unwrap(), &env).unwrap();
    assert_eq!(plan.prompt.messages.len(), 2);
    fs::write(&prompt, "Question:\n{{ bodi }}\n").unwrap();
    let shown = problems_of(&path).to_string();
    assert!(
        shown.contains("ask.md:2:4") && shown.contains("did you mean `body`?"),
        "{shown}"
    );
}

#[test]
fn inputs_can_be_read_although_the_rest_is_wrong() {
    let text = "inputs: [a.csv, { path: b/*.csv, sample: { rows: 5, seed: 7 } }]\nnonsense: 1\n";
    let job = Job::parse(Path::new("jobs/eval.yaml"), text, &[]).unwrap();
    let inputs = job.inputs();
    assert_eq!(inputs[0].path, Path::new("jobs/a.csv"));
    assert_eq!(inputs[1].path, Path::new("jobs/b/*.csv"));
    assert_eq!(inputs[1].take, Take::Sample { rows: 5, seed: 7 });
}

#[test]
fn problems_of_other_layers_stand_in_file_order_among_the_others() {
    let text = "inputs: rows.csv\nprompt: hi\nbackends: { dry: { type: echo } }\nwhat: 1\n";
    let job = Job::parse(Path::new("eval.yaml"), text, &[]).unwrap();
    let missing = Problem::new("no such file").at(job.inputs()[0].place.clone().unwrap());
    let surroundings = Surroundings {
        columns: None,
        env: &env,
        today: jiff::civil::date(2026, 11, 22),
        prices: &[],
        sends: true,
    };
    let problems = job.resolve(&surroundings, vec![missing]).unwrap_err();
    let messages: Vec<&str> = problems
        .0
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(messages, ["no such file", "unknown key `what`"]);
}

#[test]
fn an_override_that_is_a_template_needs_no_quotes() {
    let job = "inputs: rows.csv\nprompt: x\nbackends: { dry: { type: echo } }\n";
    for prompt in [
        "{{ body }}",
        "Q: {{ body }}",
        "- {{ body }}",
        "a: b: {{ body }}",
    ] {
        let plan = good(job, &[&format!("prompt={prompt}")]);
        let shown = format!("{:?}", plan.prompt.messages[0].content);
        assert!(shown.contains(prompt), "{shown}");
    }
}

#[test]
fn a_dated_instruct_model_is_asked_through_completions_too() {
    for (model, api) in [
        ("gpt-3.5-turbo-instruct", OpenAiApi::Completions),
        ("gpt-3.5-turbo-instruct-0914", OpenAiApi::Completions),
        ("text-davinci-003", OpenAiApi::Completions),
        ("gpt-4o-mini", OpenAiApi::Chat),
    ] {
        assert_eq!(OpenAiApi::default_for(model), api, "{model}");
    }
}
