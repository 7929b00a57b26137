//! Ctrl-C and SIGTERM: the first drains, the second gives up what is in flight and leaves. A terminal that is gone ends nothing.

use std::time::Duration;

use tokio_prompt_orchestrator::{Interrupt, Stop};

use super::terminal;

/// How long requests in flight may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(30);

/// How long what was answered may take to be stored and published after the second signal.
const LEAVE: Duration = Duration::from_millis(700);

/// Turns the first signal and the second (or the end of the grace) into stops. Ends soon after the second
/// one, at once at a third: who sends them does not want to wait for the results either.
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
    let second = tokio::select! {
        _ = signals.next() => true,
        () = tokio::time::sleep(GRACE) => false,
    };
    stop.abort();
    tokio::select! {
        _ = signals.next() => {}
        () = tokio::time::sleep(LEAVE), if second => {}
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Listened to and not obeyed: the run goes on when its terminal is gone.
    _hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _hangup: signal(SignalKind::hangup())?,
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
