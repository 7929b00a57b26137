use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use tokio_prompt_orchestrator::words::Event;
use tokio_prompt_orchestrator::{
    EchoWorker, Ended, ExitCode, ModelWorker, Options, OrchestratorError, RunError, Runner, Stop,
};

use crate::scratch::Scratch;

const CUSTOM: &str = "backends: { mine: { type: custom } }\nretry: { attempts: 2, initial: 1ms }";

/// As a user of the library writes one: `infer` and nothing else.
struct Shout;

#[async_trait]
impl ModelWorker for Shout {
    async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        match prompt {
            "row 2" => panic!("this worker has a bug"),
            "row 3" => Err(OrchestratorError::Inference("out of breath".to_owned())),
            prompt => Ok(prompt
                .to_uppercase()
                .split(' ')
                .map(str::to_owned)
                .collect()),
        }
    }
}

fn options(scratch: &Scratch) -> Options {
    Options {
        out: Some(scratch.path().join("out")),
        ..Options::default()
    }
}

fn load(scratch: &Scratch) -> Runner {
    let runner = Runner::load(scratch.path().join("job.yaml"), &options(scratch));
    runner.unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test]
async fn a_worker_that_only_implements_infer_runs_in_a_job() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "text\nhello there\nbye\n")
        .job(CUSTOM);
    let runner = load(&scratch).with_worker("mine", Arc::new(Shout));
    assert_eq!(runner.rows(), 2);
    let summary = runner.run(Stop::new(), |_| ()).await.unwrap();
    assert_eq!(
        (summary.exit_code, summary.ended),
        (ExitCode::Success, Ended::Complete)
    );
    assert_eq!(summary.report.unanswered(), 0);
    assert_eq!(
        scratch.published("out", 0).answers(),
        ["HELLO THERE", "BYE"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_panics_or_fails_costs_its_row_only() {
    let scratch = Scratch::new();
    scratch.rows(4).job(CUSTOM);
    let runner = load(&scratch).with_worker("mine", Arc::new(Shout));
    let summary = runner.run(Stop::new(), |_| ()).await.unwrap();
    assert_eq!(summary.exit_code, ExitCode::Failures);
    let published = scratch.published("out", 3);
    assert_eq!(
        published.statuses(),
        ["answered", "failed", "failed", "answered"]
    );
    assert_eq!(
        published.lines[1]["error"]["message"],
        "the worker panicked"
    );
    assert_eq!(
        published.lines[2]["error"]["message"],
        "inference failed: out of breath"
    );
    for row in [1, 2] {
        // Two as the job says, and a last one at the end, for the backend answers others.
        let attempts = [
            "mine first server",
            "mine retry server",
            "mine retry server",
        ];
        assert_eq!(published.attempts(row), attempts);
    }
}

#[tokio::test]
async fn a_custom_backend_falls_back_to_a_built_in_one() {
    let scratch = Scratch::new();
    scratch.rows(4).job(
        "backends: { mine: { type: custom }, last: { type: echo, delay: 0ms } }\n\
         retry: { attempts: 2, initial: 1ms }",
    );
    let runner = load(&scratch).with_worker("mine", Arc::new(Shout));
    runner.run(Stop::new(), |_| ()).await.unwrap();
    let published = scratch.published("out", 0);
    assert_eq!(published.answers(), ["ROW 1", "row 2", "row 3", "ROW 4"]);
}

#[tokio::test]
async fn who_watches_requests_is_told_of_every_one_that_was_sent() {
    let scratch = Scratch::new();
    // The second row asks the same as the first one, and is not asked.
    scratch
        .write("rows.csv", "text\nrow 1\nrow 1\nrow 3\n")
        .job(&format!("{CUSTOM}\ndedupe: true\nmax_failures: 1"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let before = SystemTime::now();
    let runner = load(&scratch)
        .with_worker("mine", Arc::new(Shout))
        .with_on_attempt(move |ended| {
            assert!(before <= ended.began() && ended.began() <= ended.ended);
            let reply = ended.reply.map(|reply| reply.text.clone());
            let (prompt, row) = (ended.request.last_turn(), &ended.item.row.id);
            let (kind, number) = (ended.attempt.kind.as_str(), ended.attempt.number);
            let line = format!("{row} {number} {kind} {prompt}: {reply:?}");
            heard.lock().unwrap().push(line);
        });
    runner.run(Stop::new(), |_| ()).await.unwrap();
    let mut told = told.lock().unwrap().clone();
    told.sort();
    assert_eq!(
        told,
        [
            "rows.csv:1 1 first row 1: Some(\"ROW 1\")",
            "rows.csv:3 1 first row 3: None",
            "rows.csv:3 2 retry row 3: None",
            "rows.csv:3 3 retry row 3: None",
        ]
    );
}

#[tokio::test]
async fn events_start_with_the_run_and_tell_of_every_row_once() {
    let scratch = Scratch::new();
    scratch.rows(100).job(
        "backends: { a: { type: echo, delay: 0ms, failures: { server: 30% } }, b: { type: echo } }\n\
         retry: { attempts: 2, initial: 1ms }",
    );
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let summary = load(&scratch)
        .run(Stop::new(), move |event| heard.lock().unwrap().push(event))
        .await
        .unwrap();
    let events = events.lock().unwrap();
    assert!(matches!(&events[0], Event::Planned(changes) if changes.new == 100));
    assert_eq!(events[1], Event::RunStarted { rows: 100, done: 0 });
    let count = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|e| wanted(e)).count();
    assert_eq!(count(&|e| matches!(e, Event::RunStarted { .. })), 1);
    assert_eq!(count(&|e| matches!(e, Event::RowFinished { .. })), 100);
    let published = scratch.published("out", 0);
    let by_kind = &published.report["attempts"]["by_kind"];
    assert_eq!(
        by_kind["retry"],
        count(&|e| matches!(e, Event::AttemptFailedWillRetry { .. }))
    );
    assert_eq!(
        by_kind["fallback"],
        count(&|e| matches!(e, Event::RowFellBack { .. }))
    );
    assert!(summary.report.fell_back > 0);
}

#[tokio::test]
async fn a_custom_backend_without_its_worker_is_an_error() {
    let scratch = Scratch::new();
    scratch.rows(1).job(CUSTOM);
    let runner = load(&scratch);
    assert_eq!(runner.missing_worker(), Some("mine"));
    let error = runner.run(Stop::new(), |_| ()).await.unwrap_err();
    assert!(
        matches!(&error, RunError::NoWorker { name } if name == "mine"),
        "{error}"
    );
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert!(!scratch.path().join("out").exists());
}

#[test]
fn the_command_says_that_a_custom_backend_needs_a_program() {
    let scratch = Scratch::new();
    scratch.rows(1).job(CUSTOM);
    for args in [&["job.yaml"][..], &["check", "job.yaml"]] {
        let ran = scratch.runner(args).exits(2);
        let said = "error: backend `mine` is of type custom, which needs a program of your own that \
                    supplies its worker";
        assert!(ran.stderr.starts_with(said), "{}", ran.stderr);
    }
    assert!(!scratch.path().join("out").exists());
}

#[tokio::test]
async fn two_runs_in_one_process_share_a_directory_no_more_than_two_processes() {
    let scratch = Scratch::new();
    scratch
        .rows(3)
        .job("backends: { a: { type: echo, delay: 200ms } }");
    let (one, two) = (load(&scratch), load(&scratch));
    let (one, two) = tokio::join!(one.run(Stop::new(), |_| ()), two.run(Stop::new(), |_| ()));
    assert_eq!(one.unwrap().exit_code, ExitCode::Success);
    assert_eq!(two.unwrap_err().exit_code(), ExitCode::Locked);
}

#[tokio::test]
async fn a_worker_can_stand_in_for_a_backend_of_any_type() {
    /// Counts, and asks another.
    struct Counting(EchoWorker, AtomicUsize);
    #[async_trait]
    impl ModelWorker for Counting {
        async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.infer(prompt).await
        }
    }
    let scratch = Scratch::new();
    scratch
        .rows(5)
        .job("backends: { a: { type: vllm, url: \"http://127.0.0.1:1\", model: m } }");
    let worker = Arc::new(Counting(EchoWorker::with_delay(0), AtomicUsize::new(0)));
    let runner = load(&scratch).with_worker("a", Arc::clone(&worker) as Arc<dyn ModelWorker>);
    runner.run(Stop::new(), |_| ()).await.unwrap();
    assert_eq!(worker.1.load(Ordering::SeqCst), 5);
    assert_eq!(scratch.published("out", 0).answers()[4], "row 5");
}

#[test]
fn open_files_are_counted_by_backend_and_bound_the_rows_in_flight() {
    let scratch = Scratch::new();
    scratch.rows(1).job(
        "backends:\n  a: { type: vllm, model: m, limits: { concurrency: 10 } }\n  b: { type: llama_cpp }\n  \
         c: { type: echo }\n  d: { type: custom }\nconcurrency: 100",
    );
    let own = 40;
    let runner = load(&scratch);
    assert_eq!(runner.open_files(), own + 10 + 100);
    for (most, in_flight) in [(200, 100), (149, 99), (own + 30, 20), (own + 9, 4), (0, 1)] {
        let runner = load(&scratch).with_open_files(most);
        assert_eq!(runner.plan().concurrency, in_flight, "{most} open files");
    }
}
