//! One request over one connection, as plain as can be: what a server says when nothing stands between.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// What a server replied.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    /// The body.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// What a GET is answered with; `None` where nobody answers.
pub fn get(port: u16, path: &str, key: &str) -> Option<Reply> {
    exchange(port, "GET", path, key, "")
}

/// What is answered to this body.
#[track_caller]
pub fn post(port: u16, path: &str, key: &str, body: &Value) -> Value {
    let reply = exchange(port, "POST", path, key, &body.to_string()).expect("the server answers");
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

fn exchange(port: u16, method: &str, path: &str, key: &str, body: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Some(Reply {
        status: head.split(' ').nth(1)?.parse().ok()?,
        body: if chunked {
            joined(body)
        } else {
            body.to_owned()
        },
    })
}

/// The chunks of a body in one piece.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
