//! A terminal of so many columns, on which the `runner` command runs, and everything that was written to it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// No command of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A command that runs on a terminal of its own.
pub struct OnTerminal {
    child: Child,
    reader: JoinHandle<Vec<u8>>,
}

/// What was written to a terminal.
pub struct Screen {
    pub code: Option<i32>,
    /// Every byte.
    pub bytes: Vec<u8>,
}

/// Starts a command with stdout and stderr on a terminal of so many columns.
pub fn start(command: Command, columns: u16) -> OnTerminal {
    let (child, mut master) = open(command, columns);
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // When nobody has the other end any more, Linux says so with an error.
        let _ = master.read_to_end(&mut bytes);
        bytes
    });
    OnTerminal { child, reader }
}

/// The same, on a terminal that is gone as soon as something was written to it.
pub fn start_and_leave(command: Command) -> Child {
    let (child, mut master) = open(command, 80);
    let read = master.read(&mut [0]);
    assert_eq!(read.expect("something is written"), 1);
    child
}

fn open(mut command: Command, columns: u16) -> (Child, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("the terminal is ours");
    unlockpt(&master).expect("the terminal can be opened");
    let name = ptsname(&master, Vec::new()).expect("it has a name");
    let name = name.into_string().expect("of letters");
    let slave = OpenOptions::new().read(true).write(true).open(name);
    let slave = slave.expect("the other end");
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(slave.as_fd(), size).expect("the size can be set");
    let handle = || -> Stdio { slave.try_clone().expect("another handle").into() };
    command
        .stdin(Stdio::null())
        .stdout(handle())
        .stderr(handle());
    let child = command.spawn().expect("the runner starts");
    // The command holds handles of its own.
    drop(command);
    drop(slave);
    (child, File::from(master))
}

impl OnTerminal {
    /// Waits for the end.
    pub fn wait(mut self) -> Screen {
        let started = Instant::now();
        while self
            .child
            .try_wait()
            .expect("it can be waited for")
            .is_none()
        {
            if started.elapsed() > DEADLINE {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("it has ended");
        Screen {
            code: status.code(),
            bytes: self.reader.join().expect("nothing panics while reading"),
        }
    }
}

impl Screen {
    /// What was written without the sequences that move the cursor and clear lines; panics at any other.
    pub fn text(&self) -> String {
        let text = String::from_utf8(self.bytes.clone()).expect("it is UTF-8");
        let mut plain = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find('\u{1b}') {
            plain.push_str(&rest[..at]);
            let sequence = &rest[at..];
            let end = sequence.find(|c: char| c.is_ascii_alphabetic());
            let end = end.expect("a sequence ends") + 1;
            let (sequence, after) = sequence.split_at(end);
            let inner = sequence.strip_prefix("\u{1b}[");
            let number = inner.map(|inner| inner.trim_end_matches(['A', 'B', 'K']));
            let is_ours = number.is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()));
            assert!(is_ours, "{sequence:?} in {text:?}");
            rest = after;
        }
        plain.push_str(rest);
        plain
    }

    /// The rows of what was drawn with this in it, as a terminal of so many columns shows them.
    pub fn frames(&self, with: &str, columns: usize) -> Vec<String> {
        let text = self.text();
        let mut rows = Vec::new();
        for line in text.split(['\r', '\n']).filter(|line| line.contains(with)) {
            let characters: Vec<char> = line.chars().collect();
            rows.extend(characters.chunks(columns).map(|row| row.iter().collect()));
        }
        rows
    }
}
