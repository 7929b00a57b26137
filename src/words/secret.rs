//! The forms in which somebody may repeat a secret.

/// Shorter ones would be found in texts that have nothing to do with the secret.
const SHORTEST: usize = 8;

const ALPHABETS: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// The secret as it may stand in a text: as it is, escaped for JSON or an address, in Base64, be it alone or behind
/// something else. The longest come first, so that taking out one leaves no part of another.
pub fn spellings(secret: &str) -> Vec<String> {
    let json = escaped(secret);
    // An error is often quoted within another.
    let (slashes, quoted) = (json.replace('/', "\\/"), escaped(&json));
    let address = address(secret);
    let mut all = vec![json, slashes, quoted, lower_escapes(&address), address];
    for alphabet in ALPHABETS {
        all.extend((0..3).map(|behind| base64(secret, behind, alphabet)));
    }
    all.retain(|spelling| spelling.len() >= SHORTEST);
    all.push(secret.to_owned());
    all.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    all.dedup();
    all
}

/// As it stands between the quotes of JSON.
fn escaped(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

fn address(secret: &str) -> String {
    let mut text = String::new();
    for byte in secret.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The same with `%2f` for `%2F`.
fn lower_escapes(address: &str) -> String {
    let mut parts = address.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (code, rest) = part.split_at(2);
        format!("{text}%{}{rest}", code.to_lowercase())
    })
}

/// Base64 of the secret behind so many other bytes, without the letters that also tell of what is beside it.
fn base64(secret: &str, behind: usize, alphabet: &[u8; 64]) -> String {
    let bytes = [&[0; 2][..behind], secret.as_bytes()].concat();
    let bits = |place: usize| -> u8 {
        let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
        let (at, shift) = (place * 6 / 8, place * 6 % 8);
        let two = byte(at) << 8 | byte(at + 1);
        (two >> (10 - shift)).to_le_bytes()[0] & 63
    };
    let (first, end) = ((behind * 8).div_ceil(6), bytes.len() * 8 / 6);
    let letters = (first..end).map(|place| char::from(alphabet[usize::from(bits(place))]));
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_in_every_form() {
        let spellings = spellings("sk/a+\"secret\\");
        for form in [
            "sk/a+\"secret\\",
            "sk/a+\\\"secret\\\\",
            "sk/a+\\\\\\\"secret\\\\\\\\",
            "sk\\/a+\\\"secret\\\\",
            "sk%2Fa%2B%22secret%5C",
            "sk%2fa%2b%22secret%5c",
            "c2svYSsic2VjcmV0X", // alone
            "NrL2ErInNlY3JldF",  // behind one byte
            "zay9hKyJzZWNyZXRc", // behind two
        ] {
            let known = spellings.iter().any(|spelling| spelling == form);
            assert!(known, "{form} is not in {spellings:?}");
        }
        assert!(spellings.is_sorted_by_key(|spelling| std::cmp::Reverse(spelling.len())));
    }

    #[test]
    fn a_plain_secret_has_few_forms_and_a_short_one_only_itself() {
        assert_eq!(spellings("abc"), ["abc"]);
        let plain = spellings("sk-0123456789");
        assert_eq!(plain.len(), 4, "{plain:?}");
    }
}
