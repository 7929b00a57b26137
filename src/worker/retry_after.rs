//! How long a provider asks to wait: `retry-after` in seconds or as a date, and `retry-after-ms`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Nothing that a provider means is longer than a month: a spending limit falls on the first.
pub(super) const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// The longest wait that the headers ask for. What is not a positive length of at most 31 days is
/// left out.
pub(super) fn wait(seconds: &[&str], milliseconds: &[&str], now: Timestamp) -> Option<Duration> {
    let split = |values: &[&str]| -> Vec<String> {
        // A date holds a comma of its own, so only a list of numbers is taken apart.
        let parts = values.iter().flat_map(|value| {
            let numbers = value.split(',').all(|part| number(part).is_some());
            let parts = if numbers {
                value.split(',')
            } else {
                value.split('\0')
            };
            parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>()
        });
        parts.collect()
    };
    let from_seconds = split(seconds)
        .into_iter()
        .filter_map(|value| match number(&value) {
            Some(seconds) => length(seconds),
            None => until(http_date(&value)?, now),
        });
    let from_milliseconds = split(milliseconds)
        .into_iter()
        .filter_map(|value| length(number(&value)? / 1000.0));
    from_seconds.chain(from_milliseconds).max()
}

/// Reads the date of an HTTP header.
pub(super) fn http_date(value: &str) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(value.trim()).ok()
}

/// Reads a number.
pub(super) fn number(value: &str) -> Option<f64> {
    let value = value.trim();
    // `f64` also reads "inf" and "nan"; no server means those.
    let plain = value.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    value.parse().ok().filter(|_| plain)
}

/// A length that somebody can mean.
pub(super) fn length(seconds: f64) -> Option<Duration> {
    let length = Duration::try_from_secs_f64(seconds).ok()?;
    (length > Duration::ZERO && length <= LONGEST).then_some(length)
}

/// How long until a date.
pub(super) fn until(date: Timestamp, now: Timestamp) -> Option<Duration> {
    length(date.duration_since(now).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::text::every_text;
    use super::*;

    #[test]
    fn a_wait_is_the_longest_that_makes_sense() {
        let now = http_date("Sun, 22 Nov 2026 20:00:00 GMT").unwrap();
        let cases: &[(&[&str], &[&str], Option<u64>)] = &[
            (&[], &[], None),
            (&["7"], &[], Some(7_000)),
            (&[" 7 "], &[], Some(7_000)),
            (&["0.25"], &[], Some(250)),
            (&["1e1"], &[], Some(10_000)),
            (&[], &["1500"], Some(1_500)),
            (&[], &["1500.5"], Some(1_500)),
            (&["1"], &["1500"], Some(1_500)),
            (&["2"], &["1500"], Some(2_000)),
            (&["2", "5"], &[], Some(5_000)),
            (&["2, 5"], &[], Some(5_000)),
            (&["Sun, 22 Nov 2026 20:00:30 GMT"], &[], Some(30_000)),
            (&["Sun, 22 Nov 2026 20:00:30 +0000"], &[], Some(30_000)),
            (&["Sun, 22 Nov 2026 19:59:59 GMT"], &[], None),
            (&["Fri, 31 Dec 9999 23:59:59 GMT"], &[], None),
            (&["Sun, 22 Nov 2026 25:00:00 GMT"], &[], None),
            (&["0"], &[], None),
            (&["-5"], &[], None),
            (&["-0.0"], &[], None),
            (&["NaN"], &[], None),
            (&["inf"], &[], None),
            (&["-inf"], &[], None),
            (&["1e9"], &[], None),
            (&["1e400"], &[], None),
            (&["99999999999999999999999999"], &[], None),
            (&["2678400"], &[], Some(2_678_400_000)),
            (&["2678401"], &[], None),
            (&["soon"], &["later"], None),
            (&["soon", "3"], &["-1"], Some(3_000)),
            (&[""], &[""], None),
            (&[",,,"], &[], None),
            (&["5s"], &[], None),
            (&["0x10"], &[], None),
        ];
        for (seconds, milliseconds, expected) in cases {
            let got = wait(seconds, milliseconds, now).map(|wait| wait.as_millis() as u64);
            assert_eq!(got, *expected, "{seconds:?} {milliseconds:?}");
        }
    }

    #[test]
    fn no_header_text_can_panic_or_wait_for_ever() {
        // Out of what numbers and dates are made of.
        for text in every_text("019.-+eENnai ,:\u{7f}") {
            let text = text.as_str();
            if let Some(wait) = wait(&[text], &[text], Timestamp::UNIX_EPOCH) {
                assert!(wait > Duration::ZERO && wait <= LONGEST, "{text:?}");
            }
        }
    }
}
