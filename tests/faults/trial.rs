//! One run of a job that speaks every protocol, and what has to hold after any run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::protocols::{CANARY, PROTOCOLS, Protocol};
use crate::published::{Published, units};
use crate::scratch::{Ran, Scratch};
use crate::table::row;

/// For a job whose attempts are counted one by one.
pub const ONCE: &str = "retry: { attempts: 1 }";

/// What an attempt cost, as far as anybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing, that much is sure or assumed.
    Nothing,
    /// It may have been billed, at most so much.
    Possibly,
    /// What its usage comes to.
    Paid,
}

/// A job, and where to run it.
pub struct Trial {
    pub scratch: Scratch,
    /// What attempts may end in.
    ends: &'static [&'static str],
    protocols: Vec<&'static Protocol>,
    rows: usize,
    deadline: Duration,
}

impl Trial {
    /// Of a fault of the table: a directory, and every key in the environment.
    #[track_caller]
    pub fn of(id: &str) -> Self {
        Self::new(row(id).ends, row(id).deadline())
    }

    pub fn new(ends: &'static [&'static str], deadline: Duration) -> Self {
        let keys = PROTOCOLS.iter().map(|p| (p.variable(), p.key()));
        let scratch = keys.fold(Scratch::new(), |scratch, (name, key)| {
            scratch.env(&name, &key)
        });
        Self {
            scratch,
            ends,
            protocols: PROTOCOLS.iter().collect(),
            rows: 0,
            deadline,
        }
    }

    /// With this variable in the environment.
    pub fn env(self, name: &str, value: &str) -> Self {
        let scratch = self.scratch.env(name, value);
        Self { scratch, ..self }
    }

    /// Only some of the classes of the table.
    pub fn only(self, ends: &'static [&'static str]) -> Self {
        assert!(ends.iter().all(|class| self.ends.contains(class)));
        Self { ends, ..self }
    }

    /// Only over the protocols of which this holds.
    pub fn over(mut self, holds: fn(&Protocol) -> bool) -> Self {
        self.protocols.retain(|protocol| holds(protocol));
        self
    }

    /// A job that asks every row of every protocol at this server; `backend` is said of each backend, `more` of
    /// the job.
    pub fn asks(self, rows: usize, server: &str, backend: &str, more: &str) -> Self {
        self.asks_each(rows, |_| server.to_owned(), backend, more)
    }

    /// The same, where each protocol has a server of its own.
    pub fn asks_each(
        mut self,
        rows: usize,
        server: impl Fn(&Protocol) -> String,
        backend: &str,
        more: &str,
    ) -> Self {
        self.rows = rows;
        let protocols = self.protocols.iter();
        let backends: String = protocols
            .map(|protocol| protocol.backend(&server(protocol), backend))
            .collect();
        let protocols = self.protocols.iter();
        let names: Vec<&str> = protocols.map(|protocol| protocol.name).collect();
        let matrix = names.join(", ");
        self.scratch
            .rows(rows)
            .job(&format!("backends:\n{backends}matrix: [{matrix}]\n{more}"));
        self
    }

    /// Runs the job, which must end with this code in time, and checks what holds after every run.
    #[track_caller]
    pub fn ends(&self, code: i32) -> (Ran, Published) {
        self.holds(self.runs(), code)
    }

    /// The same, of a job whose backends may all count as down: that is another code.
    #[track_caller]
    pub fn fails(&self) -> (Ran, Published) {
        let ran = self.runs();
        let code = if ran.code == Some(5) { 5 } else { 3 };
        self.holds(ran, code)
    }

    #[track_caller]
    fn runs(&self) -> Ran {
        self.scratch.start(&["job.yaml"]).wait_for(self.deadline)
    }

    /// What holds after every run.
    #[track_caller]
    pub fn holds(&self, ran: Ran, code: i32) -> (Ran, Published) {
        let ran = ran.exits(code);
        let published = self.scratch.published("out", code);
        let lines = self.rows * self.protocols.len();
        assert_eq!(
            published.lines.len(),
            lines,
            "every row of every entry, once"
        );
        assert!(ran.took < self.deadline, "{:?} is too long", ran.took);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        keeps_keys(self.scratch.path(), &ran);
        for protocol in &self.protocols {
            for attempt in attempts(&published, protocol.name) {
                let class = class(attempt);
                let about = format!("{}: {attempt}", protocol.name);
                assert!(self.ends.contains(&class), "{about}");
                // Whatever the class: what was used is paid, or unknown where it is told in part.
                let used = attempt["usage"].is_object() && cost(attempt) != Cost::Nothing;
                assert!(used || costs(class).contains(&cost(attempt)), "{about}");
            }
        }
        (ran, published)
    }
}

/// What an attempt can cost that ended so.
fn costs(class: &str) -> &'static [Cost] {
    match class {
        "ambiguous" => &[Cost::Possibly],
        // Where the usage can be read, or the protocol has any.
        "ok" | "invalid" | "flagged" => &[Cost::Paid, Cost::Possibly],
        _ => &[Cost::Nothing],
    }
}

/// Every entry made this many attempts, and the error of each says this.
#[track_caller]
pub fn all_say(published: &Published, count: usize, said: &str) {
    let asked = |name| published.lines.iter().any(|line| line["entry"] == name);
    for protocol in PROTOCOLS.iter().filter(|protocol| asked(protocol.name)) {
        let made = attempts(published, protocol.name);
        assert_eq!(made.len(), count, "{}: {made:?}", protocol.name);
        for attempt in made {
            let error = attempt["error"].as_str().unwrap_or_default();
            assert!(error.contains(said), "`{said}` is missing: {attempt}");
        }
    }
}

/// The attempts of an entry, over all of its rows.
pub fn attempts<'a>(published: &'a Published, entry: &str) -> Vec<&'a Value> {
    let lines = published.lines.iter().filter(|line| line["entry"] == entry);
    lines
        .flat_map(|line| line["attempts"].as_array().into_iter().flatten())
        .collect()
}

/// Every line has its own row's words as its answer.
#[track_caller]
pub fn all_answered(published: &Published) {
    for line in &published.lines {
        assert_eq!(line["answer"], line["row"]["text"], "{line}");
    }
}

/// What an attempt came to; `ok` for an answer.
pub fn class(attempt: &Value) -> &str {
    attempt["class"].as_str().unwrap_or("ok")
}

/// What an attempt cost.
#[track_caller]
pub fn cost(attempt: &Value) -> Cost {
    let paid = attempt["cost_usd"].as_str().map(units);
    match (paid, attempt.get("possibly_billed_usd")) {
        (None, Some(_)) => Cost::Possibly,
        (Some(0), None) => Cost::Nothing,
        (Some(_), None) => Cost::Paid,
        _ => panic!("nobody knows what {attempt} cost"),
    }
}

/// No key is in anything that was written or printed, in whatever form keys are written.
#[track_caller]
pub fn keeps_keys(dir: &Path, ran: &Ran) {
    let mut written: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => written.push((path.clone(), fs::read(path).unwrap_or_default())),
            }
        }
    }
    written.push(("stdout".into(), ran.stdout.clone().into_bytes()));
    written.push(("stderr".into(), ran.stderr.clone().into_bytes()));
    for (path, bytes) in &written {
        for needle in &needles() {
            let found = bytes
                .windows(needle.len())
                .any(|part| part == needle.as_bytes());
            assert!(!found, "{needle}, of a key, is in {}", path.display());
        }
    }
}

/// What all keys have in common, however they are written: as they are, escaped for JSON or an address, in
/// hexadecimal, in Base64 behind something of any length.
fn needles() -> Vec<String> {
    let hexadecimal = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut needles = vec![CANARY.to_owned(), hexadecimal];
    for behind in 0..3 {
        let text = base64(format!("{}{CANARY}", &"xyz"[..behind]).as_bytes());
        // The letters at both ends also tell of what stands beside the key.
        needles.push(text[[0, 2, 3][behind]..text.len() - 2].to_owned());
    }
    needles
}

/// The forms in which a server may repeat a key.
pub fn forms(key: &str) -> Vec<String> {
    let json = Value::from(key).to_string();
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    vec![
        json.trim_matches('"').to_owned(),
        key.bytes().map(escaped).collect(),
        base64(key.as_bytes()),
    ]
}

/// Base64 without the padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for place in 0..=three.len() {
            let letter = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

#[test]
fn a_key_is_found_in_whatever_form_it_is_written() {
    let key = PROTOCOLS[0].key();
    let mut forms = forms(&key);
    forms.push(key.bytes().map(|byte| format!("{byte:02x}")).collect());
    for before in ["x", "me:", "Bearer "] {
        forms.push(base64(format!("{before}{key}").as_bytes()));
    }
    for form in forms {
        let found = needles()
            .iter()
            .any(|needle| form.contains(needle.as_str()));
        assert!(found, "{form}");
    }
}
