//! Whole jobs through `runner` against servers that nobody here wrote. `tests/real/install` installs them; the tests of one
//! that is missing are left out, loudly.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

// Helpers, shared with other test binaries.
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/published.rs"]
mod published;
#[path = "../common/scratch.rs"]
mod scratch;

// A server that is installed and started, and a question that is put to it without the runner.
mod direct;
mod server;

/// llama.cpp's own server, with a tiny model of random weights.
mod llama_cpp;

/// A mock of OpenAI and Anthropic, which keeps a journal and fails on request.
mod aimock;
/// A proxy that translates and counts.
mod litellm;
/// A gateway that wants headers of its own.
mod portkey;

/// The table of docs/servers.md.
mod table;
