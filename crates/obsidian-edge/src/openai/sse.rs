//! Server-sent events framing (WHATWG HTML, section 9.2), as OpenAI uses it: `data:` lines only.

use bytes::Bytes;
use serde_json::Value;

/// The event that ends a stream.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// One event. Compact JSON never holds a raw line break, so one `data:` line always suffices.
pub(crate) fn event(body: &Value) -> Bytes {
    Bytes::from(format!("data: {body}\n\n"))
}
