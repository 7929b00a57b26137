//! A network that fails: it stands before a server, passes requests on, and harms the first exchange of
//! each connection in one way at one moment.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// No test keeps a proxy longer than this.
const LIFETIME: Duration = Duration::from_secs(120);
/// So long what was sent has time to arrive before the connection is reset.
const ARRIVAL: Duration = Duration::from_millis(60);

/// The moment at which an exchange is harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The connection is there, and nothing was read.
    Accepted,
    /// The head of the request was read.
    RequestHead,
    /// And half of its body.
    RequestHalf,
    /// And all of it, but the server has not seen it.
    Request,
    /// The server has answered, and nothing of that was passed on.
    Answered,
    /// Half of the reply's head was.
    ReplyHeadHalf,
    /// All of the head.
    ReplyHead,
    /// And half of the body.
    ReplyHalf,
    /// And all but the last byte.
    LastByte,
    /// And all of it.
    Replied,
}

impl When {
    pub const ALL: [When; 10] = [
        When::Accepted,
        When::RequestHead,
        When::RequestHalf,
        When::Request,
        When::Answered,
        When::ReplyHeadHalf,
        When::ReplyHead,
        When::ReplyHalf,
        When::LastByte,
        When::Replied,
    ];

    /// Whether the server has had the request by then.
    pub fn is_of_the_reply(self) -> bool {
        When::ALL.iter().position(|when| *when == self) >= Some(4)
    }
}

/// How an exchange is harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The connection is closed in order (FIN).
    Cut,
    /// It is reset (RST).
    Reset,
    /// Nothing more comes, and it stays open.
    Stall,
    /// From now on a byte is read, or sent, only after so long.
    Drip(Duration),
    /// Noise comes: instead of a reply, or of as much as is left of it.
    Garbage,
    /// Something comes that has no end.
    Giant,
    /// What was passed on so far is passed on once more: the request to the server, or the start of the
    /// reply (all of it, if there was nothing yet).
    Twice,
}

/// What happens to the first exchange of a connection.
pub type Fault = Option<(When, Harm)>;

/// A proxy on a free port of 127.0.0.1 until it is dropped. It reads a reply to its end before it passes on the first byte.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    stop: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Proxy {
    /// Before this server; the fault is that of the connection of this number, counted from 0.
    pub fn before(
        upstream: SocketAddr,
        fault: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self::at("127.0.0.1:0", upstream, fault)
    }

    /// The same, at this address.
    pub fn at(
        address: &str,
        upstream: SocketAddr,
        fault: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("no waiting");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            upstream,
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let mine = Arc::clone(&shared);
        thread::spawn(move || {
            let born = Instant::now();
            while !mine.stop.load(Ordering::SeqCst) && born.elapsed() < LIFETIME {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let number = mine.connections.fetch_add(1, Ordering::SeqCst);
                let (mine, fault) = (Arc::clone(&mine), fault(number));
                // Whoever leaves early has its reason.
                thread::spawn(move || mine.serve(stream, fault));
            }
        });
        Self { url, shared }
    }

    /// `http://` and its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests came, as far as their head.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, fault: Fault) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let mut client = BufReader::new(stream);
        if !self.exchange(&mut client, fault)? {
            return Ok(());
        }
        while self.exchange(&mut client, None)? {}
        Ok(())
    }

    /// One request and its reply; whether the connection may have another.
    fn exchange(&self, client: &mut BufReader<TcpStream>, fault: Fault) -> io::Result<bool> {
        let struck = |when| fault.filter(|(at, _)| *at == when).map(|(_, harm)| harm);
        let mut slow = Duration::ZERO;
        if self.ends(client, struck(When::Accepted), &mut slow)? {
            return Ok(false);
        }
        let mut request = self.head(client, slow)?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.ends(client, struck(When::RequestHead), &mut slow)? {
            return Ok(false);
        }
        let length = length(&request).unwrap_or(0);
        self.take(client, length / 2, slow, &mut request)?;
        if self.ends(client, struck(When::RequestHalf), &mut slow)? {
            return Ok(false);
        }
        self.take(client, length - length / 2, slow, &mut request)?;
        if self.ends(client, struck(When::Request), &mut slow)? {
            return Ok(false);
        }
        let (early, late) = match fault {
            Some((when, _)) if when.is_of_the_reply() => (None, fault),
            _ => (fault, None),
        };
        if let Some((_, Harm::Twice)) = early {
            self.ask(&request)?;
        }
        let reply = self.ask(&request)?;
        self.reply(client.get_mut(), &reply, late)
    }

    /// Harms the exchange before there is a reply; whether that was its end.
    fn ends(
        &self,
        client: &mut BufReader<TcpStream>,
        harm: Option<Harm>,
        slow: &mut Duration,
    ) -> io::Result<bool> {
        let stream = client.get_mut();
        match harm {
            None | Some(Harm::Twice) => return Ok(false),
            Some(Harm::Drip(each)) => {
                *slow = each;
                return Ok(false);
            }
            Some(Harm::Cut) => self.close(stream)?,
            Some(Harm::Reset) => reset(stream)?,
            Some(Harm::Stall) => self.hold(stream)?,
            Some(Harm::Garbage) => {
                stream.write_all(&noise(512))?;
                self.close(stream)?;
            }
            Some(Harm::Giant) => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
                stream.write_all(head)?;
                self.flood(stream, &[b' '; 1 << 16])?;
            }
        }
        Ok(true)
    }

    /// Passes a reply on; whether the connection may have another.
    fn reply(&self, stream: &mut TcpStream, reply: &[u8], fault: Fault) -> io::Result<bool> {
        let head = reply.windows(4).position(|four| four == b"\r\n\r\n");
        let head = head.map_or(reply.len(), |end| end + 4);
        let at = match fault.map(|(when, _)| when) {
            Some(When::ReplyHeadHalf) => head / 2,
            Some(When::ReplyHead) => head,
            Some(When::ReplyHalf) => head + (reply.len() - head) / 2,
            Some(When::LastByte) => reply.len().saturating_sub(1),
            Some(When::Replied) => reply.len(),
            _ => 0,
        };
        let (before, after) = reply.split_at(at);
        match fault.map(|(_, harm)| harm) {
            None => {
                stream.write_all(reply)?;
                return self.keeps(stream, &reply[..head]);
            }
            Some(Harm::Cut) => {
                stream.write_all(before)?;
                self.close(stream)?;
            }
            Some(Harm::Reset) => {
                stream.write_all(before)?;
                thread::sleep(ARRIVAL);
                reset(stream)?;
            }
            Some(Harm::Stall) => {
                stream.write_all(before)?;
                self.hold(stream)?;
            }
            Some(Harm::Drip(each)) => {
                stream.write_all(before)?;
                for byte in after {
                    self.rest(each)?;
                    stream.write_all(&[*byte])?;
                }
                self.close(stream)?;
            }
            Some(Harm::Garbage) => {
                stream.write_all(before)?;
                stream.write_all(&noise(if after.is_empty() { 512 } else { after.len() }))?;
                self.close(stream)?;
            }
            Some(Harm::Giant) if before.is_empty() || before.len() >= head => {
                stream.write_all(&endless(&reply[..head]))?;
                stream.write_all(before.get(head..).unwrap_or_default())?;
                self.flood(stream, &[b' '; 1 << 16])?;
            }
            Some(Harm::Giant) => {
                stream.write_all(before)?;
                self.flood(
                    stream,
                    "\r\nx-filler: and so on and on".repeat(2000).as_bytes(),
                )?;
            }
            Some(Harm::Twice) => {
                let start = if before.is_empty() { reply } else { before };
                // At once: what comes later may meet the next request, and is its reply then.
                stream.write_all(&[start, reply].concat())?;
                return self.keeps(stream, &reply[..head]);
            }
        }
        Ok(false)
    }

    /// Whether the connection stays open after this reply; else it is closed.
    fn keeps(&self, stream: &mut TcpStream, head: &[u8]) -> io::Result<bool> {
        let text = String::from_utf8_lossy(head).to_lowercase();
        let framed = length(head).is_some() || text.contains("transfer-encoding: chunked");
        let keeps = framed && !text.contains("connection: close");
        if !keeps {
            self.close(stream)?;
        }
        Ok(keeps)
    }

    /// The reply of the server, to its end or to where the server left.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.upstream)?;
        server.set_read_timeout(Some(LIFETIME))?;
        server.write_all(request)?;
        let (mut reply, mut buffer) = (Vec::new(), [0; 1 << 16]);
        while !is_whole(&reply) {
            match server.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => reply.extend(&buffer[..count]),
            }
        }
        Ok(reply)
    }

    /// The head of a request.
    fn head(&self, client: &mut BufReader<TcpStream>, slow: Duration) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match slow {
                Duration::ZERO if client.read_until(b'\n', &mut head)? == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Duration::ZERO => {}
                _ => self.take(client, 1, slow, &mut head)?,
            }
        }
        Ok(head)
    }

    /// So many bytes more of a request.
    fn take(
        &self,
        client: &mut BufReader<TcpStream>,
        count: usize,
        slow: Duration,
        into: &mut Vec<u8>,
    ) -> io::Result<()> {
        let start = into.len();
        into.resize(start + count, 0);
        if slow.is_zero() {
            return client.read_exact(&mut into[start..]);
        }
        for byte in start..start + count {
            self.rest(slow)?;
            client.read_exact(&mut into[byte..=byte])?;
        }
        Ok(())
    }

    /// Waits, unless the test is over.
    fn rest(&self, long: Duration) -> io::Result<()> {
        thread::sleep(long);
        match self.stop.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Closes in order, whatever of the request was not read: with it unread the system would reset.
    fn close(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.shutdown(Shutdown::Write)?;
        self.hold(stream)
    }

    /// Keeps a connection, and drops what comes over it, until the other side leaves.
    fn hold(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut buffer = [0; 1 << 16];
        while !self.stop.load(Ordering::SeqCst) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flood(&self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            stream.write_all(bytes)?;
        }
        Ok(())
    }
}

/// Closes so that the other side is told of a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    // The socket is closed when its only handle is dropped, right after this.
    Ok(())
}

/// Bytes that are nothing, the same ones every time.
fn noise(count: usize) -> Vec<u8> {
    let mut lot = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| lot.u8(..)).take(count).collect()
}

/// The head without what says where the body ends.
fn endless(head: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let says = |line: &&str| {
        let line = line.to_lowercase();
        line.starts_with("content-length:") || line.starts_with("transfer-encoding:")
    };
    let kept: Vec<&str> = text.split("\r\n").filter(|line| !says(line)).collect();
    kept.join("\r\n").into_bytes()
}

/// What a head says of the length of the body.
fn length(message: &[u8]) -> Option<usize> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&message[..end]).to_lowercase();
    let line = head
        .lines()
        .find(|line| line.starts_with("content-length:"))?;
    line.split_once(':')?.1.trim().parse().ok()
}

/// Whether a reply has all that it says that it has; one that does not say ends with its connection.
fn is_whole(reply: &[u8]) -> bool {
    let Some(end) = reply.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    match length(reply) {
        Some(length) => reply.len() >= end + 4 + length,
        None => {
            let head = String::from_utf8_lossy(&reply[..end]).to_lowercase();
            head.contains("transfer-encoding: chunked") && reply.ends_with(b"\r\n0\r\n\r\n")
        }
    }
}
