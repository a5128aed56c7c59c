//! Which `Host` a POP without keys answers to.
//!
//! Such a POP trusts everybody on its loopback listener, and a browser on this machine is somebody: a web page
//! whose own name was rebound to 127.0.0.1 could use it as if it were same-origin. The page cannot choose the
//! `Host` its requests carry, so names that are not loopback are turned away.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::header::HOST;
use http::uri::Authority;

use crate::openai::error::ApiError;
use crate::pop::Pop;

/// Lets a request pass if keys protect this POP, or if it was meant for a loopback name.
pub(super) async fn guard(State(pop): State<Arc<Pop>>, request: Request, next: Next) -> Response {
    if pop.tenants.is_open() && !is_meant_for_loopback(&request) {
        let message = "This POP has no API keys and answers to loopback names only: use http://127.0.0.1 or http://localhost, or configure API keys.";
        return super::error(&pop, &ApiError::refused(StatusCode::FORBIDDEN, "host_not_allowed", message));
    }
    next.run(request).await
}

/// HTTP/2 names the host in the URI, HTTP/1.1 in `Host`. Clients that name none are no browsers.
fn is_meant_for_loopback(request: &Request) -> bool {
    if let Some(authority) = request.uri().authority() {
        return is_loopback(authority);
    }
    request
        .headers()
        .get_all(HOST)
        .iter()
        .all(|host| Authority::try_from(host.as_bytes()).is_ok_and(|authority| is_loopback(&authority)))
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback() {
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("evil.example", false),
            ("localhost.evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1:8080", false),
            ("localhost@evil.example", false),
        ] {
            assert_eq!(is_loopback(&Authority::from_static(host)), expected, "{host}");
        }
    }
}
