//! A model server on the loopback that keeps books: what it was asked, how often, and what it billed.
//! It answers by the prompt alone, so that every run of a job gets the same answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The path that a test asks to learn that every connection before its own was taken up.
const PROBE: &str = "GET /probe";
/// Longer than any request takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of every so many prompts one fails at first, where the server is told to fail.
const ONE_IN: u64 = 7;
/// Units of 10⁻¹⁵ dollars a token: one dollar a million for input, two for output.
const INPUT_PRICE: i128 = 1_000_000_000;
const OUTPUT_PRICE: i128 = 2_000_000_000;

/// How a server behaves.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// The longest that it thinks about an answer; the prompt decides how long it does.
    pub thinks: Duration,
    /// Whether one prompt in seven gets a 500 the first time it is asked.
    pub fails: bool,
}

/// What is known of one prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Requests that were read to their end.
    pub received: u32,
    /// Answers that were handed to the connection, whether or not anyone was there to read them.
    pub billed: u32,
}

/// A server on a free port of 127.0.0.1 until it is dropped.
pub struct Ledger {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manners: Manners,
    book: Mutex<Book>,
    /// Told when a request comes and when a connection ends.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Book {
    lines: BTreeMap<String, Line>,
    connections: usize,
    in_flight: usize,
    most_in_flight: usize,
    arrivals: Vec<Instant>,
    closed: bool,
}

impl Ledger {
    pub fn new(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port has a number");
        let shared = Arc::new(Shared {
            manners,
            book: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.book().closed {
                    return;
                }
                serving.book().connections += 1;
                let serving = Arc::clone(&serving);
                thread::spawn(move || {
                    // That the runner goes away in the middle is what these tests are about.
                    let _ = serving.converse(&stream);
                    serving.book().connections -= 1;
                    serving.changed.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    /// An entry of `backends` that asks this server.
    pub fn backend(&self, name: &str, more: &str) -> String {
        format!(
            "{name}: {{ type: openai, url: \"http://{}/v1\", model: m, max_tokens: 16, \
             timeout: 20s, price: {{ input: 1, output: 2 }} {more} }}",
            self.address
        )
    }

    /// Whether it fails now and then.
    pub fn fails(&self) -> bool {
        self.shared.manners.fails
    }

    /// Forgets everything: another job begins.
    pub fn forget(&self) {
        let mut book = self.shared.book();
        book.lines.clear();
        book.most_in_flight = 0;
        book.arrivals.clear();
    }

    /// Waits until everything that the runner had sent when it died is in the books.
    #[track_caller]
    pub fn settle(&self) {
        // Connections are taken up in their order, so that of the dead runner's none is after this one.
        let mut probe = TcpStream::connect(self.address).expect("the server listens");
        let asked = write!(probe, "{PROBE} HTTP/1.1\r\n\r\n");
        asked
            .and_then(|()| probe.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| probe.read_to_end(&mut Vec::new()))
            .expect("the server answers a probe");
        self.wait("the connections of a dead runner to end", |book| {
            book.connections == 0
        });
    }

    /// Waits until so many different prompts were asked; `false` if that takes too long.
    pub fn asked(&self, prompts: usize, patience: Duration) -> bool {
        let began = Instant::now();
        let mut book = self.shared.book();
        while book.lines.len() < prompts {
            let Some(left) = patience.checked_sub(began.elapsed()) else {
                return false;
            };
            let waited = self.shared.changed.wait_timeout(book, left);
            book = waited.expect("no test panics with the books").0;
        }
        true
    }

    /// Everything that was asked so far.
    pub fn lines(&self) -> BTreeMap<String, Line> {
        self.shared.book().lines.clone()
    }

    /// How many requests came.
    pub fn received(&self) -> u32 {
        self.shared
            .book()
            .lines
            .values()
            .map(|line| line.received)
            .sum()
    }

    /// What all answers cost, in units of 10⁻¹⁵ dollars.
    pub fn billed(&self) -> i128 {
        let book = self.shared.book();
        let bill = |(prompt, line): (&String, &Line)| i128::from(line.billed) * price(prompt);
        book.lines.iter().map(bill).sum()
    }

    /// The most requests that were with the server at once.
    pub fn most_in_flight(&self) -> usize {
        self.shared.book().most_in_flight
    }

    /// When each request came.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.shared.book().arrivals.clone()
    }

    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&Book) -> bool) {
        let began = Instant::now();
        let mut book = self.shared.book();
        while !holds(&book) {
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
            let waited = self.shared.changed.wait_timeout(book, PATIENCE);
            book = waited.expect("no test panics with the books").0;
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.book().closed = true;
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no test panics with the books")
    }

    /// Answers the requests of one connection until the other side leaves.
    fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut reader, mut writer) = (BufReader::new(stream), stream);
        while let Some((line, body)) = receive(&mut reader)? {
            if line.starts_with(PROBE) {
                return Ok(());
            }
            let prompt = prompt(&body)?;
            let first = self.enter(&prompt);
            thread::sleep(
                self.manners
                    .thinks
                    .mul_f64(hash(&prompt, 1) as f64 / u64::MAX as f64),
            );
            let fails = self.manners.fails && first && hash(&prompt, 2).is_multiple_of(ONE_IN);
            self.leave(&prompt, !fails);
            writer.write_all(&reply(&prompt, fails))?;
        }
        Ok(())
    }

    /// Notes a request; whether it is the first of its prompt.
    fn enter(&self, prompt: &str) -> bool {
        let mut book = self.book();
        book.in_flight += 1;
        book.most_in_flight = book.most_in_flight.max(book.in_flight);
        book.arrivals.push(Instant::now());
        let line = book.lines.entry(prompt.to_owned()).or_default();
        line.received += 1;
        let first = line.received == 1;
        self.changed.notify_all();
        first
    }

    /// Notes that it is about to be answered: from here on the provider would bill it.
    fn leave(&self, prompt: &str, billed: bool) {
        let mut book = self.book();
        book.in_flight -= 1;
        let line = book.lines.entry(prompt.to_owned()).or_default();
        line.billed += u32::from(billed);
    }
}

/// The answer to a prompt: always the same.
pub fn answer(prompt: &str) -> String {
    let words = hash(prompt, 3) % 40;
    let words = (0..words).map(|word| format!(" {:x}", hash(prompt, 4 + word) % 4096));
    format!("answer to {prompt}:{}", words.collect::<String>())
}

/// What an answer costs, in units of 10⁻¹⁵ dollars.
pub fn price(prompt: &str) -> i128 {
    let (input, output) = usage(prompt);
    i128::from(input) * INPUT_PRICE + i128::from(output) * OUTPUT_PRICE
}

/// Input and output tokens.
fn usage(prompt: &str) -> (u64, u64) {
    (prompt.len() as u64 / 4 + 1, hash(prompt, 5) % 16 + 1)
}

/// FNV-1a, mixed: the same on every machine.
fn hash(prompt: &str, salt: u64) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = prompt
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325 ^ salt, step);
    let hash = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

fn reply(prompt: &str, fails: bool) -> Vec<u8> {
    let (status, body) = match fails {
        true => (
            "500 Internal Server Error",
            json!({ "error": { "message": "as scripted", "type": "server_error" } }),
        ),
        false => {
            let (input, output) = usage(prompt);
            let message = json!({ "role": "assistant", "content": answer(prompt) });
            let usage = json!({ "prompt_tokens": input, "completion_tokens": output,
                "total_tokens": input + output });
            let body = json!({ "id": "chatcmpl-1", "object": "chat.completion", "model": "m-2026",
                "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
                "usage": usage });
            ("200 OK", body)
        }
    };
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The request line and the body; `None` where the connection ends between requests.
fn receive(reader: &mut impl BufRead) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((first, body)))
}

/// The last message of a request.
fn prompt(body: &[u8]) -> std::io::Result<String> {
    let body: Value = serde_json::from_slice(body)?;
    let messages = body["messages"].as_array().and_then(|all| all.last());
    let content = messages.and_then(|message| message["content"].as_str());
    content
        .map(str::to_owned)
        .ok_or_else(|| ErrorKind::InvalidData.into())
}
