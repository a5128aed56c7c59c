//! The POP's HTTP surface: routes, headers, connections. Knows OpenAI's shapes only through [`crate::openai`].

mod body;
mod connections;
mod cors;
mod entry;
mod functions;
mod generate;
mod health;
mod host;
mod identity;
mod models;
mod running;
pub(crate) mod server;
mod socket;
mod streams;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::Value;

pub(crate) use self::body::BodyBudget;
pub(crate) use self::connections::Addresses;
pub use self::cors::{Cors, CorsError};
pub(crate) use self::entry::Seat;
use crate::openai::error::ApiError;
use crate::pop::{Pop, unix_seconds};
use crate::tenants::{Caller, Unknown};

const X_ROUTE: HeaderName = HeaderName::from_static("x-obsidian-route");
const X_REASON: HeaderName = HeaderName::from_static("x-obsidian-reason");
const X_POP: HeaderName = HeaderName::from_static("x-obsidian-pop");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-obsidian-request-id");
/// OpenAI's clients show this one in their errors.
const X_OPENAI_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All routes.
pub(crate) fn routes(pop: Arc<Pop>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(generate::chat_completions))
        .route("/v1/completions", post(generate::text_completions))
        .route("/v1/responses", post(generate::create_response))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(pop.clone(), host::guard))
        // Outside of that, so that a page may read refusals too.
        .layer(axum::middleware::from_fn_with_state(pop.clone(), cors::layer))
        // Functions speak to pages for themselves.
        .merge(functions::routes().layer(axum::middleware::from_fn_with_state(pop.clone(), host::guard)))
        // Outermost: a host name of a function has no paths of ours.
        .layer(axum::middleware::from_fn_with_state(pop.clone(), functions::by_host))
        .with_state(pop)
}

async fn no_such_path(State(pop): State<Arc<Pop>>, method: Method, uri: Uri) -> Response {
    // The path is the client's text and may be long.
    let path: String = uri.path().chars().take(128).collect();
    let message = format!("Invalid URL ({method} {path}).");
    error(&pop, &ApiError::refused(StatusCode::NOT_FOUND, "unknown_url", message))
}

async fn wrong_method(State(pop): State<Arc<Pop>>, method: Method) -> Response {
    let message = format!("Not allowed to {method} here.");
    error(&pop, &ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
}

/// Who sent a request, by its bearer token.
fn authenticate(pop: &Pop, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    pop.tenants.authenticate(bearer, unix_seconds()).map_err(|unknown| {
        let (code, message) = match unknown {
            Unknown::NoKey => {
                ("invalid_api_key", "You didn't provide an API key: send it as 'Authorization: Bearer KEY'.")
            }
            Unknown::WrongKey => ("invalid_api_key", "Incorrect API key provided."),
            Unknown::Expired => ("expired_api_key", "This API key has expired: ask this POP's operator for another."),
        };
        ApiError::refused(StatusCode::UNAUTHORIZED, code, message)
    })
}

/// A JSON answer.
fn json(pop: &Pop, status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    put(headers, X_POP, &pop.config.pop_name);
    response
}

/// An error in OpenAI's shape.
fn error(pop: &Pop, error: &ApiError) -> Response {
    let mut response = json(pop, error.status, &error.body());
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after {
        put(headers, RETRY_AFTER, &seconds.to_string());
    }
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Sets a header to our own text; what no header can hold is left out.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
