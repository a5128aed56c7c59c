//! Request bodies: bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use obsidian_types::limits::{BODY_READ_MS, MAX_BODY_BYTES, MAX_DISCARDED_BODY_BYTES};

use crate::openai::error::ApiError;

/// Refuses what is not sent as JSON. A web page can make a browser send anything else to this port
/// without asking first; JSON it cannot.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::refused(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_content_type",
        "Send the request body with 'Content-Type: application/json'.",
    ))
}

/// Reads the whole body.
pub(super) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Bytes, ApiError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > (MAX_BODY_BYTES + MAX_DISCARDED_BODY_BYTES) as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(Duration::from_millis(BODY_READ_MS), collect(&mut body)).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::refused(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("The request body did not arrive within {BODY_READ_MS} ms."),
        )),
    }
}

/// Keeps what lies within the limit. Past it the rest is read and thrown away, up to a second limit: a client that
/// is still sending when the connection closes sees a broken pipe and never the answer that says why.
async fn collect(body: &mut Body) -> Result<Bytes, ApiError> {
    let mut kept = BytesMut::new();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let message = "The request body ended before it was complete.";
            ApiError::refused(StatusCode::BAD_REQUEST, "incomplete_body", message)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new();
        }
        if received > MAX_BODY_BYTES + MAX_DISCARDED_BODY_BYTES {
            break;
        }
    }
    if received > MAX_BODY_BYTES { Err(too_large()) } else { Ok(kept.freeze()) }
}

fn too_large() -> ApiError {
    ApiError::refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        format!("The request body is larger than the limit of {MAX_BODY_BYTES} bytes."),
    )
}
