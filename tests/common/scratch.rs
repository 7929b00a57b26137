//! A directory of its own for each test, the `runner` command in it, and what the command left there.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::published::Published;

/// No command of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A directory that is named after the test and goes away with it. If the test fails, everything in
/// it is shown first.
pub struct Scratch {
    dir: TempDir,
    env: Vec<(String, String)>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Scratch {
    /// An empty directory, with a key for openai in the environment and nothing else.
    pub fn new() -> Self {
        let thread = thread::current();
        let test = thread.name().unwrap_or("test").rsplit("::").next();
        let prefix = format!("{}-", test.unwrap_or("test"));
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir();
        Self {
            dir: dir.expect("a scratch directory"),
            env: vec![("OPENAI_API_KEY".to_owned(), "test-key".to_owned())],
            told: Arc::default(),
        }
    }

    /// The environment of the command without this variable.
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.retain(|(kept, _)| kept != name);
        self
    }

    /// The environment of the command with this variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(name);
        let folder = path.parent().expect("a file has a folder");
        fs::create_dir_all(folder).expect("a folder in the scratch directory");
        fs::write(&path, bytes).expect("a file in the scratch directory");
        self
    }

    /// A job of these backends (and further keys), which asks `{{ text }}` of each row of `rows.csv`
    /// and writes to `out`.
    pub fn job(&self, backends_and_more: &str) -> &Self {
        self.write(
            "job.yaml",
            format!(
                "inputs: rows.csv\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n\
                 {backends_and_more}\n"
            ),
        )
    }

    /// `rows.csv` with a column `text` that holds `row 1`, `row 2`, …
    pub fn rows(&self, count: usize) -> &Self {
        let mut csv = "text\n".to_owned();
        for row in 1..=count {
            csv.push_str(&format!("row {row}\n"));
        }
        self.write("rows.csv", csv)
    }

    /// `runner` with these arguments, in the directory and with the environment of this test.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .envs(self.env.iter().cloned());
        command
    }

    /// Starts `runner` with these arguments in the directory.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_with_stdout(args, None)
    }

    /// Starts `runner` with its stdout into a pipe that the caller holds.
    pub fn start_piped(&self, args: &[&str]) -> Running {
        self.start_with_stdout(args, Some(Stdio::piped()))
    }

    /// Starts `runner` with its stdout into this.
    pub fn start_printing(&self, args: &[&str], stdout: Stdio) -> Running {
        self.start_with_stdout(args, Some(stdout))
    }

    /// Runs `runner` with these arguments under another program, to its end.
    pub fn under(&self, program: &str, with: &[&str], args: &[&str]) -> Ran {
        let mut command = Command::new(program);
        command.args(with).arg(env!("CARGO_BIN_EXE_runner"));
        self.spawn(command, args, None).wait()
    }

    /// Runs `runner` with these arguments and these bytes piped into it, to its end.
    pub fn runner_reading(&self, args: &[&str], bytes: &[u8]) -> Ran {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cat = command.spawn().expect("cat can be run");
        let pipe = cat.stdout.take().expect("stdout is a pipe");
        let command = Command::new(env!("CARGO_BIN_EXE_runner"));
        let running = self.spawn_reading(command, args, None, pipe.into());
        let mut into = cat.stdin.take().expect("stdin is a pipe");
        // Whoever does not read to the end has its reason.
        let _ = std::io::Write::write_all(&mut into, bytes);
        drop(into);
        let _ = cat.wait();
        running.wait()
    }

    fn start_with_stdout(&self, args: &[&str], stdout: Option<Stdio>) -> Running {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_runner")), args, stdout)
    }

    fn spawn(&self, command: Command, args: &[&str], stdout: Option<Stdio>) -> Running {
        self.spawn_reading(command, args, stdout, Stdio::null())
    }

    fn spawn_reading(
        &self,
        mut command: Command,
        args: &[&str],
        stdout: Option<Stdio>,
        stdin: Stdio,
    ) -> Running {
        let output = || tempfile::NamedTempFile::new().expect("a file for output");
        let (out, err) = (output(), output());
        let handle = |file: &tempfile::NamedTempFile| -> Stdio {
            let file: File = file.reopen().expect("the file for output");
            file.into()
        };
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdin(stdin)
            .stdout(stdout.unwrap_or_else(|| handle(&out)))
            .stderr(handle(&err));
        Running {
            child: command.spawn().expect("the runner starts"),
            command: format!("runner {}", args.join(" ")),
            started: Instant::now(),
            told: Arc::clone(&self.told),
            out,
            err,
        }
    }

    /// Runs `runner` with these arguments to its end.
    pub fn runner(&self, args: &[&str]) -> Ran {
        self.start(args).wait()
    }

    /// Runs `job.yaml`, which must end with this code, and reads and audits what is in `out`.
    #[track_caller]
    pub fn run(&self, code: i32) -> (Ran, Published) {
        let ran = self.runner(&["job.yaml"]).exits(code);
        (ran, self.published("out", code))
    }

    /// As [`Scratch::run`], but whatever was answered before is asked again.
    #[track_caller]
    pub fn run_fresh(&self, code: i32) -> (Ran, Published) {
        let ran = self.runner(&["job.yaml", "--fresh"]).exits(code);
        (ran, self.published("out", code))
    }

    /// What is in this directory, audited.
    #[track_caller]
    pub fn published(&self, dir: &str, code: i32) -> Published {
        Published::read(&self.path().join(dir), code)
    }

    /// No byte of any file here is part of this text: not of a database, not of a log.
    #[track_caller]
    pub fn holds_nowhere(&self, text: &str) {
        for file in files(self.path()) {
            let bytes = fs::read(&file).expect("a file that can be read");
            let held = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!held, "`{text}` stands in {}", file.display());
        }
    }

    fn tell(&self) -> String {
        let mut told = format!("in {}\n", self.path().display());
        for entry in files(self.path()) {
            let text = fs::read(&entry).unwrap_or_default();
            let name = entry.strip_prefix(self.path()).unwrap_or(&entry);
            let shown = match name.extension().is_some_and(|kind| kind == "db") {
                true => format!("{} bytes", text.len()),
                false => {
                    let start = &text[..text.len().min(3000)];
                    String::from_utf8_lossy(start).into_owned()
                }
            };
            told.push_str(&format!("--- {}\n{shown}\n", name.display()));
        }
        let commands = self.told.lock().expect("no test panics while telling");
        told + &commands.join("\n")
    }
}

impl Drop for Scratch {
    #[allow(clippy::print_stderr, reason = "this is how a failed test speaks")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.tell());
        }
    }
}

/// Every file below a directory, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// A `runner` that has been started. Killed if the test leaves it behind.
pub struct Running {
    child: Child,
    command: String,
    started: Instant,
    told: Arc<Mutex<Vec<String>>>,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
}

impl Running {
    /// Sends a signal, `INT` or `TERM`, to this process and no other.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(status.expect("kill can be run").success());
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had at once, in KiB, known once it has ended.
    pub fn most_memory(&self) -> thread::JoinHandle<u64> {
        let status = format!("/proc/{}/status", self.id());
        thread::spawn(move || {
            let peak = |status: String| -> Option<u64> {
                let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
                line.split_whitespace().nth(1)?.parse().ok()
            };
            let mut most = 0;
            // A process that has ended has no memory any more.
            while let Some(now) = fs::read_to_string(&status).ok().and_then(peak) {
                most = now.max(most);
                thread::sleep(Duration::from_millis(2));
            }
            most
        })
    }

    /// The other end of a piped stdout.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("stdout is a pipe")
    }

    /// Waits until stderr holds this text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        until(&format!("`{text}` on stderr"), || {
            read(&self.err).contains(text)
        });
    }

    /// Whether it has come to its end.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait().expect("the runner can be waited for");
        ended.is_some()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(self) -> Ran {
        self.wait_for(DEADLINE)
    }

    /// Waits for the end, but not longer than this after the start.
    #[track_caller]
    pub fn wait_for(mut self, deadline: Duration) -> Ran {
        let mut status: Option<ExitStatus> = None;
        while status.is_none() && self.started.elapsed() < deadline {
            status = self.child.try_wait().expect("the runner can be waited for");
            thread::sleep(Duration::from_millis(3));
        }
        let ran = Ran {
            code: status.and_then(|status| status.code()),
            took: self.started.elapsed(),
            stdout: read(&self.out),
            stderr: read(&self.err),
        };
        let mut told = self.told.lock().expect("no test panics while telling");
        told.push(format!(
            "$ {}\nexit {:?} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, ran.code, ran.took, ran.stdout, ran.stderr
        ));
        drop(told);
        assert!(
            status.is_some(),
            "the runner did not end within {deadline:?}"
        );
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail once the child has ended, which is the rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(file: &tempfile::NamedTempFile) -> String {
    let bytes = fs::read(file.path()).expect("the file for output");
    String::from_utf8(bytes).expect("the runner prints UTF-8")
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub took: Duration,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Whether stdout or stderr holds this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let both = format!("{}{}", self.stdout, self.stderr);
        assert!(both.contains(text), "`{text}` is missing in\n{both}");
        self
    }

    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        let both = format!("{}{}", self.stdout, self.stderr);
        assert!(!both.contains(text), "`{text}` stands in\n{both}");
        self
    }
}

/// Waits until it holds, for a bounded time.
#[track_caller]
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "{what} did not come about");
        thread::sleep(Duration::from_millis(3));
    }
}

/// Says that a test is left out on this machine, and why: past the capture of tests that pass.
pub fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}
