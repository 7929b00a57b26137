//! A loopback server that is as rude as a test wants it, and remembers what it was sent.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No test keeps a server longer than this.
const LIFETIME: Duration = Duration::from_secs(60);

/// What the server does with a request once it has read it.
#[derive(Clone)]
pub enum Act {
    /// Writes these bytes and closes.
    Write(Vec<u8>),
    /// Writes these bytes and then nothing more, the connection open.
    Hang(Vec<u8>),
    /// Writes these bytes, then the second ones for ever.
    Flood(Vec<u8>, Vec<u8>),
    /// Writes these bytes, then the second ones again and again, with a pause before each.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// Writes these one after the other, with a pause before each, and closes.
    Slowly(Vec<Vec<u8>>, Duration),
}

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `POST /v1/messages`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server on a free port of 127.0.0.1 until it is dropped.
pub struct Loopback {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Loopback {
    /// Does the same with every request.
    pub fn always(act: Act) -> Self {
        Self::new(move |_| act.clone())
    }

    /// Answers every request with this status and JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::always(reply(status, &[], body.to_string().as_bytes(), 0))
    }

    /// Decides anew for each request.
    pub fn new(act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let act = Arc::new(act);
        let (record, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let connections = Arc::new(AtomicUsize::new(0));
        let connected = Arc::clone(&connections);
        thread::spawn(move || {
            let born = Instant::now();
            while !stopped.load(Ordering::SeqCst) && born.elapsed() < LIFETIME {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                connected.fetch_add(1, Ordering::SeqCst);
                let (act, record) = (Arc::clone(&act), Arc::clone(&record));
                let stopped = Arc::clone(&stopped);
                thread::spawn(move || {
                    // A client that leaves early is part of many tests.
                    let _ = serve(stream, act.as_ref(), &record, &stopped);
                });
            }
        });
        Self {
            url,
            seen,
            connections,
            stop,
        }
    }

    /// How many connections were made, whatever came over them.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request there was.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// A reply with a length, of which so many bytes are withheld.
pub fn reply(status: u16, headers: &[(&str, &str)], body: &[u8], missing: usize) -> Act {
    let mut bytes = head(status, headers);
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    bytes.extend(&body[..body.len() - missing]);
    Act::Write(bytes)
}

/// The status line and headers, without the blank line.
pub fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}

fn serve(
    mut stream: TcpStream,
    act: &dyn Fn(&Seen) -> Act,
    record: &Mutex<Vec<Seen>>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let seen = receive(&mut stream)?;
    record.lock().unwrap().push(seen.clone());
    match act(&seen) {
        Act::Write(bytes) => {
            stream.write_all(&bytes)?;
            stream.shutdown(Shutdown::Write)?;
        }
        Act::Hang(bytes) => {
            stream.write_all(&bytes)?;
            let born = Instant::now();
            while !stopped.load(Ordering::SeqCst) && born.elapsed() < LIFETIME {
                thread::sleep(Duration::from_millis(10));
            }
        }
        Act::Drip(head, body, pause) => {
            stream.write_all(&head)?;
            let born = Instant::now();
            while !stopped.load(Ordering::SeqCst) && born.elapsed() < LIFETIME {
                thread::sleep(pause);
                stream.write_all(&body)?;
            }
        }
        Act::Slowly(parts, pause) => {
            stream.set_nodelay(true)?;
            for part in parts {
                thread::sleep(pause);
                stream.write_all(&part)?;
            }
            stream.shutdown(Shutdown::Write)?;
        }
        Act::Flood(head, body) => {
            stream.write_all(&head)?;
            while !stopped.load(Ordering::SeqCst) {
                stream.write_all(&body)?;
            }
        }
    }
    Ok(())
}

/// Reads a request.
pub fn receive(stream: &mut TcpStream) -> std::io::Result<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend(&buffer[..count]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines
        .next()
        .unwrap_or_default()
        .trim_end_matches(" HTTP/1.1");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen {
        line: line.to_owned(),
        headers,
        body: bytes[end + 4..].to_vec(),
    };
    let length = seen
        .header("content-length")
        .map_or(0, |n| n.parse().unwrap());
    while seen.body.len() < length {
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => seen.body.extend(&buffer[..count]),
        }
    }
    Ok(seen)
}
