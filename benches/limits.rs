//! How well a run keeps to a server's limits, and how much of them it uses: whole runs of the program
//! against a loopback server that enforces them.
//!
//! `cargo bench --bench limits` (about 3 minutes). What was seen is in docs/bench.md.

#![expect(clippy::print_stdout, reason = "it is what the benchmark is for")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const ROWS: u64 = 3_000;
const PER_MINUTE: u64 = 6_000;
const BURST: u64 = 100;
/// What an answer uses: 20 tokens, so that both limits admit the same requests.
const TOKENS: u64 = 20;
/// What a run would take that makes every request at the first moment at which it may be made.
const IDEAL: Duration = Duration::from_secs((ROWS - BURST) * 60 / PER_MINUTE);
const LATENCY: Duration = Duration::from_millis(50);

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
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (unit, headers) = (scenario.unit, scenario.headers);
    let shared = Arc::clone(&bucket);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that breaks off is the client's matter.
            tokio::spawn(serve(stream, Arc::clone(&shared), unit, headers));
        }
    });
    let folder = tempfile::tempdir()?;
    write_job(
        folder.path(),
        &format!("http://{address}/v1"),
        scenario.in_job,
    )?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command
        .args(["job.yaml", "--quiet", "--out", "out"])
        .current_dir(folder.path())
        .env("OPENAI_API_KEY", "unused")
        .stdout(Stdio::null());
    let began = Instant::now();
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    let took = began.elapsed();
    server.abort();
    ensure!(status.success(), "the run ended with {status}");
    let refused = bucket.lock().expect("nobody panics").refused;
    Ok((took, refused))
}

fn write_job(folder: &Path, url: &str, limits: &str) -> Result<()> {
    let rows: String = (0..ROWS)
        .map(|row| format!("a text of forty bytes and of number {row}\n"))
        .collect();
    std::fs::write(folder.join("rows.csv"), format!("text\n{rows}"))?;
    let job = format!(
        "inputs: rows.csv\nprompt: '{{{{ text }}}}'\nbackends:\n  gpt:\n    type: openai\n    \
         model: gpt-4o-mini\n    url: {url}\n    max_tokens: 10\n    limits: {{ {limits} }}\n"
    );
    Ok(std::fs::write(folder.join("job.yaml"), job)?)
}

/// Answers the requests of one connection.
async fn serve(
    stream: TcpStream,
    bucket: Arc<Mutex<Bucket>>,
    unit: u64,
    headers: bool,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let taken = bucket.lock().expect("nobody panics").take();
        let kind = if unit == 1 { "requests" } else { "tokens" };
        let (status, mut more, answer) = match taken {
            Ok(left) => {
                tokio::time::sleep(LATENCY).await;
                let told = format!(
                    "x-ratelimit-limit-{kind}: {}\r\nx-ratelimit-remaining-{kind}: {}\r\n",
                    PER_MINUTE * unit,
                    left * unit
                );
                ("200 OK", told, answer())
            }
            Err(seconds) => (
                "429 Too Many Requests",
                String::new(),
                (format!("retry-after: {seconds}\r\n"), refusal()),
            ),
        };
        if !headers {
            more.clear();
        }
        let (more_headers, body) = answer;
        more.push_str(&more_headers);
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n{body}"
        );
        stream.get_mut().write_all(reply.as_bytes()).await?;
    }
}

fn answer() -> (String, String) {
    let body = r#"{"id":"x","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
    (String::new(), body.to_owned())
}

fn refusal() -> String {
    r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#.to_owned()
}
