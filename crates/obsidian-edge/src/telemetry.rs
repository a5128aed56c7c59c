//! Names, meanings and buckets of the POP's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::functions::metrics as functions;

const TTFT: &str = "obsidian_time_to_first_token_seconds";
const WAIT: &str = "obsidian_admission_wait_seconds";
const SWAP: &str = "obsidian_guest_swap_seconds";
const ATTACH: &str = "obsidian_model_attach_seconds";
const STAGE: &str = "obsidian_stage_seconds";

/// OpenTelemetry's names for generative AI; Prometheus shows them with `_` for `.`.
pub(crate) const SERVER_TTFT: &str = "gen_ai.server.time_to_first_token";
/// The whole request.
pub(crate) const SERVER_DURATION: &str = "gen_ai.server.request.duration";
/// One attempt on one tier, seen from this POP.
pub(crate) const CLIENT_DURATION: &str = "gen_ai.client.operation.duration";
/// Tokens of a request, by `gen_ai.token.type`.
pub(crate) const TOKEN_USAGE: &str = "gen_ai.client.token.usage";

/// The buckets that OpenTelemetry's convention asks for.
const DURATION_BUCKETS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const OTEL_TTFT_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const TOKEN_BUCKETS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0];
const TTFT_BUCKETS: &[f64] = &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
const INSTANTIATION_BUCKETS: &[f64] = &[5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 0.1, 1.0];
const MEMORY_BUCKETS: &[f64] =
    &[65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0];
const STAGE_BUCKETS: &[f64] = &[1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Histograms of the POP and their buckets, for the recorder that the binary installs
/// (`PrometheusBuilder::set_buckets_for_metric` with `Matcher::Full`).
pub fn metric_buckets() -> [(&'static str, &'static [f64]); 14] {
    [
        (TTFT, TTFT_BUCKETS),
        (STAGE, STAGE_BUCKETS),
        (WAIT, STAGE_BUCKETS),
        (SWAP, STAGE_BUCKETS),
        (ATTACH, STAGE_BUCKETS),
        (SERVER_TTFT, OTEL_TTFT_BUCKETS),
        (SERVER_DURATION, DURATION_BUCKETS),
        (CLIENT_DURATION, DURATION_BUCKETS),
        (TOKEN_USAGE, TOKEN_BUCKETS),
        (functions::FIRST_BYTE, STAGE_BUCKETS),
        (functions::CALL, STAGE_BUCKETS),
        (functions::CPU, STAGE_BUCKETS),
        (functions::INSTANTIATION, INSTANTIATION_BUCKETS),
        (functions::MEMORY, MEMORY_BUCKETS),
    ]
}

/// Tells the recorder what the metrics mean.
pub(crate) fn describe() {
    describe_counter!("obsidian_requests_total", "Requests by route and HTTP status; 499 is a client that left.");
    describe_gauge!("obsidian_requests_in_flight", "Requests in the pipeline now.");
    describe_histogram!(TTFT, Unit::Seconds, "From the request's last byte to the first text for the client.");
    describe_histogram!(STAGE, Unit::Seconds, "Time spent per stage of the pipeline.");
    describe_histogram!(SERVER_TTFT, Unit::Seconds, "Time to first token of answered requests.");
    describe_histogram!(SERVER_DURATION, Unit::Seconds, "Whole requests; `error.type` if one failed.");
    describe_histogram!(CLIENT_DURATION, Unit::Seconds, "Attempts to answer on one tier.");
    describe_histogram!(TOKEN_USAGE, Unit::Count, "Tokens per request, by type.");
    describe_counter!("obsidian_tokens_total", "Prompt and completion tokens.");
    describe_counter!("obsidian_prediction_tokens_total", "Drafted tokens that reached the hub, by outcome.");
    describe_counter!("obsidian_wan_bytes_total", "Bytes of TLS records to and from hub and upstreams.");
    describe_counter!("obsidian_degraded_total", "Faults that put a request on a lesser path, by part.");
    describe_counter!("obsidian_shield_faults_total", "Faults of the shield's sandbox; masked or restored natively.");
    describe_counter!("obsidian_router_faults_total", "Faults of the router's sandbox; decided natively.");
    describe_counter!("obsidian_drafter_faults_total", "Faults of the draft model's sandbox seen by requests.");
    describe_counter!("obsidian_guest_swaps_total", "Attempts to exchange a guest, by guest and outcome.");
    describe_counter!("obsidian_guest_rollbacks_total", "Guests taken back, by guest and by whom.");
    describe_counter!("obsidian_guest_restores_total", "Guests to be found again after a restart, by outcome.");
    describe_histogram!(SWAP, Unit::Seconds, "Loading and first calls of guests that took over.");
    describe_counter!("obsidian_model_attaches_total", "Models attached on demand, by model.");
    describe_counter!("obsidian_model_evictions_total", "Models let go to make room, by model.");
    describe_histogram!(ATTACH, Unit::Seconds, "Attaching models on demand.");
    describe_gauge!("obsidian_models_bytes", Unit::Bytes, "Memory of the models beside the draft model.");
    describe_counter!("obsidian_hub_faults_total", "Faults of the hub and the link to it seen by requests.");
    describe_counter!("obsidian_core_faults_total", "Faults of upstreams seen by requests.");
    describe_counter!("obsidian_core_attempts_total", "Attempts at upstreams, by upstream and how they began.");
    describe_counter!("obsidian_core_retries_total", "Attempts at upstreams after a first one failed.");
    describe_gauge!("obsidian_core_circuit_open", "1 while an upstream is left alone after failures.");
    describe_gauge!("obsidian_admission_queue", "Requests that wait for a place now.");
    describe_histogram!(WAIT, Unit::Seconds, "Time requests waited for a place.");
    describe_counter!("obsidian_admission_rejected_total", "Requests turned away, by reason.");
    describe_gauge!("obsidian_body_bytes", Unit::Bytes, "Request bodies held now.");
    describe_gauge!("obsidian_connections", "Client connections now.");
    describe_counter!("obsidian_connections_refused_total", "Client connections refused, by reason.");
    describe_counter!("obsidian_tls_handshakes_total", "TLS handshakes with clients, by version.");
    describe_counter!("obsidian_stalled_total", "Answers given up because their client left them unread.");
    functions::describe();
    gauge!("obsidian_admission_queue").set(0.0);
    gauge!("obsidian_body_bytes").set(0.0);
    gauge!("obsidian_connections").set(0.0);
    // A gauge that nobody has touched yet is not shown at all; zero is a value too.
    gauge!("obsidian_requests_in_flight").set(0.0);
}
