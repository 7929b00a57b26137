//! Bytes cut into events by the WHATWG's rules, however the network has cut them.

/// An event of a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; empty where it has none.
    pub name: Vec<u8>,
    /// Its lines of data, joined by line feeds.
    pub data: Vec<u8>,
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line that has begun.
    line: Vec<u8>,
    /// Whether the line before it ended in a carriage return, whose line feed may still come.
    after_return: bool,
    /// Whether a line was read: a byte order mark stands before the first.
    begun: bool,
    /// What the event that has begun is called.
    name: Vec<u8>,
    /// Its data, if it has any yet.
    data: Option<Vec<u8>>,
}

impl Events {
    /// How much of an event is there that is not complete.
    pub(super) fn begun(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, Vec::len)
    }

    /// The events that these bytes complete.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut complete = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (line, rest) = bytes.split_at(end);
            let second_half = self.after_return && end == 0 && rest[0] == b'\n';
            self.after_return = rest[0] == b'\r';
            bytes = &rest[1..];
            if !second_half {
                self.line.extend_from_slice(line);
                complete.extend(self.end_line());
            }
        }
        self.after_return &= bytes.is_empty();
        self.line.extend_from_slice(bytes);
        complete
    }

    /// The event that an empty line completes.
    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = match std::mem::replace(&mut self.begun, true) {
            true => &line[..],
            false => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line),
        };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Event { name, data });
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match (field, &mut self.data) {
            (b"event", _) => self.name = value.to_vec(),
            (b"data", Some(data)) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            (b"data", data) => *data = Some(value.to_vec()),
            // A comment, or what only a browser has a use for.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
        }
    }

    fn whole(bytes: &[u8]) -> Vec<Event> {
        Events::default().take(bytes)
    }

    #[test]
    fn lines_are_read_as_the_rules_say() {
        for (bytes, events) in [
            ("", vec![]),
            ("data: a\n\n", vec![event("", "a")]),
            (
                "data:a\n\ndata:  b\n\n",
                vec![event("", "a"), event("", " b")],
            ),
            (
                "event: e\ndata: a\n\ndata: b\n\n",
                vec![event("e", "a"), event("", "b")],
            ),
            ("data: a\ndata\ndata: b\n\n", vec![event("", "a\n\nb")]),
            ("data\n\n", vec![event("", "")]),
            (
                "\u{feff}data: a\n\n\u{feff}data: b\n\n",
                vec![event("", "a")],
            ),
            (
                ": comment\n\n:\n\ndata: a\n: inside\n\n",
                vec![event("", "a")],
            ),
            ("event: none\n\ndata: a\n\n", vec![event("", "a")]),
            (
                "id: 1\nretry: 5\nDATA: x\ndata : y\ndata: a\n\n",
                vec![event("", "a")],
            ),
            (
                "data: a\r\rdata: b\r\n\r\ndata: c\n\r\n",
                vec![event("", "a"), event("", "b"), event("", "c")],
            ),
            (
                "data: a\r\n\ndata: b: c\n\n\n\n",
                vec![event("", "a"), event("", "b: c")],
            ),
            ("data: never ended\n", vec![]),
        ] {
            assert_eq!(whole(bytes.as_bytes()), events, "{bytes:?}");
        }
    }

    /// A stream with everything in it that a cut may fall into.
    fn stream(newline: &str) -> Vec<u8> {
        let text = "\u{feff}event: e\ndata: é𝄞\ndata:\ndata: \u{feff}{\"a\": 1}\n\n: ping\n\n\ndata: [DONE]\n\n";
        text.replace('\n', newline).into_bytes()
    }

    #[test]
    fn a_stream_means_the_same_wherever_the_network_cuts_it() {
        for newline in ["\n", "\r\n", "\r"] {
            let bytes = stream(newline);
            let events = whole(&bytes);
            assert_eq!(events, whole(&stream("\n")), "{newline:?}");
            assert_eq!(events.len(), 2);
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let mut cut = Events::default();
                    let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    let parsed: Vec<_> = parts.iter().flat_map(|part| cut.take(part)).collect();
                    assert_eq!(parsed, events, "{newline:?} cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_mean_the_same_wherever_the_network_cuts_them() {
        let mut random = fastrand::Rng::with_seed(9);
        let pieces: [&[u8]; 12] = [
            b"\r",
            b"\n",
            b"\r\n",
            b"data",
            b"event",
            b":",
            b": ",
            b"x",
            b"\xef\xbb\xbf",
            b"\xf0\x9f",
            b"\n\n",
            b"\0",
        ];
        for _ in 0..2_000 {
            let pieces = (0..random.usize(1..40)).map(|_| pieces[random.usize(..pieces.len())]);
            let bytes = pieces.collect::<Vec<_>>().concat();
            let (mut cut, mut parsed, mut rest) = (Events::default(), Vec::new(), &bytes[..]);
            while !rest.is_empty() {
                let (part, more) = rest.split_at(random.usize(0..=rest.len().min(5)));
                parsed.extend(cut.take(part));
                rest = more;
            }
            assert_eq!(parsed, whole(&bytes), "{bytes:?}");
        }
    }
}
