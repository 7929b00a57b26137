//! A server of somebody else, started for one test and ended with it.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::direct;
use crate::scratch::skipped;

/// No server takes longer to start.
const START: Duration = Duration::from_secs(60);

/// Where `tests/real/install` has put this server; else says that the test is left out.
pub fn installed(name: &str, test: &str) -> Option<PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    let home = set("RUNNER_SERVERS").map(PathBuf::from);
    let home = home.or_else(|| cache.map(|cache| cache.join("runner-servers")));
    let place = home.map(|home| home.join(name));
    let found = place.filter(|place| place.join("made_of").is_file());
    if found.is_none() {
        skipped(
            test,
            &format!(
                "the server `{name}` is not installed (`tests/real/install {name}` installs it)"
            ),
        );
    }
    found
}

/// A file of the folder of this server in the checkout.
pub fn source(name: &str, file: &str) -> PathBuf {
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/servers");
    servers.join(name).join(file)
}

/// A port on which nobody listens just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

/// A process that serves. Killed at the end of its test.
pub struct Server {
    child: Child,
    port: u16,
    log: NamedTempFile,
}

impl Server {
    /// Starts this command, which is to serve on this port.
    pub fn start(mut command: Command, port: u16) -> Self {
        let log = NamedTempFile::new().expect("a file for what the server says");
        let into = || -> Stdio {
            let file: File = log.reopen().expect("the file for what the server says");
            file.into()
        };
        command.stdin(Stdio::null()).stdout(into()).stderr(into());
        let child = command.spawn().expect("the server starts");
        Self { child, port, log }
    }

    /// Waits until a GET of this path is answered with 200.
    #[track_caller]
    pub fn answers(self, path: &str) -> Self {
        let started = Instant::now();
        while direct::get(self.port, path, "").is_none_or(|reply| reply.status != 200) {
            assert!(
                started.elapsed() < START,
                "the server did not start: {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(10));
        }
        self
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has written to its log.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(self.log.path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        // Both fail once it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
