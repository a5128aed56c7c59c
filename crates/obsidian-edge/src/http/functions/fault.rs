//! The one place that turns a function's failure into what its client sees.

use http::StatusCode;
use obsidian_sandbox::functions::FunctionError;

use crate::openai::error::ApiError;

/// What the client sees.
pub(super) fn to_api(error: &FunctionError) -> ApiError {
    let message = sentence(&error.to_string());
    let server = |status, code| ApiError { kind: "server_error", ..ApiError::refused(status, code, message.clone()) };
    match error {
        FunctionError::Busy { .. } => ApiError { code: Some("function_busy"), ..ApiError::too_many_requests(message) },
        FunctionError::NodeFull => ApiError::unavailable("node_full", message),
        FunctionError::WallTime { .. } => server(StatusCode::GATEWAY_TIMEOUT, "function_wall_time"),
        FunctionError::CpuTime { .. } => server(StatusCode::GATEWAY_TIMEOUT, "function_cpu_time"),
        FunctionError::Fuel { .. } => server(StatusCode::GATEWAY_TIMEOUT, "function_fuel"),
        FunctionError::Memory { .. } => server(StatusCode::INTERNAL_SERVER_ERROR, "function_memory"),
        FunctionError::Table { .. } => server(StatusCode::INTERNAL_SERVER_ERROR, "function_table"),
        FunctionError::Trap { .. } => server(StatusCode::INTERNAL_SERVER_ERROR, "function_trapped"),
        FunctionError::NoAnswer { .. } => server(StatusCode::BAD_GATEWAY, "function_no_answer"),
        FunctionError::Refused { .. } => server(StatusCode::BAD_GATEWAY, "function_refused"),
        FunctionError::RequestTooLong { .. } => {
            ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        }
        FunctionError::Stopping => ApiError::unavailable("shutting_down", message),
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
    use obsidian_sandbox::functions::FunctionError;

    use super::to_api;

    #[test]
    fn each_failure_has_its_status_and_overload_says_when_to_come_back() {
        let module = || "shop".to_owned();
        for (error, status, code, retry) in [
            (FunctionError::Busy { module: module(), running: 1, waiting: 2 }, 429, "function_busy", true),
            (FunctionError::NodeFull, 503, "node_full", true),
            (FunctionError::WallTime { module: module(), limit_ms: 5 }, 504, "function_wall_time", false),
            (FunctionError::CpuTime { module: module(), limit_ms: 5 }, 504, "function_cpu_time", false),
            (FunctionError::Fuel { module: module(), limit: 5 }, 504, "function_fuel", false),
            (FunctionError::Memory { module: module(), limit_bytes: 5 }, 500, "function_memory", false),
            (FunctionError::Table { module: module(), limit: 5 }, 500, "function_table", false),
            (FunctionError::Trap { module: module(), reason: "unreachable".into() }, 500, "function_trapped", false),
            (FunctionError::NoAnswer { module: module() }, 502, "function_no_answer", false),
            (FunctionError::Refused { module: module(), code: "DNS-error".into() }, 502, "function_refused", false),
            (FunctionError::RequestTooLong { module: module(), limit: 5 }, 413, "body_too_large", false),
            (FunctionError::Stopping, 503, "shutting_down", true),
        ] {
            let api = to_api(&error);
            assert_eq!((api.status.as_u16(), api.code, api.retry_after.is_some()), (status, Some(code), retry));
            assert!(api.message.ends_with('.') && api.message.starts_with(char::is_uppercase), "{}", api.message);
        }
    }
}
