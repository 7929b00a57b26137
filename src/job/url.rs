//! Addresses of servers: their form, and where a key may travel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::source::is_secret_key;

/// An address that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The address; of a server without a trailing slash.
    pub text: String,
    /// Whether a key may be sent there: over TLS, or to a machine or network of one's own.
    pub may_carry_key: bool,
}

/// What is wrong with an address, and what to do.
type Refusal = (&'static str, &'static str);

const FORM: &str = "write it like http://localhost:8000";

/// Reads the address of a server, to which paths will be added.
pub fn parse(text: &str) -> Result<Url, Refusal> {
    let url = parse_whole(text)?;
    if text.contains('@') {
        return Err(PASSWORD);
    }
    if text.contains('?') {
        return Err(("a server's URL has no query, fragment or space", FORM));
    }
    Ok(Url {
        text: url.text.trim_end_matches('/').to_owned(),
        ..url
    })
}

const PASSWORD: Refusal = (
    "a URL must not hold a user name or password",
    "name a variable that holds the key with `api_key_env`",
);

/// Reads an address to which nothing is added. It may have a query, for an API's version and the like,
/// but no secret in it.
pub fn parse_whole(text: &str) -> Result<Url, Refusal> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").ok_or(("not a URL", FORM))?;
    let encrypted = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(("only http:// and https:// can be asked", FORM)),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    // Behind a backslash parsers disagree on what the host is.
    if authority.contains('@') || (rest.contains('@') && rest.contains('\\')) {
        return Err(PASSWORD);
    }
    if rest.contains(['#', '\\']) || rest.contains(char::is_whitespace) {
        return Err(("a server's URL has no query, fragment or space", FORM));
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut names = query.split('&').filter_map(|part| part.split('=').next());
    if names.any(|name| is_secret_key(name) || SECRET_PARAMETERS.contains(&name)) {
        let advice = "send it as a header: `headers_env: { x-api-key: NAME_OF_A_VARIABLE }`";
        return Err(("a URL must not hold a key", advice));
    }
    let host = host(authority).ok_or(("the URL names no host", FORM))?;
    let reach = reach(host);
    if reach == Reach::Forbidden {
        let advice = "link-local and metadata addresses are never asked";
        return Err(("this address is not a model server", advice));
    }
    Ok(Url {
        text: text.to_owned(),
        may_carry_key: encrypted || reach == Reach::Own,
    })
}

/// What keys are called in queries, besides the names that are secret everywhere.
const SECRET_PARAMETERS: [&str; 5] = ["key", "token", "sig", "signature", "code"];

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

    #[test]
    fn a_whole_address_stays_as_it_is_and_may_have_a_query_without_a_secret() {
        for good in [
            "http://localhost:1/answer/",
            "https://host/v1?api-version=2024-02-01&n=1",
            "https://host/ai/run/@cf/model",
            "https://host?a@b",
        ] {
            assert_eq!(parse_whole(good).unwrap().text, good);
        }
        for bad in [
            "https://host/v1?key=1",
            "https://host/v1?a=1&API_KEY=1",
            "https://host/v1?a=1&token",
            "https://me:pw@host/v1",
            "https://127.0.0.1\\@host/v1",
            "https://host/v1#part",
            "http://169.254.169.254/?a=1",
        ] {
            assert!(parse_whole(bad).is_err(), "{bad}");
        }
        assert!(parse("https://host/ai/run/@cf/model").is_err());
    }
}
