use crate::loopback::{Act, reply};
use crate::protocols::PROTOCOLS;
use crate::served::Served;
use crate::trial::{ONCE, Trial, all_answered, all_say};

/// An address of a private network that no packet is to reach.
const FAR: &str = "http://10.254.254.254:8080";
/// What programs look for proxies in.
const VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];

#[test]
fn n20_who_points_elsewhere_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let target = Served::every_protocol();
        let elsewhere = match status {
            302 => target.url().replace("http://", "https://"),
            307 => target.url().replace("127.0.0.1", "localhost"),
            _ => target.url().to_owned(),
        };
        let server = Served::new(move |_, seen| {
            let path = seen.line.rsplit(' ').next().unwrap_or_default();
            reply(
                status,
                &[("location", &format!("{elsewhere}{path}"))],
                b"",
                0,
            )
        });
        let trial = Trial::of("N20").asks(3, server.url(), "limits: { concurrency: 1 }", "");
        let (_, published) = trial.ends(5);
        // Of the other rows nothing is sent any more.
        let asked = published
            .lines
            .iter()
            .filter(|line| line["attempts"][0].is_object());
        let asked = asked.inspect(|line| {
            let said = line["error"]["message"].as_str().unwrap_or_default();
            assert!(said.contains("redirects are not followed: write the final address as `url`"));
        });
        assert_eq!(asked.count(), PROTOCOLS.len());
        assert_eq!(server.requests(), PROTOCOLS.len());
        assert_eq!(target.connections(), 0, "{status}");
    }
}

#[test]
fn n21_a_proxy_of_the_environment_is_not_used() {
    let server = Served::every_protocol();
    let proxy = Served::every_protocol();
    let trial = Trial::of("N21").only(&["ok"]);
    let trial = VARIABLES
        .iter()
        .fold(trial, |trial, name| trial.env(name, proxy.url()));
    let trial = trial.env("NO_PROXY", "").asks(1, server.url(), "", ONCE);
    let (_, published) = trial.ends(0);
    all_answered(&published);
    assert_eq!(
        (server.requests(), proxy.connections()),
        (PROTOCOLS.len(), 0)
    );
}

#[test]
fn n21_a_declared_proxy_is_used_but_not_for_this_machine() {
    let server = Served::every_protocol();
    let proxy = Served::every_protocol();
    let declared = format!("proxy: \"{}\"", proxy.url());
    let trial = Trial::of("N21").only(&["ok"]).env("NO_PROXY", "*");
    let trial = trial.asks(1, server.url(), &declared, ONCE);
    let (_, published) = trial.ends(0);
    all_answered(&published);
    assert_eq!(
        (server.requests(), proxy.connections()),
        (PROTOCOLS.len(), 0)
    );

    let trial = Trial::of("N21").only(&["ok"]).env("NO_PROXY", "*");
    let trial = trial.asks(1, FAR, &declared, ONCE);
    let (_, published) = trial.ends(0);
    all_answered(&published);
    assert_eq!(proxy.requests(), PROTOCOLS.len());
    let far = format!("POST {FAR}/");
    assert!(proxy.seen().iter().all(|seen| seen.line.starts_with(&far)));
}

#[test]
fn n21_a_proxy_that_wants_a_password_takes_the_backend_out_of_the_run() {
    for far in [FAR, "https://10.254.254.254:8443"] {
        let wants = ("proxy-authenticate", "Basic realm=\"proxy\"");
        let proxy = Served::always(reply(407, &[wants], b"", 0));
        let declared = format!("proxy: \"{}\", timeout: 3s", proxy.url());
        let trial = Trial::of("N21")
            .only(&["config"])
            .asks(1, far, &declared, "");
        let (_, published) = trial.ends(5);
        all_say(&published, 1, "(check `proxy`)");
        assert_eq!(proxy.requests(), PROTOCOLS.len());
        let keys = proxy
            .seen()
            .iter()
            .filter(|seen| {
                let carries = |name: &str| seen.header(name).is_some();
                carries("authorization") || carries("x-api-key")
            })
            .count();
        let tunnel = far.starts_with("https");
        assert_eq!(
            keys,
            if tunnel { 0 } else { PROTOCOLS.len() },
            "a tunnel has no key"
        );
    }
}

#[test]
fn n21_a_proxy_that_is_not_there_is_tried_again() {
    let gone = Served::always(Act::Write(Vec::new()));
    let url = gone.url().to_owned();
    drop(gone);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let trial = Trial::new(&["not_sent"], crate::table::row("N21").deadline());
    let trial = trial.asks(1, FAR, &format!("proxy: \"{url}\""), ONCE);
    let (_, published) = trial.ends(5);
    all_say(
        &published,
        1,
        "cannot connect to http://10.254.254.254:8080",
    );
}
