//! The span of one stream, under the POP's span that opened it. Numbers and names only: no id of a token.

use obsidian_types::TraceContext;
use obsidian_wire::proto::down;
use obsidian_wire::{PeerName, telemetry};
use tracing::field::Empty;
use tracing::{Span, info_span};

/// One stream, from `open` to its end.
pub(crate) struct StreamSpan {
    span: Span,
    prompt_tokens: u32,
    /// Signed, because the library exports other numbers as text.
    emitted: i64,
    accepted: i64,
    verdicts: i64,
}

impl StreamSpan {
    pub(crate) fn new(model: &str, peer: Option<&PeerName>, caller: Option<TraceContext>) -> Self {
        let span = info_span!(
            target: telemetry::TARGET,
            "verify",
            otel.name = format!("verify {model}"),
            otel.kind = "server",
            otel.status_code = Empty,
            error.type = Empty,
            trace_id = Empty,
            gen_ai.operation.name = "text_completion",
            gen_ai.provider.name = "obsidian",
            gen_ai.response.model = model,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            obsidian.pop = peer.map_or("", |peer| peer.0.as_str()),
            obsidian.reused_tokens = Empty,
            obsidian.accepted = Empty,
            obsidian.verdicts = Empty,
        );
        if let Some(caller) = &caller {
            telemetry::adopt(&span, caller);
        }
        if let Some(trace) = telemetry::context(&span).or(caller) {
            span.record("trace_id", trace.trace_id_text());
        }
        Self { span, prompt_tokens: 0, emitted: 0, accepted: 0, verdicts: 0 }
    }

    /// Takes note of a message on its way to the POP.
    pub(crate) fn said(&mut self, kind: &down::Kind) {
        match kind {
            down::Kind::Opened(opened) => {
                self.prompt_tokens = opened.prompt_tokens;
                self.span.record("obsidian.reused_tokens", i64::from(opened.reused_tokens));
            }
            down::Kind::Verdict(verdict) => {
                self.verdicts += 1;
                self.accepted += i64::from(verdict.accepted);
                self.emitted += i64::from(verdict.accepted) + verdict.next.len() as i64;
            }
            down::Kind::NeedPrefix(_) => {}
        }
    }

    /// The stream ends with a refusal.
    pub(crate) fn failed(&mut self, code: &'static str) {
        self.span.record("error.type", code);
        self.span.record("otel.status_code", "ERROR");
    }
}

impl Drop for StreamSpan {
    fn drop(&mut self) {
        self.span.record("gen_ai.usage.input_tokens", i64::from(self.prompt_tokens));
        self.span.record("gen_ai.usage.output_tokens", self.emitted);
        self.span.record("obsidian.accepted", self.accepted);
        self.span.record("obsidian.verdicts", self.verdicts);
    }
}
