//! OpenAI's error object, with the HTTP status it travels under.
//!
//! Messages name fields, types and limits, never the text a client sent: an error may be shown in a
//! client's log, and the text may hold personal data.

use http::StatusCode;
use serde_json::{Value, json};

/// Seconds after which a refused client may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Most characters of a name the client chose that an error repeats.
const MAX_SHOWN_CHARACTERS: usize = 64;

/// An error as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// What is wrong and what to do.
    pub(crate) message: String,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    /// The offending field, as a path.
    pub(crate) param: Option<String>,
    /// Machine-readable code.
    pub(crate) code: Option<&'static str>,
    /// `Retry-After`, seconds.
    pub(crate) retry_after: Option<u32>,
}

impl ApiError {
    /// A 400 about one field.
    pub(crate) fn invalid(param: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            kind: "invalid_request_error",
            param: (!param.is_empty()).then(|| param.to_owned()),
            code: Some(code),
            retry_after: None,
        }
    }

    /// A client error that is about no field.
    pub(crate) fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, ..Self::invalid("", code, message) }
    }

    /// A field, or a value of it, that OpenAI knows and this release does not; `why` is part of a sentence.
    pub(crate) fn unsupported(param: &str, why: &str) -> Self {
        let message = format!("Unsupported parameter: '{param}' is not supported by this server: {why}.");
        Self::invalid(param, "unsupported_parameter", message)
    }

    /// A field nobody knows.
    pub(crate) fn unknown(param: &str) -> Self {
        let param = &shorten(param);
        Self::invalid(param, "unknown_parameter", format!("Unknown parameter: '{param}'."))
    }

    /// A field that must be there.
    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::invalid(param, "missing_required_parameter", message)
    }

    /// A model name this POP does not serve.
    pub(crate) fn model_not_found(model: &str) -> Self {
        let model = shorten(model);
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::refused(StatusCode::NOT_FOUND, "model_not_found", message)
    }

    /// 429: this tenant asks too much.
    pub(crate) fn too_many_requests(message: impl Into<String>) -> Self {
        Self {
            kind: "requests",
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Self::refused(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
        }
    }

    /// The same, to be tried again after `seconds`.
    pub(crate) fn after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// 503: this part cannot serve now; trying again may help.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "server_error",
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Self::refused(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// 500: a fault of this server.
    pub(crate) fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: "server_error", ..Self::refused(StatusCode::INTERNAL_SERVER_ERROR, code, message) }
    }

    /// The body: `{"error": {"message", "type", "param", "code"}}`.
    pub(crate) fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

/// A name the client chose, cut so that an error stays small.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(MAX_SHOWN_CHARACTERS) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}
