//! Heads of requests and answers between client and function: what belongs to one connection stays behind.

use axum::extract::Request;
use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, UPGRADE};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use obsidian_wire::hop::remove_hop_by_hop;

use super::super::identity::{ClientAddress, RequestName};
use super::super::put;
use crate::openai::error::ApiError;
use crate::pop::Pop;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What `wasi:http` has no words for.
pub(super) fn refuse_upgrade(request: &Request) -> Result<(), ApiError> {
    let asks = request.headers().get_all(CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case("upgrade")))
    });
    // A client that offers HTTP/2 goes on with HTTP/1.1 all the same.
    let h2c = request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"h2c"));
    if request.method() == Method::CONNECT || (asks && request.headers().contains_key(UPGRADE) && !h2c) {
        let message = "Functions cannot take over a connection (WebSocket), because wasi:http cannot: use server-sent \
                       events or a streamed body.";
        return Err(ApiError::refused(StatusCode::NOT_IMPLEMENTED, "upgrade_not_supported", message));
    }
    Ok(())
}

/// A request as the function sees it: its own path, an absolute address, and who is at the other end by our word alone.
pub(super) fn for_function(pop: &Pop, request: Request, prefix: &str) -> Request {
    let (mut head, body) = request.into_parts();
    remove_hop_by_hop(&mut head.headers);
    for ours in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PREFIX, X_REAL_IP] {
        head.headers.remove(ours);
    }
    if let Some(ClientAddress(address)) = head.extensions.get() {
        put(&mut head.headers, X_FORWARDED_FOR, &address.to_string());
    }
    if let Some(RequestName(name)) = head.extensions.get::<RequestName>() {
        put(&mut head.headers, super::super::X_OPENAI_REQUEST_ID, &name.clone());
    }
    let scheme = if pop.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    put(&mut head.headers, X_FORWARDED_PROTO, scheme.as_str());
    if !prefix.is_empty() {
        put(&mut head.headers, X_FORWARDED_PREFIX, prefix);
    }
    let authority = authority(&head.uri, &head.headers).unwrap_or_else(|| Authority::from_static("localhost"));
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        head.headers.insert(HOST, host);
    }
    head.uri = own_uri(&head.uri, prefix, scheme, authority);
    // What the POP keeps about a request is no business of the function.
    head.extensions.clear();
    Request::from_parts(head, body)
}

/// HTTP/2 names the host in the URI, HTTP/1.1 in `Host`.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| Authority::try_from(headers.get(HOST)?.as_bytes()).ok())
}

/// The address without what leads to the function.
fn own_uri(uri: &Uri, prefix: &str, scheme: Scheme, authority: Authority) -> Uri {
    let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = whole.strip_prefix(prefix).unwrap_or(whole);
    let own = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = own.parse().ok();
    // Each part was one of a valid address.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// What a function's answer says to the client, without what it must not say.
pub(super) fn for_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    // These are the POP's own words.
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-obsidian-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// How many bytes of a body its client will take, where that is known from the head.
pub(super) fn promised<B>(method: &Method, response: &Response<B>) -> Option<u64> {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if *method == Method::HEAD || bodiless {
        return Some(0);
    }
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::uri::{Authority, Scheme};
    use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};

    use super::{for_client, own_uri, promised, refuse_upgrade};

    #[test]
    fn a_function_sees_its_own_paths() {
        for (path, own) in [
            ("/fn/shop", "/"),
            ("/fn/shop?a=1", "/?a=1"),
            ("/fn/shop/", "/"),
            ("/fn/shop/a%2Fb/c?d=/fn/shop", "/a%2Fb/c?d=/fn/shop"),
            ("/fn/shop//x", "//x"),
        ] {
            let uri = own_uri(&path.parse::<Uri>().unwrap(), "/fn/shop", Scheme::HTTP, Authority::from_static("h:1"));
            assert_eq!(uri.to_string(), format!("http://h:1{own}"), "{path}");
        }
        let uri = own_uri(&"/a?b".parse::<Uri>().unwrap(), "", Scheme::HTTPS, Authority::from_static("h"));
        assert_eq!(uri.to_string(), "https://h/a?b");
    }

    #[test]
    fn a_head_says_where_its_body_ends() {
        let answer = |status: u16, length: &str| {
            let response = Response::builder().status(status);
            if length.is_empty() { response } else { response.header("content-length", length) }.body(()).unwrap()
        };
        for (method, status, length, expected) in [
            (Method::GET, 200, "", None),
            (Method::GET, 200, "7", Some(7)),
            (Method::GET, 200, "x", None),
            (Method::HEAD, 200, "7", Some(0)),
            (Method::GET, 204, "", Some(0)),
            (Method::GET, 304, "7", Some(0)),
        ] {
            assert_eq!(promised(&method, &answer(status, length)), expected, "{method} {status} {length}");
        }
    }

    #[test]
    fn upgrades_are_refused_with_a_reason_and_h2c_is_ignored() {
        let asking = |to: &str, connection: &str| {
            Request::builder().header("upgrade", to).header("connection", connection).body(Body::empty()).unwrap()
        };
        let error = refuse_upgrade(&asking("websocket", "keep-alive, Upgrade")).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (501, Some("upgrade_not_supported")));
        assert!(refuse_upgrade(&asking("h2c", "Upgrade, HTTP2-Settings")).is_ok());
        assert!(refuse_upgrade(&asking("websocket", "close")).is_ok());
    }

    #[test]
    fn an_answer_brings_neither_connection_headers_nor_our_own() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-once"),
            ("x-once", "1"),
            ("transfer-encoding", "chunked"),
            ("x-obsidian-module", "another"),
            ("content-type", "text/plain"),
            ("trailer", "x-sum"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for_client(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "trailer"]);
    }
}
