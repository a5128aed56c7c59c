//! Why a request gets no answer, and the one place that turns it into what the client sees.

use http::StatusCode;
use obsidian_router::RouteError;
use obsidian_shield::MaskError;
use obsidian_types::TokenId;
use obsidian_wire::core::CoreError;
use thiserror::Error;

use crate::capability::Need;
use crate::openai::error::ApiError;
use crate::sanitise::SanitiseError;

/// Why a request gets no (or no complete) answer. Never holds prompt text.
#[derive(Clone, Debug, Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Sanitise(#[from] SanitiseError),
    #[error("no model of that name")]
    ModelNotFound(String),
    #[error("no core upstream is configured on this POP: ask for 'auto', 'edge' or 'hub'")]
    CoreNotConfigured,
    #[error(
        "the residency asked for keeps data off the tier asked for: ask for another model, or widen obsidian.residency"
    )]
    Residency,
    #[error("the model has no token {id}: ids in 'logit_bias' are below {vocabulary_size}")]
    UnknownToken { id: TokenId, vocabulary_size: u32 },
    #[error("'logprobs' cannot be told for the model 'hub', which sends no probabilities: ask for 'edge' or 'auto'")]
    LogprobsAtHub,
    #[error("'{}' needs an upstream, and this request cannot go to one: {}", .0.param, .0.why)]
    NeedsUpstream(Need),
    #[error(transparent)]
    Mask(#[from] MaskError),
    #[error("the privacy shield cannot serve this request, so it was not processed")]
    Shield,
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(
        "this model's maximum context length is {limit} tokens, but the messages result in {prompt} tokens: send less history"
    )]
    ContextExceeded { prompt: usize, limit: u32 },
    #[error("{0} is busy: try again shortly")]
    Overloaded(&'static str),
    #[error("the model's chat template refused the messages")]
    Template,
    #[error("no model could finish the answer: {0}")]
    Model(String),
    #[error("the answer took longer than this POP allows: ask for fewer tokens")]
    Deadline,
    #[error(transparent)]
    Core(CoreError),
    #[error("the client is gone")]
    ClientGone,
    #[error("the POP is shutting down")]
    ShuttingDown,
    #[error("an internal fault ended the request")]
    Internal,
}

impl Fault {
    /// What the client sees.
    pub(crate) fn to_api(&self) -> ApiError {
        let message = sentence(&self.to_string());
        match self {
            Self::Sanitise(error) => {
                let code = match error {
                    SanitiseError::NoMessages => "empty_array",
                    SanitiseError::TooManyMessages { .. } | SanitiseError::TooManyTexts { .. } => {
                        "array_above_max_length"
                    }
                    SanitiseError::TooLong { .. } => "string_above_max_length",
                    SanitiseError::ControlCharacter { .. } => "invalid_control_character",
                };
                ApiError::invalid(error.field(), code, message)
            }
            Self::ModelNotFound(name) => ApiError::model_not_found(name),
            Self::CoreNotConfigured => ApiError::refused(StatusCode::NOT_FOUND, "core_not_configured", message),
            Self::Residency => ApiError::invalid("obsidian.residency", "residency_conflict", message),
            Self::UnknownToken { .. } => ApiError::invalid("logit_bias", "invalid_value", message),
            Self::LogprobsAtHub => ApiError::invalid("logprobs", "unsupported_parameter", message),
            Self::NeedsUpstream(need) => ApiError::invalid(need.param, "unsupported_parameter", message),
            Self::Mask(_) => ApiError::invalid("messages", "shield_limit_exceeded", message),
            Self::Shield => ApiError::unavailable("shield_unavailable", message),
            Self::Route(RouteError::NoTier { .. }) => ApiError::unavailable("no_tier_available", message),
            Self::ContextExceeded { .. } => ApiError::invalid("messages", "context_length_exceeded", message),
            Self::Overloaded(_) => ApiError::unavailable("overloaded", message),
            Self::Template => ApiError::invalid("messages", "invalid_messages", message),
            Self::Model(_) => ApiError::unavailable("model_unavailable", message),
            Self::Deadline => ApiError {
                kind: "server_error",
                ..ApiError::refused(StatusCode::GATEWAY_TIMEOUT, "request_timeout", message)
            },
            Self::Core(error) => upstream_error(error, message),
            // Nobody reads it; 499 is what proxies log for a client that left.
            Self::ClientGone => {
                let status = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
                ApiError::refused(status, "client_closed_request", message)
            }
            Self::ShuttingDown => ApiError::unavailable("shutting_down", message),
            Self::Internal => ApiError::internal("internal_error", message),
        }
    }
}

/// What the client sees of an upstream's failure.
fn upstream_error(error: &CoreError, message: String) -> ApiError {
    let server = |status, code| ApiError { kind: "server_error", ..ApiError::refused(status, code, message.clone()) };
    let bad_gateway = |code| server(StatusCode::BAD_GATEWAY, code);
    let mut api = match error {
        CoreError::Unavailable { .. } => ApiError::unavailable("upstream_unavailable", message),
        CoreError::Connect { .. } => bad_gateway("upstream_unreachable"),
        CoreError::Lost { .. } | CoreError::Reported { .. } => bad_gateway("upstream_broke_off"),
        CoreError::Timeout { .. } => server(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
        CoreError::Auth { .. } => bad_gateway("upstream_auth"),
        CoreError::RateLimited { .. } => {
            let busy = ApiError::too_many_requests(message);
            ApiError { code: Some("upstream_rate_limited"), ..busy }
        }
        CoreError::Rejected { upstream, status, message: words } => {
            let said = if words.is_empty() { String::new() } else { format!(": {}", words.expose()) };
            let message = format!("Upstream {upstream} refused the request (status {status}){said}");
            ApiError::refused(StatusCode::BAD_REQUEST, "upstream_rejected", message)
        }
        CoreError::Failed { .. } => bad_gateway("upstream_error"),
        CoreError::Protocol { .. } => bad_gateway("upstream_invalid_response"),
    };
    if let Some(delay) = error.retry_after() {
        api.retry_after = Some(u32::try_from(delay.as_secs()).unwrap_or(u32::MAX).max(1));
    }
    api
}

/// Upper case at the start, a full stop at the end.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        None => String::new(),
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;
    use obsidian_wire::core::CoreError;
    use std::time::Duration;

    #[test]
    fn overload_says_when_to_come_back() {
        let error = Fault::Overloaded("the draft model").to_api();
        assert_eq!((error.status.as_u16(), error.retry_after), (503, Some(1)));
        assert_eq!(error.message, "The draft model is busy: try again shortly.");
    }

    #[test]
    fn the_core_route_says_that_it_is_not_there() {
        let error = Fault::CoreNotConfigured.to_api();
        assert_eq!((error.status.as_u16(), error.code), (404, Some("core_not_configured")));
        assert!(error.message.starts_with("No core upstream is configured"));
    }

    #[test]
    fn an_upstream_fault_has_a_code_of_its_own_and_repeats_no_text_in_logs() {
        let upstream = || "one".to_owned();
        let auth = Fault::Core(CoreError::Auth { upstream: upstream(), status: 401 }).to_api();
        assert_eq!((auth.status.as_u16(), auth.code), (502, Some("upstream_auth")));
        let limited = CoreError::RateLimited { upstream: upstream(), retry_after: Some(Duration::from_secs(7)) };
        let limited = Fault::Core(limited).to_api();
        assert_eq!((limited.status.as_u16(), limited.retry_after), (429, Some(7)));
        let said = CoreError::Rejected { upstream: upstream(), status: 404, message: "no such model".into() };
        let fault = Fault::Core(said);
        assert!(!format!("{fault} {fault:?}").contains("no such"));
        let api = fault.to_api();
        assert_eq!(api.message, "Upstream one refused the request (status 404): no such model");
        assert_eq!((api.status.as_u16(), api.code), (400, Some("upstream_rejected")));
    }

    #[test]
    fn a_long_prompt_names_both_numbers() {
        let error = Fault::ContextExceeded { prompt: 5000, limit: 512 }.to_api();
        assert_eq!((error.status.as_u16(), error.code), (400, Some("context_length_exceeded")));
        assert!(error.message.contains("512 tokens") && error.message.contains("5000 tokens"));
    }
}
