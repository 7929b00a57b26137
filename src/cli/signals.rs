//! Ctrl-C and SIGTERM: the first drains, the second gives up what is in flight, the third leaves.

use std::time::Duration;

use tokio_prompt_orchestrator::{Interrupt, Stop};

use super::terminal;

/// How long requests in flight may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(30);

/// Turns the first signal and the second (or the end of the grace) into stops. Ends at the one after
/// that: who sends it does not want to wait for the results either.
pub async fn obey(stop: Stop) {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            terminal::err(&format!("warning: signals cannot be handled: {error}"));
            return std::future::pending().await;
        }
    };
    let interrupt = signals.next().await;
    stop.drain(interrupt);
    tokio::select! {
        _ = signals.next() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
    stop.abort();
    signals.next().await;
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Interrupted,
            _ = self.terminate.recv() => Interrupt::Terminated,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Interrupt {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Interrupt::Interrupted,
            Err(_) => std::future::pending().await,
        }
    }
}
