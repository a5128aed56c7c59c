//! The spans of one request: itself, its stages, its attempts on tiers. Names follow OpenTelemetry's conventions for
//! generative AI (`gen_ai.*`, as of semantic conventions 1.38); what they do not name is under `obsidian.*`.
//!
//! Numbers are signed: the library exports others as text. Ids, numbers and our own words only. A model's name is the client's text until it is known to be one of ours.

use obsidian_types::{ChatRequest, Input, Tier};
use obsidian_wire::telemetry;
use tracing::field::Empty;
use tracing::{Span, info_span};

/// Who answers, as `gen_ai.provider.name` says it.
pub(crate) const PROVIDER: &str = "obsidian";

/// `gen_ai.operation.name` of a request.
pub(crate) fn operation(request: &ChatRequest) -> &'static str {
    match request.input {
        Input::Chat(_) => "chat",
        Input::Raw(_) => "text_completion",
    }
}

/// The span of a request, under the caller's if it named one.
pub(crate) fn request(request: &ChatRequest) -> Span {
    let sampling = &request.sampling;
    let operation = operation(request);
    let span = info_span!(
        target: telemetry::TARGET,
        "request",
        request_id = %request.id,
        trace_id = Empty,
        otel.name = operation,
        otel.kind = "server",
        otel.status_code = Empty,
        error.type = Empty,
        http.response.status_code = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = PROVIDER,
        gen_ai.request.model = Empty,
        gen_ai.request.temperature = f64::from(sampling.temperature),
        gen_ai.request.top_p = f64::from(sampling.top_p),
        gen_ai.request.frequency_penalty = f64::from(sampling.frequency_penalty),
        gen_ai.request.presence_penalty = f64::from(sampling.presence_penalty),
        gen_ai.request.max_tokens = i64::from(request.max_tokens),
        gen_ai.request.choice.count = i64::from(request.choices),
        gen_ai.response.id = %request.id,
        gen_ai.response.model = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        obsidian.tenant = %request.tenant,
        obsidian.route = Empty,
        obsidian.reason = Empty,
        obsidian.degraded = Empty,
        obsidian.masked_values = Empty,
        obsidian.accepted = Empty,
        obsidian.rejected = Empty,
        obsidian.wan_bytes = Empty,
    );
    if let Some(caller) = &request.trace {
        telemetry::adopt(&span, caller);
    }
    // Without telemetry of our own the caller's trace is still worth a place in the log.
    if let Some(trace) = telemetry::context(&span).or(request.trace) {
        span.record("trace_id", trace.trace_id_text());
    }
    span
}

/// The span of one stage of the pipeline.
pub(crate) fn stage(name: &'static str) -> Span {
    info_span!(target: telemetry::TARGET, "stage", otel.name = name, otel.kind = "internal")
}

/// The span of one attempt to answer (one choice) on a tier: a client's, where another process answers.
pub(crate) fn attempt(tier: Tier, operation: &'static str, model: &str, choice: u32) -> Span {
    let kind = if tier == Tier::Edge { "internal" } else { "client" };
    info_span!(
        target: telemetry::TARGET,
        "attempt",
        otel.name = format!("{operation} {model}"),
        otel.kind = kind,
        otel.status_code = Empty,
        error.type = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = PROVIDER,
        gen_ai.request.model = model,
        gen_ai.response.finish_reasons = Empty,
        obsidian.tier = tier.as_str(),
        obsidian.choice = i64::from(choice),
    )
}
