//! The parts of a run by themselves: what each takes, and what it allocates.
//!
//! `cargo bench --bench parts` (half a minute); `cargo bench --bench parts -- reply` for those with `reply` in their
//! name. What was seen is in docs/bench.md. Allocations are those of the thread that is measured.

use std::path::Path;
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_prompt_orchestrator::job::{Durability, Limits};
use tokio_prompt_orchestrator::parts::{Ledger, Turnstile, chat_reply, chat_request};
use tokio_prompt_orchestrator::words::{
    Columns, Digest, Message, Provider, Request, Role, Row, Sampling,
};
use tokio_prompt_orchestrator::{Options, Runner, Stop, export};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// So many requests pass the limits in one measurement.
const PASSES: u64 = 1_000;
/// A limit that is never reached: what is measured is the counting.
const WIDE: Limits = Limits {
    requests_per_minute: Some(u32::MAX),
    burst: Some(u32::MAX),
    tokens_per_minute: Some(u64::MAX / 2),
    input_tokens_per_minute: None,
    output_tokens_per_minute: None,
    concurrency: None,
};
const REPLY: &str = r#"{"id":"chatcmpl-9abcdefghijklmnopqrstuvwxyz","object":"chat.completion","created":1712345678,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"billing","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":57,"completion_tokens":2,"total_tokens":59,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_0123456789"}"#;

fn main() {
    divan::main();
}

#[divan::bench(args = [false, true])]
fn limiter_alone(bencher: Bencher, limited: bool) {
    let runtime = one_thread();
    let turnstile = Turnstile::new(&limits(limited), 64);
    bencher.counter(ItemsCount::new(PASSES)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..PASSES {
                assert!(turnstile.pass(black_box(50), 20).await);
            }
        });
    });
}

/// Eight requests want each of 64 places.
#[divan::bench(args = [false, true])]
fn limiter_in_a_crowd(bencher: Bencher, limited: bool) {
    let runtime = one_thread();
    let turnstile = Arc::new(Turnstile::new(&limits(limited), 64));
    let passes = ItemsCount::new(PASSES / 500 * 512);
    bencher.counter(passes).bench_local(|| {
        let mut tasks = JoinSet::new();
        for _ in 0..512 {
            let turnstile = Arc::clone(&turnstile);
            let pass = async move {
                for _ in 0..PASSES / 500 {
                    assert!(turnstile.pass(black_box(50), 20).await);
                }
            };
            tasks.spawn_on(pass, runtime.handle());
        }
        runtime.block_on(tasks.join_all());
    });
}

#[divan::bench]
fn prompt_of_a_row(bencher: Bencher) {
    let folder = folder(1, "e: { type: echo }");
    let runner = load(folder.path());
    let messages = &runner.plan().prompt.messages;
    let row = row();
    bencher.bench_local(|| {
        let rendered = messages.iter().map(|message| {
            let text = message.content.render(black_box(&row));
            text.expect("the row has every column").len()
        });
        rendered.sum::<usize>()
    });
}

#[divan::bench]
fn request_built(bencher: Bencher) {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    let request = Request::new(vec![
        message(Role::System, "You label support tickets."),
        message(
            Role::User,
            "Ticket: I was charged twice this month and want my \"money\" back.\nAnswer with one label.",
        ),
    ]);
    let sampling = Sampling::defaults(Provider::OpenAi, "gpt-4o-mini");
    bencher.bench_local(|| chat_request("gpt-4o-mini", black_box(&request), &sampling));
}

#[divan::bench]
fn reply_read(bencher: Bencher) {
    let bytes = BytesCount::of_str(REPLY);
    bencher
        .counter(bytes)
        .bench_local(|| chat_reply(black_box(REPLY.as_bytes())).expect("it is an answer"));
}

/// Rows noted down (three records each), 64 and 512 at a time.
#[divan::bench(args = [(Durability::Process, 64), (Durability::Full, 64), (Durability::Full, 512)], sample_count = 5, sample_size = 1)]
fn store_written(bencher: Bencher, (durability, in_flight): (Durability, u64)) {
    const ROWS: u64 = 10_000;
    let runtime = Runtime::new().expect("a runtime");
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| {
            let folder = TempDir::new().expect("a scratch directory");
            let ledger = Ledger::open(folder.path(), ROWS, durability).expect("a new store");
            (ledger, folder)
        })
        .bench_local_values(|(ledger, folder)| {
            runtime
                .block_on(ledger.fill(in_flight))
                .expect("it is stored");
            folder
        });
}

/// The results (CSV and JSON Lines) and the reports of a run.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn results_exported(bencher: Bencher) {
    const ROWS: u64 = 20_000;
    let folder = folder(ROWS, "e: { type: echo, delay: 0ms }");
    one_thread().block_on(run(load(folder.path())));
    let out = folder.path().join("out");
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| export(&out, None).expect("the run can be exported"));
}

/// Whole runs. The difference, divided by a thousand, is what a row takes; without what the store's thread allocates.
#[divan::bench(args = [1, 1_001], sample_count = 20, sample_size = 1)]
fn run_of_rows(bencher: Bencher, rows: u64) {
    let runtime = one_thread();
    bencher
        .counter(ItemsCount::new(rows))
        .with_inputs(|| {
            let folder = folder(rows, "e: { type: echo, delay: 0ms }");
            (load(folder.path()), folder)
        })
        .bench_local_values(|(runner, folder)| {
            runtime.block_on(run(runner));
            folder
        });
}

fn one_thread() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().expect("a runtime")
}

fn limits(limited: bool) -> Limits {
    match limited {
        true => WIDE,
        false => Limits::default(),
    }
}

/// A job with so many rows and this backend.
fn folder(rows: u64, backend: &str) -> TempDir {
    let folder = TempDir::new().expect("a scratch directory");
    let mut csv = "id,tier,body\n".to_owned();
    for number in 0..rows {
        csv.push_str(&format!(
            "{number},free,I was charged twice in month {number} and want my money back.\n"
        ));
    }
    let job = format!(
        "inputs: rows.csv\nprompt:\n  system: You label support tickets.\n  user: |\n    Ticket: {{{{ body }}}}\n    \
         Customer: {{{{ tier }}}}\n    Answer with one label.\nbackends: {{ {backend} }}\nconcurrency: 64\n\
         durability: process\n"
    );
    for (name, text) in [("rows.csv", csv), ("job.yaml", job)] {
        std::fs::write(folder.path().join(name), text).expect("a file in the scratch directory");
    }
    folder
}

fn load(folder: &Path) -> Runner {
    let options = Options {
        out: Some(folder.join("out")),
        ..Options::default()
    };
    Runner::load(folder.join("job.yaml"), &options).expect("the job has no problems")
}

async fn run(runner: Runner) {
    let summary = runner.run(Stop::new(), |_| {}).await;
    let summary = summary.expect("the run can store and publish");
    assert_eq!(summary.report.unanswered(), 0);
}

fn row() -> Arc<Row> {
    let names = ["id", "tier", "body"].map(str::to_owned).to_vec();
    let cells = [
        "7",
        "free",
        "I was charged twice this month and want my money back.",
    ];
    Arc::new(Row {
        index: 0,
        id: "rows.csv:1".to_owned(),
        columns: Arc::new(Columns::new(names)),
        cells: cells.map(str::to_owned).to_vec(),
        key: Row::key_of_content(Digest::of(cells), 0),
    })
}
