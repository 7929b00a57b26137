//! What a reply's headers say of the server's limits, in the forms of both providers and of the
//! servers that copy them.
//!
//! OpenAI writes `x-ratelimit-limit-requests`, Anthropic `anthropic-ratelimit-requests-limit`. Other
//! servers write `x-ratelimit-limit`, or `ratelimit-limit` as an IETF draft has it; those count
//! requests, and hold only where neither provider's own form is there. A LiteLLM proxy writes OpenAI's
//! form for the model and `x-ratelimit-api_key-limit-requests` for the key: the lower one holds. What
//! makes no sense is left out.

use std::time::Duration;

use jiff::Timestamp;

use super::retry_after::{LONGEST, http_date, length, number, until};
use crate::words::{Allowance, Allowances};

/// The longest time to a full window of a minute: servers' clocks show whole seconds.
const MINUTE: Duration = Duration::from_secs(61);

/// Numbers from here on are milliseconds since 1970; as seconds they would be the year 5138.
const MILLISECONDS: f64 = 1e11;

/// What a LiteLLM proxy may limit, all of it by the minute.
const SCOPES: [&str; 5] = ["api_key", "model_per_key", "user", "team", "team_member"];

/// The limits in the headers; `None` when there are none. `all` gives every value of a header.
pub(super) fn read<'a>(all: &dyn Fn(&str) -> Vec<&'a str>, now: Timestamp) -> Option<Allowances> {
    let one = |name: &dyn Fn(&str) -> String| {
        let allowance = Allowance {
            limit: limit(&all(&name("limit"))),
            remaining: all(&name("remaining"))
                .iter()
                .find_map(|value| quota(value)),
            reset: all(&name("reset"))
                .iter()
                .find_map(|value| reset(value, now)),
        };
        Some(allowance).filter(|allowance| *allowance != Allowance::default())
    };
    let openai = |what: &str| {
        let scoped = |scope| one(&move |part| format!("x-ratelimit-{scope}-{part}-{what}"));
        one(&|part| format!("x-ratelimit-{part}-{what}"))
            .into_iter()
            .chain(SCOPES.into_iter().filter_map(scoped))
            .min_by_key(|allowance| allowance.limit.unwrap_or(u64::MAX))
    };
    let anthropic = |what: &str| one(&|part| format!("anthropic-ratelimit-{what}-{part}"));
    let plain = |prefix: &str| {
        let mut allowance = one(&|part| format!("{prefix}-{part}"))?;
        // Nothing says that this limit is one of a minute; such a reset says that it is not.
        if allowance.reset.is_some_and(|reset| reset > MINUTE) {
            allowance.limit = None;
        }
        Some(allowance)
    };
    let allowances = Allowances {
        requests: openai("requests")
            .or_else(|| anthropic("requests"))
            .or_else(|| plain("x-ratelimit"))
            .or_else(|| plain("ratelimit"))
            .unwrap_or_default(),
        tokens: openai("tokens")
            .or_else(|| anthropic("tokens"))
            .unwrap_or_default(),
        input_tokens: anthropic("input-tokens").unwrap_or_default(),
        output_tokens: anthropic("output-tokens").unwrap_or_default(),
    };
    Some(allowances).filter(|allowances| *allowances != Allowances::default())
}

/// How long until every limit that is used up is there again. One that has something left is no
/// reason to wait, however far its reset is: that is the time to a *full* window.
pub(super) fn wait(allowances: &Allowances) -> Option<Duration> {
    let Allowances {
        requests,
        tokens,
        input_tokens,
        output_tokens,
    } = allowances;
    [requests, tokens, input_tokens, output_tokens]
        .into_iter()
        .filter(|allowance| allowance.remaining.unwrap_or(0) == 0)
        .filter_map(|allowance| allowance.reset)
        .max()
}

/// What a minute may hold: `100`, or in the form of the draft `100, 100;w=60, 1000;w=3600`, the limit
/// in force and then the policies. One whose window is stated and is not a minute is left out; it is
/// not converted, since nobody says how much of it may be used at once.
fn limit(values: &[&str]) -> Option<u64> {
    let text = values.join(",");
    let items = || text.split(',');
    let limit = items().find_map(quota).filter(|limit| *limit > 0)?;
    let windows: Vec<&str> = items()
        .filter(|item| quota(item) == Some(limit))
        .filter_map(window)
        .collect();
    let minute = |window: &&str| number(window) == Some(60.0);
    (windows.is_empty() || windows.iter().any(minute)).then_some(limit)
}

/// The number that an item of a list begins with.
fn quota(item: &str) -> Option<u64> {
    let number = number(item.split([',', ';']).next()?)?;
    let counts = number >= 0.0 && number.fract() == 0.0 && number <= 9e15;
    counts.then_some(number as u64)
}

/// The window that an item of a list states, in seconds.
fn window(item: &str) -> Option<&str> {
    let mut parameters = item.split(';').skip(1);
    parameters.find_map(|parameter| parameter.trim().strip_prefix("w="))
}

/// How long until a time that is written as a duration, as seconds, as a date or as the seconds or
/// milliseconds since 1970.
fn reset(value: &str, now: Timestamp) -> Option<Duration> {
    if let Some(number) = number(value) {
        let since_1970 = match number {
            number if number <= LONGEST.as_secs_f64() => return length(number),
            number if number < MILLISECONDS => number,
            number => number / 1000.0,
        };
        return length(since_1970 - now.as_duration().as_secs_f64());
    }
    match chain(value.trim()) {
        Some(seconds) => length(seconds),
        None => until(http_date(value).or_else(|| value.trim().parse().ok())?, now),
    }
}

/// The seconds of a duration as Go writes it: `12ms`, `6m0s`, `1h2m3.5s`.
fn chain(mut text: &str) -> Option<f64> {
    let mut seconds = None;
    while !text.is_empty() {
        let (digits, rest) = text.split_at(text.find(|c| !numeric(c))?);
        let (unit, rest) = rest.split_at(rest.find(numeric).unwrap_or(rest.len()));
        let one = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        seconds = Some(seconds.unwrap_or(0.0) + one * digits.parse::<f64>().ok()?);
        text = rest;
    }
    seconds
}

fn numeric(character: char) -> bool {
    character.is_ascii_digit() || character == '.'
}

#[cfg(test)]
mod tests {
    use super::super::text::every_text;
    use super::*;

    /// The limits in these headers on 22 November 2026 at 20:00:00 (1795377600).
    fn read_at_eight(headers: &[(&str, &str)]) -> Option<Allowances> {
        let all = |name: &str| -> Vec<&str> {
            let found = headers.iter().filter(|(header, _)| *header == name);
            found.map(|(_, value)| *value).collect()
        };
        read(&all, http_date("Sun, 22 Nov 2026 20:00:00 GMT").unwrap())
    }

    #[test]
    fn a_reset_is_read_in_every_form_that_servers_write() {
        let now = http_date("Sun, 22 Nov 2026 20:00:00 GMT").unwrap();
        assert_eq!(now.as_second(), 1_795_377_600);
        for (value, expected) in [
            ("12ms", Some(12_000)),
            ("1s", Some(1_000_000)),
            (" 1s ", Some(1_000_000)),
            ("6m0s", Some(360_000_000)),
            ("1h2m3s", Some(3_723_000_000)),
            ("1m30.5s", Some(90_500_000)),
            ("1d2h", Some(93_600_000_000)),
            ("500us", Some(500)),
            ("500µs", Some(500)),
            ("500μs", Some(500)),
            ("1500000ns", Some(1_500)),
            ("7.66s", Some(7_660_000)),
            (".5s", Some(500_000)),
            ("7", Some(7_000_000)),
            ("0.25", Some(250_000)),
            ("2678400", Some(2_678_400_000_000)),
            ("1795377630", Some(30_000_000)),
            ("1795377630.5", Some(30_500_000)),
            ("1795377630500", Some(30_500_000)),
            ("2026-11-22T20:00:30Z", Some(30_000_000)),
            ("2026-11-22T20:00:30.250Z", Some(30_250_000)),
            ("2026-11-22T21:00:30+01:00", Some(30_000_000)),
            ("Sun, 22 Nov 2026 20:00:30 GMT", Some(30_000_000)),
            // What lies in the past, never comes or makes no sense.
            ("0", None),
            ("-1", None),
            ("-0.0", None),
            ("0s", None),
            ("0m0s", None),
            ("-5s", None),
            ("NaN", None),
            ("-nan", None),
            ("inf", None),
            ("1e400", None),
            ("32d", None),
            ("2678401", None),
            ("1795377600", None),
            ("1795377599", None),
            ("1795377599999", None),
            ("1895377600", None),
            ("99999999999999999999999999", None),
            ("99999999999999999999999999h", None),
            ("2026-11-22T20:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("99999-12-31T23:59:59Z", None),
            ("2026-13-22T20:00:00Z", None),
            ("2026-11-22T20:00:30", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", None),
            ("", None),
            (" ", None),
            ("s", None),
            ("5x", None),
            ("5s3", None),
            ("1.2.3s", None),
            ("..s", None),
            ("5 s", None),
            ("5sms", None),
            ("soon", None),
            ("é", None),
        ] {
            // Halves of a microsecond come of seconds since 1970 in floating point.
            let got = reset(value, now).map(|reset| (reset.as_secs_f64() * 1e6).round() as u64);
            assert_eq!(got, expected, "{value:?}");
        }
    }

    #[test]
    fn a_limit_is_one_of_a_minute_or_none() {
        for (values, expected) in [
            (&["100"][..], Some(100)),
            (&[" 100 "], Some(100)),
            (&["100.0"], Some(100)),
            (&["100;w=60"], Some(100)),
            (&["100; w=60"], Some(100)),
            (&["100, 100;w=60"], Some(100)),
            (&["100", "100;w=60"], Some(100)),
            (&["100, 100;w=1, 100;w=60"], Some(100)),
            (&["100, 5000;w=3600"], Some(100)),
            (&["100;comment=\"w\""], Some(100)),
            (&["10;w=1"], None),
            (&["10, 10;w=1, 50;w=60"], None),
            (&["1000, 1000;w=3600"], None),
            (&["100;w="], None),
            (&["100;w=soon"], None),
            (&["0"], None),
            (&["0, 0;w=60"], None),
            (&["-1"], None),
            (&["0.5"], None),
            (&["1e300"], None),
            (&["NaN"], None),
            (&["unlimited"], None),
            (&[""], None),
            (&[",;,;w=60"], None),
            (&[], None),
        ] {
            assert_eq!(limit(values), expected, "{values:?}");
        }
    }

    #[test]
    fn the_plain_forms_count_requests_where_no_provider_counts_them() {
        let requests = |limit, remaining, reset: Option<u64>| Allowance {
            limit,
            remaining,
            reset: reset.map(Duration::from_secs),
        };
        let plain = [
            ("x-ratelimit-limit", "20"),
            ("x-ratelimit-remaining", "19"),
            ("x-ratelimit-reset", "1795377630000"),
            ("ratelimit-limit", "7"),
        ];
        let read = |headers: &[(&str, &str)]| read_at_eight(headers).map(|all| all.requests);
        assert_eq!(read(&plain), Some(requests(Some(20), Some(19), Some(30))));

        let draft = [
            ("ratelimit-limit", "100, 100;w=60"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "50"),
        ];
        assert_eq!(read(&draft), Some(requests(Some(100), Some(0), Some(50))));

        for (name, value) in [
            ("x-ratelimit-limit-requests", "60"),
            ("anthropic-ratelimit-requests-limit", "60"),
        ] {
            let mut both = plain.to_vec();
            both.push((name, value));
            assert_eq!(read(&both), Some(requests(Some(60), None, None)), "{name}");
        }

        // A limit of a day: only how much of it is left holds.
        let daily = [
            ("x-ratelimit-limit", "50"),
            ("x-ratelimit-remaining", "3"),
            ("x-ratelimit-reset", "1795392000000"),
        ];
        assert_eq!(read(&daily), Some(requests(None, Some(3), Some(14_400))));
    }

    #[test]
    fn of_the_limits_of_a_litellm_proxy_the_lowest_holds() {
        let headers = [
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-api_key-limit-requests", "20"),
            ("x-ratelimit-api_key-remaining-requests", "7"),
            ("x-ratelimit-team-limit-requests", "90"),
            ("x-ratelimit-api_key-limit-tokens", "300"),
        ];
        let allowances = read_at_eight(&headers).unwrap();
        assert_eq!(allowances.requests.limit, Some(20));
        assert_eq!(allowances.requests.remaining, Some(7));
        assert_eq!(allowances.tokens.limit, Some(300));
    }

    #[test]
    fn headers_that_say_nothing_are_no_limits() {
        assert_eq!(read_at_eight(&[]), None);
        for value in ["", "-1", "NaN", "none"] {
            let headers = [
                ("x-ratelimit-limit-requests", value),
                ("x-ratelimit-remaining-requests", value),
                ("x-ratelimit-reset-tokens", value),
                ("ratelimit-limit", value),
            ];
            assert_eq!(read_at_eight(&headers), None, "{value:?}");
        }
        let twice = [
            ("x-ratelimit-reset-tokens", "soon"),
            ("x-ratelimit-reset-tokens", "5s"),
        ];
        let tokens = read_at_eight(&twice).unwrap().tokens;
        assert_eq!(tokens.reset, Some(Duration::from_secs(5)));
    }

    #[test]
    fn only_what_is_used_up_is_waited_for() {
        let allowance = |remaining, reset| Allowance {
            limit: Some(10),
            remaining,
            reset: Some(Duration::from_secs(reset)),
        };
        let mut allowances = Allowances {
            requests: allowance(Some(9), 500),
            tokens: allowance(Some(1), 400),
            ..Allowances::default()
        };
        assert_eq!(wait(&allowances), None);
        allowances.input_tokens = allowance(Some(0), 20);
        assert_eq!(wait(&allowances), Some(Duration::from_secs(20)));
        allowances.output_tokens = allowance(None, 30);
        assert_eq!(wait(&allowances), Some(Duration::from_secs(30)));
        allowances.output_tokens.reset = None;
        assert_eq!(wait(&allowances), Some(Duration::from_secs(20)));
    }

    #[test]
    fn no_header_text_can_panic_or_wait_for_ever() {
        // Out of what the forms are made of.
        for text in every_text("019.-+eNnmshduµTZ:;,w= ") {
            let text = text.as_str();
            if let Some(wait) = reset(text, Timestamp::UNIX_EPOCH) {
                assert!(wait > Duration::ZERO && wait <= LONGEST, "{text:?}");
            }
            assert_ne!(limit(&[text]), Some(0), "{text:?}");
        }
    }
}
