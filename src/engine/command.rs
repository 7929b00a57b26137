//! A program that says what answers are worth: it reads lines of JSON and writes a line for each, in their order.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::marks::Said;
use crate::words::{Answer, Attempt, AttemptKind, Digest, Due, Outcome, Row, Status};

/// The longest line that a program may write, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// A program and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Program {
    words: Vec<String>,
    limit: Duration,
}

/// A program that runs.
pub(super) struct Running {
    program: Program,
    name: Arc<str>,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// This program, which may take so long for an answer.
    pub(super) fn new(words: &[String], limit: Duration) -> Self {
        Self {
            words: words.to_vec(),
            limit,
        }
    }

    /// What tells whether it was asked the same.
    pub(super) fn fingerprint(&self, row: &Row, answer: &str) -> Digest {
        let words = self.words.iter().map(String::as_bytes);
        let content = row.content();
        let about = [b"command".as_slice(), content.as_ref(), answer.as_bytes()];
        Digest::of(about.into_iter().chain(words))
    }

    /// Starts it, under the name of its scorer.
    pub(super) fn start(&self, name: &str) -> Result<Running, String> {
        // One text is a line for the shell, as in a Makefile.
        let mut command = match self.words.as_slice() {
            [line] if line.contains(char::is_whitespace) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", line]);
                shell
            }
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            [] => return Err("no program is named".to_owned()),
        };
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Else Python keeps what it has to say until there is more of it, and waits for ever.
            .env("PYTHONUNBUFFERED", "1")
            .kill_on_drop(true);
        let failed = |error: std::io::Error| {
            format!("`{}` cannot be started: {error}", self.words.join(" "))
        };
        let mut child = command.spawn().map_err(failed)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err("its input or output is closed".to_owned());
        };
        Ok(Running {
            program: self.clone(),
            name: Arc::from(name),
            child,
            input,
            output: BufReader::new(output),
        })
    }
}

impl Running {
    /// What it says of an answer, as the end of the item. An error is one of the program, which is of no more use then.
    pub(super) async fn ask(&mut self, due: Due) -> Result<Outcome, String> {
        let answer = due.about.as_deref().unwrap_or_default();
        let row = &due.item.row;
        let cells = row
            .columns
            .names()
            .iter()
            .cloned()
            .zip(row.cells.iter().map(|cell| json!(cell)));
        let line = json!({
            "id": row.id,
            "repeat": due.item.repeat + 1,
            "row": cells.collect::<Map<String, Value>>(),
            "answer": answer,
        });
        let began = Instant::now();
        let said = timeout(self.program.limit, self.exchange(&format!("{line}\n"))).await;
        let said = said.map_err(|_| {
            format!(
                "it said nothing of row {} for {:?} (the program has to flush each line; raise `timeout` if it \
                 needs longer)",
                row.id, self.program.limit
            )
        })??;
        let fingerprint = self.program.fingerprint(row, answer);
        // Nothing is stored of a program that is not right yet.
        Said::read(&said)
            .map_err(|error| format!("its line for row {} is no score: {error}", row.id))?;
        let number = due.last_number + 1;
        let mut attempt = Attempt::new(
            number,
            Arc::clone(&self.name),
            AttemptKind::Command,
            fingerprint,
        );
        attempt.latency = began.elapsed();
        let mut attempts = due.attempts;
        attempts.push(attempt);
        Ok(Outcome {
            item: due.item,
            status: Status::Answered,
            answer: Some(Answer {
                text: said,
                finish_reason: None,
            }),
            error: None,
            attempts,
            answered_by: None,
        })
    }

    async fn exchange(&mut self, line: &str) -> Result<String, String> {
        let lost = |error: std::io::Error| format!("it takes no more lines: {error}");
        self.input.write_all(line.as_bytes()).await.map_err(lost)?;
        self.input.flush().await.map_err(lost)?;
        let mut said = Vec::new();
        let read = (&mut self.output)
            .take(MAX_LINE)
            .read_until(b'\n', &mut said)
            .await;
        read.map_err(|error| format!("its output cannot be read: {error}"))?;
        if said.is_empty() {
            let how = match timeout(Duration::from_secs(1), self.child.wait()).await {
                Ok(Ok(status)) => format!(" ({status})"),
                _ => String::new(),
            };
            return Err(format!(
                "it ended{how} before it had said anything of the last line"
            ));
        }
        let said = String::from_utf8_lossy(&said);
        Ok(said.trim_end_matches(['\n', '\r']).to_owned())
    }
}
