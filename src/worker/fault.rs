//! The body of a reply that is an error, in whichever of its many forms.

use super::json::Json;
use super::wire;

/// What the body says. Everything is optional: an error may be HTML or nothing at all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// The code: OpenAI's word, or the number that vLLM and llama.cpp repeat the status in.
    pub code: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// Anthropic's `error.details.error_code`.
    pub detail: Option<String>,
    /// What went wrong, in the provider's words.
    pub message: Option<String>,
    /// The id of the request, where the body repeats it.
    pub request_id: Option<String>,
}

impl Fault {
    /// Reads the body of a reply with an error status.
    pub(super) fn read(body: &[u8]) -> Self {
        match wire::parse(body) {
            Ok(json) => {
                let mut fault = Self::of(&json);
                // In a form of its own: better all of it than nothing.
                let foreign = !json.fields().is_empty();
                if json.get("error").is_none() && fault.message.is_none() && foreign {
                    fault.message = Some(json.to_string());
                }
                fault
            }
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                let text = text.trim();
                let html = text.starts_with('<').then_some("a page of HTML");
                Fault {
                    message: Some(html.unwrap_or(text).to_owned()).filter(|text| !text.is_empty()),
                    ..Fault::default()
                }
            }
        }
    }

    /// Reads the error out of a JSON body.
    pub(super) fn of(json: &Json<'_>) -> Self {
        let error = match &json["error"] {
            Json::Object(_) => &json["error"],
            // Old vLLM: the fields stand at the top.
            _ => json,
        };
        let message = [&error["message"], &json["error"], &json["detail"], json]
            .into_iter()
            .find_map(|value| match value {
                Json::String(text) => Some(text.clone().into_owned()),
                Json::Array(items) if !items.is_empty() => Some(json["detail"].to_string()),
                _ => None,
            });
        Fault {
            code: word(&error["code"]),
            // At the top of Anthropic's body the type is only "error".
            kind: word(&error["type"]).filter(|kind| kind != "error"),
            detail: word(&error["details"]["error_code"]),
            message,
            request_id: word(&json["request_id"]),
        }
    }

    /// The same fault, every text in it changed like this.
    pub(super) fn map(self, change: impl Fn(String) -> String) -> Self {
        Fault {
            code: self.code.map(&change),
            kind: self.kind.map(&change),
            detail: self.detail.map(&change),
            message: self.message.map(&change),
            request_id: self.request_id.map(&change),
        }
    }

    /// The code or type that says the most.
    pub(super) fn name(&self) -> Option<&str> {
        let code = self.code.as_deref();
        let number = |code: &&str| code.parse::<i64>().is_ok();
        [self.detail.as_deref(), code.filter(|code| !number(code))]
            .into_iter()
            .chain([self.kind.as_deref(), code])
            .flatten()
            .next()
    }
}

/// Whether a body with a good status is an error all the same.
pub(super) fn is_error(json: &Json<'_>) -> bool {
    let error = &json["error"];
    let says_something = error.as_str().is_some_and(|text| !text.is_empty());
    let is_named = |place: &str| json[place].as_str() == Some("error");
    error.is_object() || says_something || is_named("type") || is_named("object")
}

fn word(value: &Json<'_>) -> Option<String> {
    match value {
        Json::String(text) if !text.is_empty() => Some(text.clone().into_owned()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_error_body_is_read() {
        for (body, name, message) in [
            (
                r#"{"error":{"message":"no","type":"t","param":null,"code":"c"}}"#,
                Some("c"),
                Some("no"),
            ),
            (
                r#"{"error":{"message":"no","type":"t","code":null}}"#,
                Some("t"),
                Some("no"),
            ),
            (
                r#"{"error":{"message":"no","type":"NotFoundError","code":404}}"#,
                Some("NotFoundError"),
                Some("no"),
            ),
            (
                r#"{"error":{"code":503,"message":"Loading model"}}"#,
                Some("503"),
                Some("Loading model"),
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#,
                Some("overloaded_error"),
                Some("Overloaded"),
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                Some("enforced_spend_limit_reached"),
                Some("m"),
            ),
            (r#"{"error":"Unauthorized"}"#, None, Some("Unauthorized")),
            (
                r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
                Some("BadRequestError"),
                Some("too long"),
            ),
            (r#"{"detail":"Not Found"}"#, None, Some("Not Found")),
            (
                r#"{"detail":[{"loc":["body"],"msg":"bad"}]}"#,
                None,
                Some(r#"[{"loc":["body"],"msg":"bad"}]"#),
            ),
            ("Internal Server Error", None, Some("Internal Server Error")),
            (
                "<html><head><title>502</title></head></html>",
                None,
                Some("a page of HTML"),
            ),
            ("", None, None),
            ("{}", None, None),
            ("[]", None, None),
            ("null", None, None),
            (r#""oops""#, None, Some("oops")),
            (r#"{"error":{}}"#, None, None),
            (
                r#"{"status":"failure","message":"no provider"}"#,
                None,
                Some("no provider"),
            ),
            (
                r#"{"html-message":"fetch failed"}"#,
                None,
                Some(r#"{"html-message":"fetch failed"}"#),
            ),
            (r#"{"error":{"message":7,"code":true}}"#, None, None),
        ] {
            let fault = Fault::read(body.as_bytes());
            let read = (fault.name(), fault.message.as_deref());
            assert_eq!(read, (name, message), "{body}");
        }
    }
}
