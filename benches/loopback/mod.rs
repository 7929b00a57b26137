//! A model server on the loopback that answers in OpenAI's shape, and a runner that asks it.

#![allow(dead_code, reason = "no benchmark uses all of it")]

pub mod process;

use std::future::Future;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An answer of 10 input and 10 output tokens.
pub const ANSWER: &str = r#"{"id":"x","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;

/// The one header of a request that is read.
const NAME: &[u8] = b"content-length:";

/// What a request is answered with.
pub struct Reply {
    pub status: &'static str,
    /// Further headers, each with its line end.
    pub headers: String,
    pub body: &'static str,
}

impl Reply {
    /// A good answer.
    pub fn answer() -> Self {
        Self {
            status: "200 OK",
            headers: String::new(),
            body: ANSWER,
        }
    }
}

/// Answers every request so. Returns where, and the task, which ends when it is aborted.
pub async fn serve<F>(
    reply: impl Fn() -> F + Send + Sync + 'static,
) -> Result<(String, JoinHandle<()>)>
where
    F: Future<Output = Reply> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let reply = Arc::new(reply);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let reply = Arc::clone(&reply);
            // A connection that breaks off is the client's matter.
            tokio::spawn(async move { converse(stream, &*reply).await });
        }
    });
    Ok((url, task))
}

/// Answers the requests of one connection, with as little work of its own as may be.
async fn converse<F: Future<Output = Reply>>(
    mut stream: TcpStream,
    reply: &(impl Fn() -> F + Send + Sync),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let end = loop {
            match request_end(&buffer) {
                Some(end) if end <= buffer.len() => break end,
                _ if stream.read_buf(&mut buffer).await? == 0 => return Ok(()),
                _ => {}
            }
        };
        buffer.drain(..end);
        let Reply {
            status,
            headers,
            body,
        } = reply().await;
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// Where the first request ends, as soon as its head is there.
fn request_end(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let lines = buffer[..head].split(|byte| *byte == b'\n');
    let mut length = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        let value = std::str::from_utf8(value).ok()?.trim();
        name.eq_ignore_ascii_case(NAME)
            .then(|| value.parse::<usize>().ok())?
    });
    Some(head + length.next_back().unwrap_or(0))
}

/// Lets this process open as many files as it may.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where that is refused, the cases for which it matters tell.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

/// Writes a job of so many rows; `keys` are all but its inputs and its prompt.
pub fn write_job(folder: &Path, rows: u64, keys: &str) -> Result<()> {
    let texts: String = (0..rows)
        .map(|row| format!("a text of forty bytes and of number {row}\n"))
        .collect();
    std::fs::write(folder.join("rows.csv"), format!("text\n{texts}"))?;
    let job = format!("inputs: rows.csv\nprompt: '{{{{ text }}}}'\n{keys}\n");
    Ok(std::fs::write(folder.join("job.yaml"), job)?)
}

/// The program, about to run that job.
pub fn runner(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command
        .args(["job.yaml", "--out", "out"])
        .current_dir(folder)
        .env("OPENAI_API_KEY", "unused")
        .stdout(Stdio::null());
    command
}
