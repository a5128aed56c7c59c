//! `[limits]` of a POP: how much its ingress takes.

use std::time::Duration;

use obsidian_edge::IngressLimits;
use schemars::JsonSchema;
use serde::Deserialize;

/// How much the POP's ingress takes. Each may be set between 1 and a hard bound, which an error names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsSection {
    /// Answers in flight, 256 if absent; a request with several choices counts as several.
    inflight: Option<usize>,
    /// Requests that wait for a place, 256 if absent; beyond it 503.
    queue: Option<usize>,
    /// Requests of one tenant that wait for a place, 64 if absent; beyond it 429.
    queue_per_tenant: Option<usize>,
    /// How long a request waits for a place, 30000 if absent; then 503.
    queue_wait_ms: Option<u64>,
    /// From a request's last byte to the last byte of its answer, 600000 if absent; then 504.
    request_ms: Option<u64>,
    /// Longest body, bytes; 4 MiB if absent.
    body_bytes: Option<usize>,
    /// Bodies of all requests together, bytes; 256 MiB if absent. Beyond it 503.
    body_budget_bytes: Option<usize>,
    /// How long a body may take to arrive, 30000 if absent; then 408.
    body_read_ms: Option<u64>,
    /// Slowest rate of a body, bytes per second; 1024 if absent.
    body_rate: Option<u64>,
    /// How long a body may be slower than that, 5000 if absent.
    body_grace_ms: Option<u64>,
    /// Longest answer a client may ask for, tokens; the model's context if absent.
    answer_tokens: Option<u32>,
    /// How long a TLS handshake, or a request's head, may take; 15000 if absent.
    header_read_ms: Option<u64>,
    /// How long a connection may be without a request, 75000 if absent.
    idle_ms: Option<u64>,
    /// How long a client may leave its answer unread, 60000 if absent.
    stall_ms: Option<u64>,
    /// Connections, 2048 if absent; the next waits.
    connections: Option<usize>,
    /// Connections from one address, 512 if absent; the next is closed.
    connections_per_address: Option<usize>,
}

impl LimitsSection {
    /// The limits, those that are absent at their defaults.
    pub(crate) fn limits(&self) -> IngressLimits {
        let base = IngressLimits::default();
        let time = |set: Option<u64>, base: Duration| set.map_or(base, Duration::from_millis);
        IngressLimits {
            inflight: self.inflight.unwrap_or(base.inflight),
            queue: self.queue.unwrap_or(base.queue),
            queue_per_tenant: self.queue_per_tenant.unwrap_or(base.queue_per_tenant),
            queue_wait: time(self.queue_wait_ms, base.queue_wait),
            request: time(self.request_ms, base.request),
            body_bytes: self.body_bytes.unwrap_or(base.body_bytes),
            body_budget_bytes: self.body_budget_bytes.unwrap_or(base.body_budget_bytes),
            body_read: time(self.body_read_ms, base.body_read),
            body_rate: self.body_rate.unwrap_or(base.body_rate),
            body_grace: time(self.body_grace_ms, base.body_grace),
            answer_tokens: self.answer_tokens.or(base.answer_tokens),
            header_read: time(self.header_read_ms, base.header_read),
            idle: time(self.idle_ms, base.idle),
            stall: time(self.stall_ms, base.stall),
            connections: self.connections.unwrap_or(base.connections),
            connections_per_address: self.connections_per_address.unwrap_or(base.connections_per_address),
        }
    }
}
