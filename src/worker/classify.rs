//! What a status and the provider's structured code mean: one pure function.
//!
//! It looks at message text in one place only, the documented case in which Anthropic sends nothing
//! else.

use std::time::Duration;

use crate::words::{ErrorClass, MAX_RETRY_AFTER};

/// Codes and types with which a 429 means money and not pace.
const SPENT: [&str; 7] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "enforced_spend_limit_reached",
    LITELLM_SPENT,
];

/// The type with which a LiteLLM proxy says that the budget of a key is spent, whatever the status: 422
/// today, 400 and 429 in older versions.
const LITELLM_SPENT: &str = "budget_exceeded";

/// The type with which a LiteLLM proxy without a database refuses a key that it does not know: with a 400.
const LITELLM_UNKNOWN_KEY: &str = "no_db_connection";

/// How Anthropic's 400 for a spent limit begins; it has no code of its own.
const ANTHROPIC_SPENT: &str = "You have reached your specified API usage limits";

/// What is known of a reply that is an error.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    /// The HTTP status, or the one that a code inside a 200 stands for.
    pub status: u16,
    /// `error.code`.
    pub code: Option<&'a str>,
    /// `error.type`.
    pub kind: Option<&'a str>,
    /// `error.details.error_code`.
    pub detail: Option<&'a str>,
    /// `error.message`.
    pub message: Option<&'a str>,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
}

/// The class of a reply that is an error.
pub(super) fn classify(facts: Facts<'_>) -> ErrorClass {
    let codes = [facts.code, facts.kind, facts.detail];
    let spent = codes
        .into_iter()
        .flatten()
        .any(|code| SPENT.contains(&code));
    let too_long = facts.retry_after.is_some_and(|wait| wait > MAX_RETRY_AFTER);
    match facts.status {
        400 if facts
            .message
            .is_some_and(|text| text.starts_with(ANTHROPIC_SPENT)) =>
        {
            ErrorClass::Exhausted
        }
        400 | 422 if codes.contains(&Some(LITELLM_SPENT)) => ErrorClass::Exhausted,
        400 if codes.contains(&Some(LITELLM_UNKNOWN_KEY)) => ErrorClass::Config,
        429 if spent || too_long => ErrorClass::Exhausted,
        402 => ErrorClass::Exhausted,
        429 | 529 => ErrorClass::Throttled,
        300..=399 | 401 | 403 | 404 | 405 | 407 | 501 => ErrorClass::Config,
        409 => ErrorClass::Server,
        // A gateway says with 408, too, that the server behind it took too long: that one may have answered.
        408 | 502 | 504 | 520..=528 => ErrorClass::Ambiguous,
        400..=499 => ErrorClass::RowFatal,
        500..=599 => ErrorClass::Server,
        _ => ErrorClass::Invalid,
    }
}

/// The status that an error inside a 200 stands for.
pub(super) fn implied_status(code: Option<&str>, kind: Option<&str>) -> u16 {
    [code, kind]
        .into_iter()
        .flatten()
        .find_map(status_of)
        .unwrap_or(500)
}

fn status_of(code: &str) -> Option<u16> {
    if SPENT.contains(&code) {
        return Some(429);
    }
    let status = match code {
        "invalid_request_error"
        | "invalid_prompt"
        | "BadRequestError"
        | "Bad Request"
        | "bio_policy"
        | "cyber_policy"
        | "data_residency_mismatch"
        | "context_length_exceeded"
        | "exceed_context_size_error" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" | "NotFoundError" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "slow_down" => 429,
        "api_error" | "server_error" | "InternalServerError" => 500,
        "not_supported_error" => 501,
        "server_is_overloaded" | "service_unavailable_error" | "unavailable_error" => 503,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        number => {
            let status = number.parse().ok()?;
            return (300..=599).contains(&status).then_some(status);
        }
    };
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Facts<'static> {
        Facts {
            status,
            ..Facts::default()
        }
    }

    #[test]
    fn every_status_has_its_class() {
        let mut table = String::new();
        let mut start = 300;
        for next in 301..=600 {
            let class = classify(status(start));
            if next == 600 || classify(status(next)) != class {
                table.push_str(&format!("{start}-{}: {}\n", next - 1, class.as_str()));
                start = next;
            }
        }
        let expected = "\
300-399: config
400-400: row_fatal
401-401: config
402-402: exhausted
403-405: config
406-406: row_fatal
407-407: config
408-408: ambiguous
409-409: server
410-428: row_fatal
429-429: throttled
430-499: row_fatal
500-500: server
501-501: config
502-502: ambiguous
503-503: server
504-504: ambiguous
505-519: server
520-528: ambiguous
529-529: throttled
530-599: server
";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_code_tells_money_from_pace_by_exact_match_only() {
        for (code, class) in [
            ("insufficient_quota", ErrorClass::Exhausted),
            ("credit_balance_exhausted", ErrorClass::Exhausted),
            ("organization_spend_limit_exceeded", ErrorClass::Exhausted),
            ("project_spend_limit_exceeded", ErrorClass::Exhausted),
            ("organization_usage_limit_exceeded", ErrorClass::Exhausted),
            ("enforced_spend_limit_reached", ErrorClass::Exhausted),
            ("budget_exceeded", ErrorClass::Exhausted),
            ("rate_limit_exceeded", ErrorClass::Throttled),
            ("rate_limit_error", ErrorClass::Throttled),
            ("slow_down", ErrorClass::Throttled),
            ("INSUFFICIENT QUOTA", ErrorClass::Throttled),
            ("INSUFFICIENT_QUOTA", ErrorClass::Throttled),
            ("insufficient_quota ", ErrorClass::Throttled),
            ("", ErrorClass::Throttled),
        ] {
            let places = [
                Facts {
                    code: Some(code),
                    ..status(429)
                },
                Facts {
                    kind: Some(code),
                    ..status(429)
                },
                Facts {
                    detail: Some(code),
                    ..status(429)
                },
            ];
            for facts in places {
                assert_eq!(classify(facts), class, "{facts:?}");
            }
            // Only a 429 can mean money by its code; the words of a message never do.
            let facts = Facts {
                code: Some(code),
                ..status(500)
            };
            assert_eq!(classify(facts), ErrorClass::Server, "{facts:?}");
            let facts = Facts {
                message: Some(code),
                ..status(429)
            };
            assert_eq!(classify(facts), ErrorClass::Throttled, "{facts:?}");
        }
    }

    #[test]
    fn what_a_litellm_proxy_says_with_a_400_or_a_422_is_known_by_its_type() {
        let said = |code, kind| Facts {
            kind: Some(kind),
            ..status(code)
        };
        for code in [400, 422] {
            let spent = said(code, "budget_exceeded");
            assert_eq!(classify(spent), ErrorClass::Exhausted, "{code}");
            let other = said(code, "insufficient_quota");
            assert_eq!(classify(other), ErrorClass::RowFatal, "{code}");
        }
        assert_eq!(classify(said(400, "no_db_connection")), ErrorClass::Config);
        assert_eq!(classify(said(503, "no_db_connection")), ErrorClass::Server);
    }

    #[test]
    fn the_one_message_that_counts_is_anthropics_spent_limit() {
        let message = "You have reached your specified API usage limits. You will regain access on 2026-12-01.";
        let facts = |code| Facts {
            message: Some(message),
            ..status(code)
        };
        assert_eq!(classify(facts(400)), ErrorClass::Exhausted);
        assert_eq!(classify(facts(422)), ErrorClass::RowFatal);
        assert_eq!(classify(facts(429)), ErrorClass::Throttled);
        let quoted = format!("x {message}");
        let facts = Facts {
            message: Some(&quoted),
            ..status(400)
        };
        assert_eq!(classify(facts), ErrorClass::RowFatal);
    }

    #[test]
    fn a_wait_beyond_the_longest_means_that_the_quota_is_gone() {
        let facts = |seconds| Facts {
            retry_after: Some(Duration::from_secs(seconds)),
            ..status(429)
        };
        assert_eq!(classify(facts(900)), ErrorClass::Throttled);
        assert_eq!(classify(facts(901)), ErrorClass::Exhausted);
    }

    #[test]
    fn an_error_inside_a_200_is_classified_through_the_status_it_stands_for() {
        for (code, kind, status) in [
            (Some("rate_limit_exceeded"), None, 429),
            (None, Some("overloaded_error"), 529),
            (Some("insufficient_quota"), None, 429),
            (Some("invalid_prompt"), None, 400),
            (Some("404"), None, 404),
            (Some("7"), Some("authentication_error"), 401),
            (Some("server_error"), None, 500),
            (Some("never_seen"), Some("neither"), 500),
            (None, None, 500),
        ] {
            assert_eq!(implied_status(code, kind), status, "{code:?} {kind:?}");
        }
    }
}
