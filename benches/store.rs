//! What the run store costs: whole runs of the program, with each answer on the disk and without.
//!
//! `cargo bench --bench store` (about 4 minutes). What was seen is in docs/bench.md.

#![expect(clippy::print_stdout, reason = "it is what the benchmark is for")]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

mod loopback;

use loopback::{Reply, runner, serve, write_job};

/// How long the server takes.
const LATENCY: Duration = Duration::from_millis(100);
/// So many times each form is run, one after the other; the middle one counts.
const ROUNDS: usize = 5;
const DURABILITIES: [&str; 2] = ["process", "full"];

#[tokio::main]
async fn main() -> Result<()> {
    let (url, _) = serve(|| async {
        tokio::time::sleep(LATENCY).await;
        Reply::answer()
    })
    .await?;
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
            write_job(folder.path(), rows, &keys(backend, durability))?;
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
    write_job(folder.path(), ROWS, &keys(backend, "process"))?;
    let status = runner(folder.path()).arg("--quiet").status()?;
    ensure!(status.success(), "the run ended with {status}");
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let mut again = runner(folder.path()).stderr(Stdio::piped()).spawn()?;
        let stderr = again.stderr.take().context("stderr is a pipe")?;
        let plan = BufReader::new(stderr).lines().next().context("a plan")??;
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

/// A job of one backend.
fn keys(backend: &str, durability: &str) -> String {
    format!("concurrency: 1000\ndurability: {durability}\nbackends:\n  one:\n    {backend}")
}
