//! Addresses of servers: their form, and where a key may travel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The address without a trailing slash.
    pub text: String,
    /// Whether a key may be sent there: over TLS, or to a machine or network of one's own.
    pub may_carry_key: bool,
}

/// Reads an address, or says what is wrong with it and what to do.
pub fn parse(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let form = "write it like http://localhost:8000";
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").ok_or(("not a URL", form))?;
    let encrypted = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(("only http:// and https:// can be asked", form)),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if rest.contains('@') {
        let advice = "name a variable that holds the key with `api_key_env`";
        return Err(("a URL must not hold a user name or password", advice));
    }
    if rest.contains(['?', '#', '\\']) || rest.contains(char::is_whitespace) {
        return Err(("a server's URL has no query, fragment or space", form));
    }
    let host = host(authority).ok_or(("the URL names no host", form))?;
    let reach = reach(host);
    if reach == Reach::Forbidden {
        let advice = "link-local and metadata addresses are never asked";
        return Err(("this address is not a model server", advice));
    }
    Ok(Url {
        text: text.trim_end_matches('/').to_owned(),
        may_carry_key: encrypted || reach == Reach::Own,
    })
}

fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (
                host,
                port.strip_prefix(':').or(port.is_empty().then_some("80"))?,
            )
        }
        None => authority.split_once(':').unwrap_or((authority, "80")),
    };
    // Other characters (an escape such as `%2e` above all) would be read in another way when sent.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let valid = !host.is_empty()
        && host.chars().all(plain)
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    valid.then_some(host)
}

/// Who can be at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This machine or a private network.
    Own,
    /// Anyone.
    Public,
    /// What no model is served on: link-local addresses, cloud metadata.
    Forbidden,
}

fn reach(host: &str) -> Reach {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(address) => reach_v4(address),
            IpAddr::V6(address) => reach_v6(address),
        };
    }
    // `2852039166`, `0xa9fea9fe` and `169.254.43518` are spellings of an IPv4 address too.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) || host == "metadata.google.internal" {
        return Reach::Forbidden;
    }
    let own = [".localhost", ".local", ".internal", ".lan"];
    match !host.contains('.') || own.iter().any(|end| host.ends_with(end)) {
        true => Reach::Own,
        false => Reach::Public,
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    if address.is_link_local() || address.is_broadcast() || address.is_multicast() {
        Reach::Forbidden
    } else if address.is_loopback() || address.is_private() || address.is_unspecified() {
        Reach::Own
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if let Some(address) = address.to_ipv4_mapped() {
        return reach_v4(address);
    }
    if address.is_unicast_link_local() || address.is_multicast() {
        Reach::Forbidden
    } else if address.is_loopback() || address.is_unique_local() || address.is_unspecified() {
        Reach::Own
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_model_is_served_on_are_refused() {
        for bad in [
            "localhost:8000",
            "ftp://host",
            "http://",
            "http://host:0",
            "http://host:port",
            "http://me:pw@host",
            "http://host/?key=1",
            "http://169.254.169.254",
            "http://169.254.169.254./latest",
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://[fe80::1]",
            "http://[::ffff:169.254.169.254]:80",
            "http://metadata.google.internal",
            "http://127.0.0.1\\@evil.example",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_travels_encrypted_or_within_ones_own_network() {
        for (url, may) in [
            ("https://api.example.com/v1/", true),
            ("http://localhost:8000", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:8000", true),
            ("http://10.1.2.3", true),
            ("http://vllm:8000", true),
            ("http://gpu.lan", true),
            ("http://api.example.com", false),
            ("http://8.8.8.8", false),
            ("http://[2001:db8::1]", false),
        ] {
            assert_eq!(parse(url).map(|url| url.may_carry_key), Ok(may), "{url}");
        }
        assert_eq!(parse("http://h:1//").unwrap().text, "http://h:1");
    }
}
