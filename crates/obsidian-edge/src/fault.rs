//! Why a request gets no answer, and the one place that turns it into what the client sees.

use http::StatusCode;
use obsidian_router::RouteError;
use obsidian_shield::MaskError;
use obsidian_types::TokenId;
use thiserror::Error;

use crate::capability::Need;
use crate::openai::error::ApiError;
use crate::sanitise::SanitiseError;

/// Why a request gets no (or no complete) answer. Never holds prompt text.
#[derive(Debug, Error)]
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
    fn a_long_prompt_names_both_numbers() {
        let error = Fault::ContextExceeded { prompt: 5000, limit: 512 }.to_api();
        assert_eq!((error.status.as_u16(), error.code), (400, Some("context_length_exceeded")));
        assert!(error.message.contains("512 tokens") && error.message.contains("5000 tokens"));
    }
}
