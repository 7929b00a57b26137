//! The seed of everything that is random here.

use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that replays a failure.
const NAME: &str = "KILL_SEED";

/// The seed of this test: another one each time, or that of `KILL_SEED`. It is shown if the test fails.
pub fn get() -> u64 {
    let given = std::env::var(NAME).ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.subsec_nanos().into())
    });
    tell(&format!("{NAME}={seed}"));
    seed
}

/// Says something to who reads the test's output.
#[allow(clippy::print_stderr, reason = "for people who replay a failure")]
pub fn tell(text: &str) {
    eprintln!("{text}");
}
