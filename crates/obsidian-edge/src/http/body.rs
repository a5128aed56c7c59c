//! Request bodies: bounded in size, in time, in rate, and all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use metrics::gauge;
use obsidian_types::limits::MAX_DISCARDED_BODY_BYTES;
use tokio::time::Instant;

use crate::limits::IngressLimits;
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

/// Memory for the bodies of all requests that arrive, wait or run.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyBudget {
    used: Arc<AtomicUsize>,
}

/// One body's part of the budget, until its request is over.
#[derive(Debug)]
pub(crate) struct Charge {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl BodyBudget {
    fn charge(&self) -> Charge {
        Charge { used: self.used.clone(), bytes: 0 }
    }

    /// Counts `bytes` at once, unless that is over `budget`.
    pub(crate) fn take(&self, bytes: usize, budget: usize) -> Result<Charge, ApiError> {
        let mut charge = self.charge();
        if charge.grow(bytes, budget) { Ok(charge) } else { Err(over_budget()) }
    }
}

impl Charge {
    /// Counts `bytes` more; false, and nothing counted, if that is over `budget`.
    fn grow(&mut self, bytes: usize, budget: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > budget {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        gauge!("obsidian_body_bytes").set(used as f64);
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.used.fetch_sub(self.bytes, Ordering::Relaxed);
        gauge!("obsidian_body_bytes").set(before.saturating_sub(self.bytes) as f64);
    }
}

fn over_budget() -> ApiError {
    metrics::counter!("obsidian_admission_rejected_total", "reason" => "body_budget").increment(1);
    ApiError::unavailable("overloaded", "Too many large requests are on this POP: try again shortly.")
}

/// Reads the whole body. Past the limit the rest is read and thrown away, up to a second limit: a client that is
/// still sending when the connection closes sees a broken pipe and never the answer that says why.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limits: &IngressLimits,
    budget: &BodyBudget,
) -> Result<(Bytes, Charge), ApiError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > (limits.body_bytes + MAX_DISCARDED_BODY_BYTES) as u64) {
        return Err(too_large(limits));
    }
    let began = Instant::now();
    let mut charge = budget.charge();
    let mut collected = BytesMut::new();
    let mut received = 0;
    loop {
        let until = patience(began, received, limits);
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) if received > limits.body_bytes => return Err(too_large(limits)),
            Ok(None) => return Ok((collected.freeze(), charge)),
            Ok(Some(Err(_))) => {
                return Err(ApiError::refused(
                    StatusCode::BAD_REQUEST,
                    "incomplete_body",
                    "The request body ended before it was complete.",
                ));
            }
            Err(_) => return Err(too_slow(limits)),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        received += data.len();
        if received > limits.body_bytes + MAX_DISCARDED_BODY_BYTES {
            return Err(too_large(limits));
        }
        if received > limits.body_bytes {
            (collected, charge) = (BytesMut::new(), budget.charge());
            continue;
        }
        if !charge.grow(data.len(), limits.body_budget_bytes) {
            return Err(over_budget());
        }
        collected.extend_from_slice(&data);
    }
}

/// Until when the next piece must be here: after the grace a body keeps up its rate, and no body takes for ever.
fn patience(began: Instant, received: usize, limits: &IngressLimits) -> Instant {
    let earned = Duration::try_from_secs_f64(received as f64 / limits.body_rate.max(1) as f64).unwrap_or(Duration::MAX);
    began + limits.body_read.min(limits.body_grace.saturating_add(earned))
}

fn too_slow(limits: &IngressLimits) -> ApiError {
    let (read_ms, rate) = (limits.body_read.as_millis(), limits.body_rate);
    ApiError::refused(
        StatusCode::REQUEST_TIMEOUT,
        "body_timeout",
        format!(
            "The request body arrived too slowly: send it within {read_ms} ms and at {rate} bytes a second or more."
        ),
    )
}

fn too_large(limits: &IngressLimits) -> ApiError {
    let most = limits.body_bytes;
    ApiError::refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        format!("The request body is larger than the limit of {most} bytes."),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use bytes::Bytes;
    use http::HeaderMap;
    use tokio::time::Instant;

    use super::{BodyBudget, patience, read};
    use crate::limits::IngressLimits;

    #[test]
    fn a_body_earns_time_by_its_rate_up_to_the_whole() {
        let limits = IngressLimits::default();
        let began = Instant::now();
        assert_eq!(patience(began, 0, &limits), began + limits.body_grace);
        assert_eq!(patience(began, 2_048, &limits), began + limits.body_grace + Duration::from_secs(2));
        assert_eq!(patience(began, 1 << 22, &limits), began + limits.body_read);
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up() {
        let drops = futures::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        let budget = BodyBudget::default();
        let grace = Duration::from_millis(20);
        let limits = IngressLimits { body_grace: grace, body_rate: 1 << 20, ..IngressLimits::default() };
        let error = read(&HeaderMap::new(), Body::from_stream(drops), &limits, &budget).await;
        assert_eq!(error.unwrap_err().code, Some("body_timeout"));
    }

    #[tokio::test]
    async fn bodies_share_one_budget_and_give_it_back() {
        let limits = IngressLimits { body_bytes: 60, body_budget_bytes: 100, ..IngressLimits::default() };
        let budget = BodyBudget::default();
        let send = async |bytes: usize| read(&HeaderMap::new(), Body::from(vec![b'x'; bytes]), &limits, &budget).await;
        let (_, first) = send(60).await.unwrap();
        assert_eq!(send(60).await.unwrap_err().code, Some("overloaded"));
        assert_eq!(send(61).await.unwrap_err().code, Some("request_too_large"));
        let (_, second) = send(40).await.unwrap();
        drop(first);
        assert_eq!(send(60).await.unwrap().0.len(), 60);
        drop(second);
        assert_eq!(budget.used.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}
