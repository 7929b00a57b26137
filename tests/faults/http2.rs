//! HTTP/2 connections that are told to end, lose a stream, or die without a word.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::loopback::Seen;
use crate::protocols::{PROTOCOLS, Protocol};
use crate::served::{Served, in_its_protocol};
use crate::tls::Authority;
use crate::trial::{Trial, all_answered, attempts, class};

/// What becomes of a request.
#[derive(Clone, Copy)]
enum Deed {
    Answer,
    /// It is answered, and is the last one of its connection.
    Last,
    /// The connection ends at once.
    Abort,
    /// Its stream is reset.
    Reset(Reason),
    /// From now on nothing is read from the connection or written to it.
    Dead,
}

/// A server that speaks HTTP/2 over TLS and nothing else.
struct Http2 {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// How many requests were not answered.
    harmed: Arc<AtomicUsize>,
}

/// What is counted of requests.
#[derive(Default)]
struct Counts {
    all: AtomicUsize,
    harmed: Arc<AtomicUsize>,
}

impl Http2 {
    /// `deed` is asked by the number of the request, and by its number on its connection, both counted from 0.
    fn new(authority: &Authority, deed: fn(usize, usize) -> Deed) -> Self {
        let mut config = authority.server();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("no waiting");
        let address = listener.local_addr().expect("its address");
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let counts = Arc::<Counts>::default();
        let harmed = Arc::clone(&counts.harmed);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counts));
                    tokio::spawn(async move {
                        // Who leaves in the middle has its reason.
                        let _ = serve(acceptor, stream, deed, &counts).await;
                    });
                }
            });
        });
        Self {
            address,
            connections,
            harmed,
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    deed: fn(usize, usize) -> Deed,
    counts: &Counts,
) -> Result<(), Failure> {
    let stream = acceptor.accept(stream).await?;
    let mut connection = Builder::new().handshake(stream).await?;
    let mut number = 0;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let deed = deed(counts.all.fetch_add(1, Ordering::SeqCst), number);
        number += 1;
        match deed {
            Deed::Answer => {}
            Deed::Last => connection.graceful_shutdown(),
            _ => {
                counts.harmed.fetch_add(1, Ordering::SeqCst);
            }
        }
        match deed {
            Deed::Answer | Deed::Last => {
                tokio::spawn(async move {
                    let _ = answer(request, respond).await;
                });
            }
            Deed::Abort => connection.abrupt_shutdown(Reason::INTERNAL_ERROR),
            Deed::Reset(reason) => respond.send_reset(reason),
            Deed::Dead => std::future::pending().await,
        }
    }
    Ok(())
}

async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Cursor<Vec<u8>>>,
) -> Result<(), Failure> {
    let line = format!("POST {}", request.uri().path());
    let mut stream = request.into_body();
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    let seen = Seen {
        line,
        headers: Vec::new(),
        body,
    };
    let reply = in_its_protocol(&seen).to_string();
    let mut sent = respond.send_response(http::Response::new(()), false)?;
    sent.send_data(Cursor::new(reply.into_bytes()), true)?;
    Ok(())
}

/// Whether a protocol may use HTTP/2: the local servers do not speak it.
fn may(protocol: &Protocol) -> bool {
    !["llama_cpp", "vllm"]
        .iter()
        .any(|local| protocol.name.starts_with(local))
}

/// Runs this many rows against a server that does so: how many attempts of which class were made over HTTP/2.
#[track_caller]
fn heals(rows: usize, deed: fn(usize, usize) -> Deed) -> (Http2, usize, usize) {
    let authority = Authority::new("known");
    let server = Http2::new(&authority, deed);
    let plain = Served::every_protocol();
    let trial = Trial::of("N16");
    trial.scratch.write("trusted.pem", &authority.pem);
    let trial = trial.env("SSL_CERT_FILE", "trusted.pem");
    let url = |protocol: &Protocol| match may(protocol) {
        true => format!("https://{}", server.address),
        false => plain.url().to_owned(),
    };
    let calm = "timeout: 60s, limits: { concurrency: 2 }";
    let trial = trial.asks_each(rows, url, calm, "retry: { attempts: 3, initial: 10ms }");
    let (_, published) = trial.ends(0);
    all_answered(&published);
    let over = PROTOCOLS.iter().filter(|protocol| may(protocol));
    let made: Vec<&str> = over
        .flat_map(|protocol| attempts(&published, protocol.name))
        .map(class)
        .collect();
    let failed = made.iter().filter(|class| **class != "ok").count();
    (server, made.len(), failed)
}

#[test]
fn n16_a_connection_that_is_told_to_end_is_followed_by_another() {
    let (server, made, failed) =
        heals(6, |_, nth| if nth == 4 { Deed::Last } else { Deed::Answer });
    assert_eq!(failed, made - 6 * 6, "each that failed was made once more");
    assert!(server.connections.load(Ordering::SeqCst) > 2);
}

#[test]
fn n16_a_connection_that_is_ended_at_once_fails_what_is_on_it() {
    let (server, _, failed) = heals(4, |number, _| match number {
        3 => Deed::Abort,
        _ => Deed::Answer,
    });
    assert!((1..=12).contains(&failed), "{failed}");
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
}

fn third(nth: usize, reason: Reason) -> Deed {
    match nth {
        2 => Deed::Reset(reason),
        _ => Deed::Answer,
    }
}

#[test]
fn n16_a_stream_that_is_reset_fails_no_other() {
    let internal: fn(usize, usize) -> Deed = |_, nth| third(nth, Reason::INTERNAL_ERROR);
    for reset in [internal, |_, nth| third(nth, Reason::REFUSED_STREAM)] {
        let (server, made, failed) = heals(4, reset);
        let harmed = server.harmed.load(Ordering::SeqCst);
        assert_eq!((failed, made), (harmed, 4 * 6 + harmed));
    }
}

/// Takes half a minute: 15 s until it is asked whether it lives, and 10 s for the answer.
#[test]
fn n16_a_connection_that_dies_without_a_word_is_given_up_and_replaced() {
    let (server, made, failed) = heals(4, |number, _| match number {
        3 => Deed::Dead,
        _ => Deed::Answer,
    });
    assert!(failed >= 1 && made == 4 * 6 + failed, "{failed} of {made}");
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
}
