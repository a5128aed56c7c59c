//! What a request is called, and whose it is as far as the network knows.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use obsidian_types::limits::MAX_REQUEST_ID_CHARACTERS;

use super::{X_OPENAI_REQUEST_ID, X_REQUEST_ID};

/// The client's address; behind trusted proxies, the one they report.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) IpAddr);

/// A request's id: the client's own if it is sane, else one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestName(pub(super) Arc<str>);

/// The id of a request.
pub(super) fn of_request(headers: &HeaderMap) -> RequestName {
    let named = headers.get(X_OPENAI_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_sane(text));
    if let Some(named) = named {
        return RequestName(named.into());
    }
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // A request without a name of its own is still answered.
        return RequestName("unnamed".into());
    }
    RequestName(crate::tenants::hexadecimal(&bytes).into())
}

/// It goes into logs and headers as it is.
fn is_sane(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:".contains(character);
    (1..=MAX_REQUEST_ID_CHARACTERS).contains(&text.len()) && text.chars().all(plain)
}

/// Tells the client the request's id.
pub(super) fn mark(headers: &mut HeaderMap, id: &RequestName) {
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(X_REQUEST_ID, value.clone());
        headers.insert(X_OPENAI_REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{X_OPENAI_REQUEST_ID, of_request};

    fn named(id: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(X_OPENAI_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        of_request(&headers).0.to_string()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        assert_eq!(named("req-7.a_b:c"), "req-7.a_b:c");
        let long = "x".repeat(129);
        for wrong in ["", "a b", "a\"b", "id=1", &long] {
            let made = named(wrong);
            assert!(made.len() == 32 && made.chars().all(|digit| digit.is_ascii_hexdigit()), "{made}");
        }
        assert_ne!(of_request(&HeaderMap::new()), of_request(&HeaderMap::new()));
    }
}
