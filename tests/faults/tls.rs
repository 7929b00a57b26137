use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::protocols::PROTOCOLS;
use crate::served::Served;
use crate::table::row;
use crate::trial::{ONCE, Trial, all_answered, all_say};

/// Who signs certificates, and the file that says so.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for this host, and its key.
    fn certificate(&self, host: &str, valid: bool) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(host, valid).signed_by(&key, &self.issuer);
        certified(certificate.expect("a certificate").der().clone(), &key)
    }

    /// A server's set-up with a sound certificate for this machine.
    pub fn server(&self) -> ServerConfig {
        config(Arc::new(Always(self.certificate("127.0.0.1", true))))
    }
}

type Certified = Arc<CertifiedKey>;

fn params(host: &str, valid: bool) -> CertificateParams {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
    if !valid {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    }
    params
}

fn certified(certificate: CertificateDer<'static>, key: &KeyPair) -> Certified {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).expect("a key that signs");
    Arc::new(CertifiedKey::new(vec![certificate], key))
}

/// Shows the same certificate to everybody.
#[derive(Debug)]
struct Always(Certified);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Certified> {
        Some(Arc::clone(&self.0))
    }
}

fn config(shows: Arc<dyn ResolvesServerCert>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.expect("versions of TLS").with_no_client_auth();
    builder.with_cert_resolver(shows)
}

/// An address that answers each connection so.
fn listens(answer: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // Whoever does not trust it leaves.
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Speaks TLS, and passes what it reads on to this server.
fn speaks(shows: Arc<dyn ResolvesServerCert>, upstream: SocketAddr) -> SocketAddr {
    let config = Arc::new(config(shows));
    listens(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut client = StreamOwned::new(connection, stream);
        let (mut request, mut buffer) = (Vec::new(), [0; 1 << 14]);
        while !request.ends_with(b"}") {
            match client.read(&mut buffer)? {
                0 => return Ok(()),
                count => request.extend(&buffer[..count]),
            }
        }
        let mut server = TcpStream::connect(upstream)?;
        server.write_all(&request)?;
        let mut reply = Vec::new();
        server.read_to_end(&mut reply)?;
        client.write_all(&reply)?;
        client.conn.send_close_notify();
        client.flush()
    })
}

/// A run against `https://` and this host at this address, with this authority as the only one that is trusted.
#[track_caller]
fn refused(host: &str, address: SocketAddr, trusted: &Authority, says: &str) {
    let trial = Trial::of("N19");
    trial.scratch.write("trusted.pem", &trusted.pem);
    let trial = trial.env("SSL_CERT_FILE", "trusted.pem");
    let url = format!("https://{host}:{}", address.port());
    let trial = trial.asks(
        1,
        &url,
        "timeout: 3s",
        "retry: { attempts: 3, initial: 1ms }",
    );
    let (_, published) = trial.ends(5);
    all_say(&published, 1, says);
}

#[test]
fn n19_a_sound_certificate_is_trusted() {
    let server = Served::every_protocol();
    let authority = Authority::new("known");
    for host in ["127.0.0.1", "localhost"] {
        let mut by_name = ResolvesServerCertUsingSni::new();
        let certificate = authority.certificate("localhost", true);
        by_name
            .add("localhost", (*certificate).clone())
            .expect("a name");
        // Of an address there is no name to show a certificate for.
        let shows: Arc<dyn ResolvesServerCert> = match host {
            "localhost" => Arc::new(by_name),
            _ => Arc::new(Always(authority.certificate(host, true))),
        };
        let address = speaks(shows, server.addr());
        let trial = Trial::new(&["ok"], row("N19").deadline());
        trial.scratch.write("trusted.pem", &authority.pem);
        let trial = trial.env("SSL_CERT_FILE", "trusted.pem");
        let url = format!("https://{host}:{}", address.port());
        let trial = trial.asks(2, &url, "timeout: 5s", ONCE);
        let (_, published) = trial.ends(0);
        all_answered(&published);
    }
    assert_eq!(server.requests(), 4 * PROTOCOLS.len());
}

#[test]
fn n19_a_certificate_that_is_wrong_is_not_trusted() {
    let server = Served::every_protocol();
    let authority = Authority::new("known");
    let key = KeyPair::generate().expect("a key");
    let own = params("127.0.0.1", true).self_signed(&key);
    let own = certified(own.expect("a certificate").der().clone(), &key);
    let stranger = Authority::new("a stranger");
    for (certificate, why) in [
        (authority.certificate("127.0.0.1", false), "expired"),
        (
            authority.certificate("other.example", true),
            "not valid for",
        ),
        (own, "UnknownIssuer"),
        (stranger.certificate("127.0.0.1", true), "UnknownIssuer"),
    ] {
        let address = speaks(Arc::new(Always(certificate)), server.addr());
        let says = format!("cannot trust https://{address}: invalid peer certificate: ");
        refused("127.0.0.1", address, &authority, &says);
        refused("127.0.0.1", address, &authority, why);
    }
    let by_name = ResolvesServerCertUsingSni::new();
    let address = speaks(Arc::new(by_name), server.addr());
    refused(
        "localhost",
        address,
        &authority,
        "cannot speak TLS with https://localhost:",
    );
    assert_eq!(server.requests(), 0);
}

#[test]
fn n19_old_tls_and_none_at_all_are_not_spoken() {
    let authority = Authority::new("known");
    // An alert: this version is not spoken here; and the start of a reply in TLS 1.0.
    let alert = b"\x15\x03\x01\x00\x02\x02\x46".to_vec();
    let hello = [
        &b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01"[..],
        &[7; 32],
        b"\x00\x00\x2f\x00",
    ];
    for bytes in [
        alert,
        hello.concat(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ] {
        let address = listens(move |mut stream| {
            let mut buffer = [0; 1 << 14];
            let _hello = stream.read(&mut buffer)?;
            stream.write_all(&bytes)?;
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        });
        refused(
            "127.0.0.1",
            address,
            &authority,
            "(is it an https address?)",
        );
    }
}
