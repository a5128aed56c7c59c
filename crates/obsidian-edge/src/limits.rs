//! The limits of one POP's ingress as its operator sets them: defaults, and the hard bounds they stay within.

use std::time::Duration;

use obsidian_types::limits::{
    BODY_GRACE_MS, BODY_READ_MS, CONNECTION_IDLE_MS, DEFAULT_CONNECTIONS_PER_ADDRESS, DEFAULT_QUEUE,
    DEFAULT_QUEUE_WAIT_MS, DEFAULT_REQUEST_MS, DEFAULT_TENANT_QUEUE, HEADER_READ_MS, MAX_BODY_BUDGET_BYTES,
    MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_INFLIGHT_REQUESTS, MAX_QUEUED_REQUESTS, MAX_REQUEST_MS,
    MIN_BODY_BYTES_PER_SECOND, STREAM_STALL_MS,
};
use thiserror::Error;

/// How much the ingress of one POP takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressLimits {
    /// Answers in flight; a request with several choices counts as several.
    pub inflight: usize,
    /// Requests that wait for a place; beyond it 503.
    pub queue: usize,
    /// Requests of one tenant that wait for a place; beyond it 429.
    pub queue_per_tenant: usize,
    /// How long a request waits for a place; then 503.
    pub queue_wait: Duration,
    /// From a request's last byte to the last byte of its answer, waiting for a place included.
    pub request: Duration,
    /// Longest body, bytes.
    pub body_bytes: usize,
    /// Bodies of all requests together, bytes.
    pub body_budget_bytes: usize,
    /// How long a body may take to arrive, whatever its rate.
    pub body_read: Duration,
    /// Slowest rate of a body, bytes per second, once `body_grace` is over.
    pub body_rate: u64,
    /// How long a body may be slower than `body_rate`.
    pub body_grace: Duration,
    /// Longest answer a client may ask for, tokens; none leaves it to the model's context.
    pub answer_tokens: Option<u32>,
    /// How long a TLS handshake, or a request's head, may take.
    pub header_read: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long a client may leave its answer unread.
    pub stall: Duration,
    /// Connections; the next waits in the kernel's backlog.
    pub connections: usize,
    /// Connections from one address, or requests in flight of one address behind a trusted proxy.
    pub connections_per_address: usize,
}

impl Default for IngressLimits {
    fn default() -> Self {
        Self {
            inflight: DEFAULT_INFLIGHT,
            queue: DEFAULT_QUEUE,
            queue_per_tenant: DEFAULT_TENANT_QUEUE,
            queue_wait: Duration::from_millis(DEFAULT_QUEUE_WAIT_MS),
            request: Duration::from_millis(DEFAULT_REQUEST_MS),
            body_bytes: MAX_BODY_BYTES,
            body_budget_bytes: MAX_BODY_BUDGET_BYTES,
            body_read: Duration::from_millis(BODY_READ_MS),
            body_rate: MIN_BODY_BYTES_PER_SECOND,
            body_grace: Duration::from_millis(BODY_GRACE_MS),
            answer_tokens: None,
            header_read: Duration::from_millis(HEADER_READ_MS),
            idle: Duration::from_millis(CONNECTION_IDLE_MS),
            stall: Duration::from_millis(STREAM_STALL_MS),
            connections: MAX_CONNECTIONS,
            connections_per_address: DEFAULT_CONNECTIONS_PER_ADDRESS,
        }
    }
}

/// As many as one drafter sandbox holds sessions: who has a place can run.
const DEFAULT_INFLIGHT: usize = obsidian_types::limits::MAX_DRAFTER_SESSIONS;

/// A limit outside its hard bounds.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("limits.{name} is {value}, outside {least} to {most}")]
pub struct LimitError {
    /// The limit's name in the configuration.
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The smallest value allowed.
    pub least: u64,
    /// The largest value allowed.
    pub most: u64,
}

impl IngressLimits {
    /// Holds every limit against its hard bounds.
    ///
    /// # Errors
    /// The first limit outside them.
    pub fn check(&self) -> Result<(), LimitError> {
        const DAY_MS: u64 = 86_400_000;
        let table = [
            ("inflight", wide(self.inflight), 1, wide(MAX_INFLIGHT_REQUESTS)),
            ("queue", wide(self.queue), 0, wide(MAX_QUEUED_REQUESTS)),
            ("queue_per_tenant", wide(self.queue_per_tenant), 0, wide(MAX_QUEUED_REQUESTS)),
            ("queue_wait_ms", millis(self.queue_wait), 1, MAX_REQUEST_MS),
            ("request_ms", millis(self.request), 1, MAX_REQUEST_MS),
            ("body_bytes", wide(self.body_bytes), 1, wide(MAX_BODY_BYTES)),
            ("body_budget_bytes", wide(self.body_budget_bytes), wide(self.body_bytes), wide(MAX_BODY_BUDGET_BYTES)),
            ("body_read_ms", millis(self.body_read), 1, MAX_REQUEST_MS),
            ("body_rate", self.body_rate, 1, wide(MAX_BODY_BYTES)),
            ("body_grace_ms", millis(self.body_grace), 1, MAX_REQUEST_MS),
            ("answer_tokens", self.answer_tokens.map_or(1, u64::from), 1, u64::from(u32::MAX)),
            ("header_read_ms", millis(self.header_read), 1, MAX_REQUEST_MS),
            ("idle_ms", millis(self.idle), 1, DAY_MS),
            ("stall_ms", millis(self.stall), 1, MAX_REQUEST_MS),
            ("connections", wide(self.connections), 1, wide(MAX_CONNECTIONS)),
            ("connections_per_address", wide(self.connections_per_address), 1, wide(MAX_CONNECTIONS)),
        ];
        for (name, value, least, most) in table {
            if !(least..=most).contains(&value) {
                return Err(LimitError { name, value, least, most });
            }
        }
        Ok(())
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::IngressLimits;

    #[test]
    fn defaults_are_within_the_hard_bounds_and_what_is_outside_names_itself() {
        IngressLimits::default().check().unwrap();
        let wrong = IngressLimits { inflight: 0, ..IngressLimits::default() };
        assert_eq!(wrong.check().unwrap_err().to_string(), "limits.inflight is 0, outside 1 to 512");
        let wrong = IngressLimits { stall: Duration::ZERO, ..IngressLimits::default() };
        assert_eq!(wrong.check().unwrap_err().name, "stall_ms");
        let wrong = IngressLimits { body_budget_bytes: 1, ..IngressLimits::default() };
        assert_eq!(wrong.check().unwrap_err().name, "body_budget_bytes");
    }
}
