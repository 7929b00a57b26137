//! A child process, and what it took.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How often is looked how a process is doing.
const LOOK: Duration = Duration::from_millis(10);
/// Ticks of the kernel's clock of a process's CPU time, as Linux shows them to programs.
const TICKS: f64 = 100.0;

/// What a process took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From start to end.
    pub seconds: f64,
    /// Of all of its threads, user and system.
    pub cpu: f64,
    /// The most memory that it had at a time (`VmHWM`), in MiB.
    pub peak: f64,
}

/// Runs a command to its good end. `Took::cpu` and `Took::peak` are of Linux.
pub fn measure(command: &mut Command) -> Result<Took> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let took = watch(&child, began);
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    took
}

/// Looks at a process until it has ended, but leaves it to be waited for.
fn watch(child: &Child, began: Instant) -> Result<Took> {
    let about = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id()));
    let mut peak = 0.0_f64;
    loop {
        let status = about("status")?;
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(most) = most.and_then(|most| most.split_whitespace().next()) {
            peak = peak.max(most.parse::<f64>()? / 1024.0);
        }
        let stat = about("stat")?;
        let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        if fields[0] == "Z" {
            let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
            return Ok(Took {
                seconds: began.elapsed().as_secs_f64(),
                cpu: ticks / TICKS,
                peak,
            });
        }
        std::thread::sleep(LOOK);
    }
}
