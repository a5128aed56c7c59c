//! Server-sent events framing (WHATWG HTML, section 9.2), as OpenAI uses it.

use bytes::Bytes;
use serde_json::Value;

/// The event that ends a stream of chunks.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// One event. Compact JSON never holds a raw line break, so one `data:` line always suffices.
pub(crate) fn event(body: &Value) -> Bytes {
    Bytes::from(format!("data: {body}\n\n"))
}

/// One event that carries its `type` as its name too.
pub(crate) fn named(name: &str, body: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {body}\n\n"))
}
