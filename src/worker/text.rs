//! Foreign text made fit for a message: short, on one line, without secrets.

use crate::words::steers;

/// The most characters of foreign text in a message.
const MOST: usize = 300;

/// At most 300 characters, control and direction-changing characters escaped.
pub(super) fn clip(text: &str) -> String {
    clip_to(text, MOST)
}

/// At most this many characters, escaped likewise.
pub(super) fn clip_to(text: &str, most: usize) -> String {
    let mut clipped = String::new();
    let mut room = most;
    for character in text.trim().chars() {
        let shown = match character {
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => " ".to_owned(),
            _ if steers(character) => format!("\\u{{{:x}}}", u32::from(character)),
            _ => character.to_string(),
        };
        match room.checked_sub(shown.chars().count()) {
            Some(left) => room = left,
            None => return clipped + "…",
        }
        clipped.push_str(&shown);
    }
    clipped
}

/// The scheme, host and port of an address: all of it that a message may show.
pub(super) fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let shown = match scheme {
        "" => host.to_owned(),
        _ => format!("{scheme}://{host}"),
    };
    clip(&shown)
}

/// Every text of one to four characters out of these.
#[cfg(test)]
pub(super) fn every_text(alphabet: &str) -> impl Iterator<Item = String> + use<'_> {
    let longer = |texts: &Vec<String>| {
        let add = |text: &String| -> Vec<String> {
            alphabet.chars().map(|c| format!("{text}{c}")).collect()
        };
        Some(texts.iter().flat_map(add).collect())
    };
    std::iter::successors(Some(vec![String::new()]), longer)
        .skip(1)
        .take(4)
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("http://localhost:8000/v1", "http://localhost:8000"),
            ("https://me:pw@host/v1?key=k", "https://host"),
            ("https://a@b@host#x", "https://host"),
            ("me:pw@host/x", "host"),
            ("http://me:p\u{1b}w@h\u{1b}ost", "http://h\\u{1b}ost"),
            ("", ""),
        ] {
            assert_eq!(origin(url), shown, "{url}");
        }
    }

    #[test]
    fn foreign_text_is_cut_and_escaped() {
        assert_eq!(
            clip(" a\n\u{1b}[31mb\u{202e}\0 "),
            "a\\n\\u{1b}[31mb\\u{202e}\\u{0}"
        );
        assert_eq!(clip_to("ééé", 2), "éé…");
        assert_eq!(clip(&"x".repeat(1000)).chars().count(), MOST + 1);
    }
}
