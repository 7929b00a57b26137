//! What the run store costs: whole runs of the program, with each answer on the disk and without.
//!
//! `cargo bench --bench store` (about 5 minutes). What was seen is in docs/bench.md.

#![expect(clippy::print_stdout, reason = "it is what the benchmark is for")]

use std::io::{BufRead, BufReader as Lines};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long the server takes.
const LATENCY: Duration = Duration::from_millis(100);
/// So many times each form is run, one after the other; the middle one counts.
const ROUNDS: usize = 5;
const DURABILITIES: [&str; 2] = ["process", "full"];

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that breaks off is the client's matter.
            tokio::spawn(serve(stream));
        }
    });
    println!(
        "| 2,500 rows, replies after 100 ms | process: s | full: s | full costs |\n|---|---:|---:|---:|"
    );
    let paced = "limits: { requests_per_minute: 30000, concurrency: 100 }";
    for (name, limits) in [
        ("500 requests/s by the limit, 100 places", paced),
        ("50 places, and no limit", "limits: { concurrency: 50 }"),
    ] {
        let backend = format!(
            "type: openai\n    model: gpt-4o-mini\n    url: {url}\n    max_tokens: 10\n    {limits}"
        );
        compare(name, 2_500, &backend).await?;
    }
    println!("\n| echo without delay | process: s | full: s | full costs |\n|---|---:|---:|---:|");
    for places in [64, 512] {
        let backend =
            format!("type: echo\n    delay: 0ms\n    limits: {{ concurrency: {places} }}");
        compare(&format!("50,000 rows, {places} places"), 50_000, &backend).await?;
    }
    tokio::task::spawn_blocking(recovery).await?
}

/// Runs a job with both durabilities, in turn, and prints the middle times.
async fn compare(name: &str, rows: u64, backend: &str) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (durability, times) in DURABILITIES.iter().zip(&mut times) {
            let folder = tempfile::tempdir()?;
            write_job(folder.path(), rows, backend, durability)?;
            let mut command = runner(folder.path());
            command.arg("--quiet");
            let began = Instant::now();
            let status = tokio::task::spawn_blocking(move || command.status()).await??;
            ensure!(status.success(), "the run ended with {status}");
            times.push(began.elapsed());
        }
    }
    let [process, full] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    let cost = 100.0 * (full / process - 1.0);
    println!("| {name} | {process:.2} | {full:.2} | {cost:.1} % |");
    Ok(())
}

/// How long a run of a million stored rows takes to know what there is to do.
fn recovery() -> Result<()> {
    const ROWS: u64 = 1_000_000;
    let folder = tempfile::tempdir()?;
    let backend = "type: echo\n    delay: 0ms\n    limits: { concurrency: 512 }";
    write_job(folder.path(), ROWS, backend, "process")?;
    let status = runner(folder.path()).arg("--quiet").status()?;
    ensure!(status.success(), "the run ended with {status}");
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let mut again = runner(folder.path()).stderr(Stdio::piped()).spawn()?;
        let stderr = again.stderr.take().context("stderr is a pipe")?;
        let plan = Lines::new(stderr).lines().next().context("a plan")??;
        times.push(began.elapsed().as_secs_f64());
        ensure!(plan.starts_with("unchanged 1,000,000 |"), "{plan}");
        again.kill()?;
        again.wait()?;
    }
    times.sort_by(f64::total_cmp);
    println!(
        "\n1,000,000 stored rows: {:.1} s until it is known what to ask",
        times[1]
    );
    Ok(())
}

fn runner(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command
        .args(["job.yaml", "--out", "out"])
        .current_dir(folder)
        .env("OPENAI_API_KEY", "unused")
        .stdout(Stdio::null());
    command
}

fn write_job(folder: &Path, rows: u64, backend: &str, durability: &str) -> Result<()> {
    let texts: String = (0..rows)
        .map(|row| format!("a text of forty bytes and of number {row}\n"))
        .collect();
    std::fs::write(folder.join("rows.csv"), format!("text\n{texts}"))?;
    let job = format!(
        "inputs: rows.csv\nprompt: '{{{{ text }}}}'\nconcurrency: 1000\ndurability: {durability}\n\
         backends:\n  one:\n    {backend}\n"
    );
    Ok(std::fs::write(folder.join("job.yaml"), job)?)
}

/// Answers the requests of one connection.
async fn serve(stream: TcpStream) -> std::io::Result<()> {
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
        tokio::time::sleep(LATENCY).await;
        let body = r#"{"id":"x","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.get_mut().write_all(reply.as_bytes()).await?;
    }
}
