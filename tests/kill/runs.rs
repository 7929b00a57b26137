//! Starting the `runner`, alone or under `strace`, and how it ended.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::scratch::Scratch;

/// No run of these tests takes longer, however the disk behaves.
pub const DEADLINE: Duration = Duration::from_secs(60);
const STDERR: &str = "stderr.txt";

/// A runner at work on `job.yaml`. Killed if the test leaves it behind.
pub struct Run {
    child: Child,
    began: Instant,
    stderr: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stderr: String,
    pub took: Duration,
}

impl Run {
    /// Starts a runner.
    pub fn start(scratch: &Scratch) -> Self {
        Self::command(scratch, Command::new(env!("CARGO_BIN_EXE_runner")))
    }

    /// Starts a runner under `strace`, which logs to this file. The runner is the child of this process and
    /// `strace` is not, so that signals and the end are the runner's own.
    pub fn traced(scratch: &Scratch, strace: &Path, log: &Path, options: &[String]) -> Self {
        let mut command = Command::new(strace);
        command
            .args(["-D", "-f", "-qq", "-y", "-s", "0", "-o"])
            .arg(log)
            .args(options);
        command.arg("--").arg(env!("CARGO_BIN_EXE_runner"));
        // Fewer threads: which call is the nth depends less on chance.
        command.env("TOKIO_WORKER_THREADS", "1");
        Self::command(scratch, command)
    }

    /// Starts this command, to which only the name of the job is added.
    pub fn command(scratch: &Scratch, mut command: Command) -> Self {
        let stderr = scratch.path().join(STDERR);
        let file = File::create(&stderr).expect("a file for stderr");
        let kept: Vec<_> = command
            .get_envs()
            .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
            .collect();
        command.env_clear().env("OPENAI_API_KEY", "test-key");
        command.envs(
            kept.into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
            .arg("job.yaml")
            .current_dir(scratch.path())
            .stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(file);
        Self {
            child: command.spawn().expect("the runner starts"),
            began: Instant::now(),
            stderr,
        }
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the runner can be waited for")
            .is_none()
    }

    /// Whether it ends within this time.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.is_running() && began.elapsed() < limit {
            thread::sleep(Duration::from_millis(2));
        }
        !self.is_running()
    }

    /// Sends a signal to this process and no other.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let status = kill
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(status.expect("kill can be run").success());
    }

    /// Ends it as a power switch would; nothing happens if it has ended by itself.
    #[track_caller]
    pub fn kill(mut self) -> Ended {
        let _ = self.child.kill();
        self.wait()
    }

    /// The same, and it may have panicked.
    pub fn kill_whatever(mut self) -> Ended {
        let _ = self.child.kill();
        self.wait_whatever()
    }

    /// Waits for the end, which no panic may bring about.
    #[track_caller]
    pub fn wait(self) -> Ended {
        let ended = self.wait_whatever();
        assert!(!ended.panics(), "{}", ended.stderr);
        ended
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait_whatever(mut self) -> Ended {
        let mut status = None;
        let mut nap = Duration::from_micros(200);
        while status.is_none() && self.began.elapsed() < DEADLINE {
            status = self.child.try_wait().expect("the runner can be waited for");
            thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(3));
        }
        let stderr = fs::read_to_string(&self.stderr).expect("the runner prints UTF-8");
        let status: ExitStatus = status
            .unwrap_or_else(|| panic!("the runner did not end within {DEADLINE:?}\n{stderr}"));
        Ended {
            code: status.code(),
            signal: status.signal(),
            stderr,
            took: self.began.elapsed(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Both fail once the child has ended, which is the rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Whether it was killed: by the test, or by the fault that `strace` made.
    pub fn was_killed(&self) -> bool {
        self.signal == Some(9)
    }

    /// Whether anything in it panicked.
    pub fn panics(&self) -> bool {
        self.stderr.contains("panicked at")
    }

    #[track_caller]
    pub fn exits(&self, code: i32) {
        assert_eq!(
            (self.code, self.signal),
            (Some(code), None),
            "{}",
            self.stderr
        );
    }

    /// The numbers of the line that says what is to be done, such as `unchanged 3 | new 4`.
    pub fn plan(&self, sort: &str) -> Option<u64> {
        let line = self
            .stderr
            .lines()
            .find(|line| line.contains("unchanged "))?;
        let mut words = line.split([' ', '|', ':']).filter(|word| !word.is_empty());
        words.find(|word| *word == sort)?;
        words.next()?.replace(',', "").parse().ok()
    }
}
