//! What is left of a run that is cut short anywhere, and what the next one makes of it.

// Helpers, shared with other test binaries.
#[path = "../common/published.rs"]
mod published;
#[path = "../common/scratch.rs"]
mod scratch;

// The server, the runner, the store and what must hold between them.
mod ledger;
mod results;
mod runs;
mod seed;
mod start;
mod stored;
mod strace;
mod trial;

// SIGKILL at random moments.
mod random;
// SIGKILL at every call that changes what is on the disk.
mod calls;
// What was said to be done before the kill.
mod acknowledged;
// A disk that is full, broken or slow.
mod disk;
// A store that was cut or changed.
mod damage;
// SIGSTOP, and SIGCONT some time later.
mod stopped;
