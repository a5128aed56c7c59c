//! Answers; what fails on the way to a client that has left is of no interest here.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::OutputStream;

/// Sends the head of an answer. The body is open.
pub(crate) fn begin(out: ResponseOutparam, headers: &[(String, Vec<u8>)]) -> Option<(OutgoingBody, OutputStream)> {
    let response = OutgoingResponse::new(Fields::from_list(headers).ok()?);
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().ok()?;
    Some((body, stream))
}

/// A whole answer.
pub(crate) fn text(out: ResponseOutparam, text: &str) {
    let Some((body, stream)) = begin(out, &[]) else { return };
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
