//! Which web pages may use this POP from a browser (the Fetch standard's CORS protocol).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use thiserror::Error;

use crate::pop::Pop;

/// How long a browser may remember a preflight, seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
/// What a page may read of an answer's headers.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-obsidian-request-id, x-obsidian-route, x-obsidian-reason, x-obsidian-pop, retry-after",
);
/// Longest list of header names a preflight may ask for, bytes.
const MAX_ASKED_BYTES: usize = 1_024;

/// Origins whose pages may use this POP. Empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `https://app.example.com`, or `*` for all.
    pub origins: Vec<String>,
    /// Whether browsers may send their credentials (cookies, client certificates) along.
    pub credentials: bool,
}

/// Origins that cannot or must not be allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CorsError {
    /// Not `SCHEME://HOST[:PORT]`.
    #[error("cors.origins: \"{0}\" is no origin: write https://app.example.com, without a path, or *")]
    Origin(String),
    /// Any page could act as whoever is logged in.
    #[error("cors.origins \"*\" with cors.credentials = true is refused by browsers: name the origins")]
    AllWithCredentials,
    /// Any page that a user of this machine visits could use it.
    #[error(
        "cors.origins \"*\" without API keys would let any web page use this POP: name the origins, or configure API keys"
    )]
    AllWithoutKeys,
}

impl Cors {
    /// Refuses what is malformed or unsafe.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self, has_keys: bool) -> Result<(), CorsError> {
        for origin in &self.origins {
            if origin == "*" {
                if self.credentials {
                    return Err(CorsError::AllWithCredentials);
                }
                if !has_keys {
                    return Err(CorsError::AllWithoutKeys);
                }
            } else if !is_origin(origin) {
                return Err(CorsError::Origin(origin.chars().take(64).collect()));
            }
        }
        Ok(())
    }

    /// What `Access-Control-Allow-Origin` says to a page of `origin`.
    fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(text)).then(|| origin.clone())
    }
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let bare = uri.path() == "/" && uri.query().is_none() && !text.ends_with('/');
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    bare && scheme && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

/// Answers preflights and marks answers for the pages that may read them.
pub(super) async fn layer(State(pop): State<Arc<Pop>>, request: Request, next: Next) -> Response {
    let cors = &pop.ingress().cors;
    let origin = request.headers().get(ORIGIN).cloned();
    let Some(origin) = origin.filter(|_| !cors.origins.is_empty()) else {
        return next.run(request).await;
    };
    let allowed = cors.allow(&origin);
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks { preflight(allowed.is_some(), request.headers()) } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(allowed) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if cors.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
    response
}

/// A preflight never reaches the routes: it carries no key.
fn preflight(allowed: bool, asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allowed {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        // Clients of OpenAI's API send many headers of their own; none of them does anything here.
        let names = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| names.len() <= MAX_ASKED_BYTES);
        if let Some(names) = names {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{Cors, CorsError};

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors { origins: origins.iter().map(|origin| (*origin).to_owned()).collect(), credentials }
    }

    #[test]
    fn what_is_unsafe_or_no_origin_is_refused() {
        assert_eq!(cors(&["https://a.example", "http://localhost:3000"], true).check(false), Ok(()));
        assert_eq!(cors(&["*"], false).check(true), Ok(()));
        assert_eq!(cors(&["*"], true).check(true), Err(CorsError::AllWithCredentials));
        assert_eq!(cors(&["*"], false).check(false), Err(CorsError::AllWithoutKeys));
        for wrong in
            ["a.example", "https://a.example/", "https://a.example/x", "file:///x", "https://u@a.example", "null", ""]
        {
            assert!(matches!(cors(&[wrong], false).check(true), Err(CorsError::Origin(_))), "{wrong}");
        }
    }

    #[test]
    fn only_configured_origins_are_allowed() {
        let some = cors(&["https://a.example"], false);
        let allow = |origin: &'static str| some.allow(&HeaderValue::from_static(origin));
        assert_eq!(allow("https://a.example"), Some(HeaderValue::from_static("https://a.example")));
        for other in ["http://a.example", "https://a.example.evil", "https://b.a.example", "null"] {
            assert_eq!(allow(other), None, "{other}");
        }
        assert_eq!(
            cors(&["*"], false).allow(&HeaderValue::from_static("https://x")),
            Some(HeaderValue::from_static("*"))
        );
    }
}
