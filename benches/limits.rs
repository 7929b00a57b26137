//! How well a run keeps to a server's limits, and how much of them it uses: whole runs of the program
//! against a loopback server that enforces them.
//!
//! `cargo bench --bench limits` (about 3 minutes). What was seen is in docs/bench.md.

#![expect(clippy::print_stdout, reason = "it is what the benchmark is for")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

mod loopback;

use loopback::{Reply, runner, serve, write_job};

const ROWS: u64 = 3_000;
const PER_MINUTE: u64 = 6_000;
const BURST: u64 = 100;
/// What an answer uses: 20 tokens, so that both limits admit the same requests.
const TOKENS: u64 = 20;
/// What a run would take that makes every request at the first moment at which it may be made.
const IDEAL: Duration = Duration::from_secs((ROWS - BURST) * 60 / PER_MINUTE);
const LATENCY: Duration = Duration::from_millis(50);

const REFUSAL: &str = r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

/// What the server limits, and whether it and the job say so.
struct Scenario {
    name: &'static str,
    unit: u64,
    in_job: &'static str,
    headers: bool,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "requests, in the job",
        unit: 1,
        in_job: "requests_per_minute: 6000",
        headers: false,
    },
    Scenario {
        name: "requests, in the headers",
        unit: 1,
        in_job: "",
        headers: true,
    },
    Scenario {
        name: "requests, nowhere",
        unit: 1,
        in_job: "",
        headers: false,
    },
    Scenario {
        name: "tokens, in the job",
        unit: TOKENS,
        in_job: "tokens_per_minute: 120000",
        headers: false,
    },
    Scenario {
        name: "tokens, in the headers",
        unit: TOKENS,
        in_job: "",
        headers: true,
    },
    Scenario {
        name: "tokens, nowhere",
        unit: TOKENS,
        in_job: "",
        headers: false,
    },
];

/// A token bucket, and what it refused.
struct Bucket {
    left: f64,
    at: Instant,
    refused: u64,
}

impl Bucket {
    /// Takes a request, or says in how many whole seconds it would be taken.
    fn take(&mut self) -> Result<u64, u64> {
        let per_second = PER_MINUTE as f64 / 60.0;
        let refill = self.at.elapsed().as_secs_f64() * per_second;
        (self.left, self.at) = ((self.left + refill).min(BURST as f64), Instant::now());
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(self.left as u64);
        }
        self.refused += 1;
        Err(((1.0 - self.left) / per_second).ceil() as u64)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("| limit | seconds | of the ideal | refused |\n|---|---:|---:|---:|");
    for scenario in &SCENARIOS {
        let (took, refused) = run(scenario).await.context(scenario.name)?;
        let ratio = 100.0 * took.as_secs_f64() / IDEAL.as_secs_f64();
        let name = scenario.name;
        println!(
            "| {name} | {:.2} | {ratio:.1} % | {refused} |",
            took.as_secs_f64()
        );
    }
    Ok(())
}

async fn run(scenario: &Scenario) -> Result<(Duration, u64)> {
    let bucket = Arc::new(Mutex::new(Bucket {
        left: BURST as f64,
        at: Instant::now(),
        refused: 0,
    }));
    let (unit, headers) = (scenario.unit, scenario.headers);
    let shared = Arc::clone(&bucket);
    let (url, server) = serve(move || {
        let taken = shared.lock().expect("nobody panics").take();
        reply(taken, unit, headers)
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let keys = format!(
        "backends:\n  gpt:\n    type: openai\n    model: gpt-4o-mini\n    url: {url}\n    \
         max_tokens: 10\n    limits: {{ {} }}",
        scenario.in_job
    );
    write_job(folder.path(), ROWS, &keys)?;
    let mut command = runner(folder.path());
    command.arg("--quiet");
    let began = Instant::now();
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    let took = began.elapsed();
    server.abort();
    ensure!(status.success(), "the run ended with {status}");
    let refused = bucket.lock().expect("nobody panics").refused;
    Ok((took, refused))
}

/// What a request is answered with that was taken, or would be in so many seconds.
async fn reply(taken: Result<u64, u64>, unit: u64, headers: bool) -> Reply {
    let kind = if unit == 1 { "requests" } else { "tokens" };
    match taken {
        Ok(left) => {
            tokio::time::sleep(LATENCY).await;
            let told = format!(
                "x-ratelimit-limit-{kind}: {}\r\nx-ratelimit-remaining-{kind}: {}\r\n",
                PER_MINUTE * unit,
                left * unit
            );
            Reply {
                headers: if headers { told } else { String::new() },
                ..Reply::answer()
            }
        }
        Err(seconds) => Reply {
            status: "429 Too Many Requests",
            headers: format!("retry-after: {seconds}\r\n"),
            body: REFUSAL,
        },
    }
}
