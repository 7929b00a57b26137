//! What a run adds to the wire: whole runs of the program beside a load generator (oha, where it is installed) and
//! a bare reqwest loop, against one loopback server, one after the other.
//!
//! `cargo bench --bench throughput` (about 8 minutes); `-- 50/512` takes only 50 ms and 512 in flight.
//! What was seen is in docs/bench.md.

#![expect(clippy::print_stdout, reason = "it is what the benchmark is for")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

mod loopback;

use loopback::process::{Took, measure};
use loopback::{Reply, raise_file_limit, runner, serve, write_job};

/// Latency in milliseconds, requests in flight, requests.
const CASES: [(u64, u64, u64); 9] = [
    (0, 64, 50_000),
    (0, 512, 50_000),
    (0, 4096, 50_000),
    (50, 64, 10_000),
    (50, 512, 100_000),
    (50, 4096, 100_000),
    (500, 64, 1_280),
    (500, 512, 10_240),
    (500, 4096, 81_920),
];

fn main() -> Result<()> {
    raise_file_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", latency] => answer(Duration::from_millis(latency.parse()?)),
        ["bare", url, in_flight, rows] => ask(url, in_flight.parse()?, rows),
        _ => {
            let wanted = arguments.iter().find(|argument| argument.contains('/'));
            compare(wanted.copied())
        }
    }
}

/// Runs every case that is wanted, and prints a line for each.
fn compare(wanted: Option<&str>) -> Result<()> {
    let oha = Command::new("oha").arg("--version").output().is_ok();
    if !oha {
        println!("oha is not installed: its columns are left out (cargo install oha)\n");
    }
    println!(
        "| latency, in flight, rows | ideal: rows/s | oha | bare | runner | runner / ideal | / oha | / bare | CPU s per 1,000: oha | bare | runner | runner / bare | peak MiB: bare | runner |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (latency, in_flight, rows) in CASES {
        if wanted.is_none_or(|wanted| wanted == format!("{latency}/{in_flight}")) {
            case(latency, in_flight, rows, oha)
                .with_context(|| format!("{latency}/{in_flight}"))?;
        }
    }
    Ok(())
}

fn case(latency: u64, in_flight: u64, rows: u64, oha: bool) -> Result<()> {
    let server = Server::start(latency)?;
    let folder = tempfile::tempdir()?;
    let backend = format!(
        "type: openai\n    model: gpt-4o-mini\n    url: {}\n    max_tokens: 10\n    limits: {{ concurrency: {in_flight} }}",
        server.url
    );
    let keys = format!("concurrency: {in_flight}\nbackends:\n  gpt:\n    {backend}");
    write_job(folder.path(), rows, &keys)?;
    let generator = oha
        .then(|| server.load(folder.path(), in_flight, rows))
        .transpose()?;
    let bare = measure(
        Command::new(std::env::current_exe()?)
            .args(["bare", &server.url, &in_flight.to_string()])
            .arg(folder.path().join("rows.csv")),
    )?;
    let ours = measure(runner(folder.path()).arg("--quiet"))?;

    let thousands = rows as f64 / 1000.0;
    let rate = |took: Took| rows as f64 / took.seconds;
    let ideal = (latency > 0).then(|| in_flight as f64 * 1000.0 / latency as f64);
    let or_none = |value: Option<f64>, digits: usize, unit: &str| match value {
        Some(value) => format!("{value:.digits$}{unit}"),
        None => "-".to_owned(),
    };
    let percent = |of: Option<f64>| or_none(of.map(|of| 100.0 * rate(ours) / of), 1, " %");
    println!(
        "| {latency} ms, {in_flight}, {rows} | {} | {} | {:.0} | {:.0} | {} | {} | {} | {} | {:.3} | {:.3} | {:.2} | {:.0} | {:.0} |",
        or_none(ideal, 0, ""),
        or_none(generator.map(rate), 0, ""),
        rate(bare),
        rate(ours),
        percent(ideal),
        percent(generator.map(rate)),
        percent(Some(rate(bare))),
        or_none(generator.map(|took| took.cpu / thousands), 3, ""),
        bare.cpu / thousands,
        ours.cpu / thousands,
        ours.cpu / bare.cpu,
        bare.peak,
        ours.peak,
    );
    Ok(())
}

/// The server, in a process of its own.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(latency: u64) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", &latency.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let url = BufReader::new(stdout)
            .lines()
            .next()
            .context("an address")??;
        Ok(Self { child, url })
    }

    /// Has oha send what the first row asks, over and over.
    fn load(&self, folder: &Path, in_flight: u64, rows: u64) -> Result<Took> {
        let body = folder.join("body.json");
        std::fs::write(
            &body,
            serde_json::to_vec(&question("a text of forty bytes and of number 0"))?,
        )?;
        measure(
            Command::new("oha")
                .args(["--no-tui", "-m", "POST", "-T", "application/json", "-D"])
                .arg(&body)
                .args(["-c", &in_flight.to_string(), "-n", &rows.to_string()])
                .arg(format!("{}/chat/completions", self.url)),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours, and has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers every request after so long, until it is killed.
#[tokio::main]
async fn answer(latency: Duration) -> Result<()> {
    let (url, server) = serve(move || async move {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        Reply::answer()
    })
    .await?;
    println!("{url}");
    Ok(server.await?)
}

/// The bare loop, as one writes it: a task for each row of the CSV file, as many as may be in flight, whose reply is read
/// and its answer taken out. No store, no limits, no report.
#[tokio::main]
async fn ask(url: &str, in_flight: usize, rows: &str) -> Result<()> {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(in_flight)
        .tls_certs_only([])
        .no_proxy()
        .build()?;
    let url: Arc<str> = format!("{url}/chat/completions").into();
    let places = Arc::new(Semaphore::new(in_flight));
    let mut tasks = JoinSet::new();
    let mut answers = 0;
    for record in csv::Reader::from_path(rows)?.into_records() {
        let text = record?[0].to_owned();
        let place = Arc::clone(&places).acquire_owned().await?;
        let (client, url) = (client.clone(), Arc::clone(&url));
        tasks.spawn(async move {
            let answer = answer_of(&client, &url, &text).await;
            drop(place);
            answer
        });
        while let Some(answer) = tasks.try_join_next() {
            answers += usize::from(!answer??.is_empty());
        }
    }
    while let Some(answer) = tasks.join_next().await {
        answers += usize::from(!answer??.is_empty());
    }
    println!("{answers} answers");
    Ok(())
}

async fn answer_of(client: &reqwest::Client, url: &str, text: &str) -> Result<String> {
    let body = serde_json::to_vec(&question(text))?;
    let request = client.post(url).bearer_auth("unused");
    let request = request
        .header("content-type", "application/json")
        .body(body);
    let reply = request.send().await?.error_for_status()?.bytes().await?;
    let reply: Value = serde_json::from_slice(&reply)?;
    let answer = reply["choices"][0]["message"]["content"].as_str();
    Ok(answer.context("an answer")?.to_owned())
}

/// What the job asks for a row.
fn question(text: &str) -> Value {
    json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": text}],
        "max_completion_tokens": 10,
    })
}
