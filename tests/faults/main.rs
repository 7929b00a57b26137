//! What happens when the network fails: every fault, over every protocol, through the `runner` command.
#![cfg(target_os = "linux")]

// Helpers, shared with other test binaries.
#[path = "../common/loopback.rs"]
#[allow(clippy::unwrap_used, reason = "a test's helper may panic")]
mod loopback;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/published.rs"]
mod published;
#[path = "../common/scratch.rs"]
mod scratch;
#[path = "../common/served.rs"]
mod served;
#[path = "../common/streamed.rs"]
mod streamed;

// What is required, every protocol in one job, and what holds after every run.
mod protocols;
mod table;
mod trial;

// Each way of harming an exchange at each moment of it.
mod moments;
// No connection, or one that breaks, stalls, drips.
mod connections;
// Who else sees a request: redirects, proxies.
mod elsewhere;
// Replies that are none, are too much, or are strange.
mod replies;
mod strange;
// Replies that come as streams of events.
mod streams;
// Who a server says that it is.
mod tls;
// Many requests on one connection.
mod http2;
// Names, routes, ports, and a network that is away.
mod namespaces;
// What users are told of all this.
mod page;
