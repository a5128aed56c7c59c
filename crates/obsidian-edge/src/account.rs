//! The account of one request: what it used, how long each stage took, how it ended.
//!
//! It is closed when it is dropped, so that a request whose client left is counted like any other. Neither
//! the audit line nor a metric ever holds text of the request: ids, numbers and our own words only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use metrics::{Label, counter, gauge, histogram};
use obsidian_types::{ChatRequest, FinishReason, ModelName, RequestId, StageTimes, TenantId, Tier, Usage};
use obsidian_wire::WanBytes;
use tracing::{Instrument, Span};

use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::{spans, telemetry};

/// The stages whose time is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Sanitise,
    Mask,
    Route,
    Render,
    /// All choices.
    Run,
    /// Within `Run`: waiting for verdicts.
    Verify,
    /// Within `Run`: putting originals back.
    Restore,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sanitise => "sanitise",
            Self::Mask => "mask",
            Self::Route => "route",
            Self::Render => "render",
            Self::Run => "run",
            Self::Verify => "verify",
            Self::Restore => "restore",
        }
    }
}

/// One request's account. Its choices run at the same time and all write here.
pub(crate) struct Account {
    id: RequestId,
    tenant: TenantId,
    client: Option<IpAddr>,
    began: Instant,
    /// `gen_ai.operation.name`.
    operation: &'static str,
    span: Span,
    /// Never held over an await point.
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    stages: StageTimes,
    route: Option<Tier>,
    reason: String,
    degraded: bool,
    masked_values: usize,
    usage: Usage,
    /// Of upstream streams that are closed, and of the one that each choice has open.
    wan_closed: WanBytes,
    wan_open: BTreeMap<u32, WanBytes>,
    status: Option<u16>,
    error: Option<&'static str>,
    /// Asked for; only once it is known to be a name of ours.
    request_model: Option<String>,
    response_model: String,
    finish: Vec<&'static str>,
}

impl Entries {
    fn wan(&self) -> WanBytes {
        self.wan_open.values().fold(self.wan_closed, |sum, bytes| sum + *bytes)
    }

    fn route(&self) -> Tier {
        self.route.unwrap_or(Tier::Edge)
    }

    /// The labels of OpenTelemetry's metrics.
    fn gen_ai(&self, operation: &'static str) -> Vec<Label> {
        let mut labels =
            vec![Label::new("gen_ai.operation.name", operation), Label::new("gen_ai.provider.name", spans::PROVIDER)];
        if let Some(model) = &self.request_model {
            labels.push(Label::new("gen_ai.request.model", model.clone()));
        }
        if !self.response_model.is_empty() {
            labels.push(Label::new("gen_ai.response.model", self.response_model.clone()));
        }
        labels
    }

    /// Metrics by OpenTelemetry's names, beside our own.
    fn tell_gen_ai(&self, operation: &'static str) {
        let labels = self.gen_ai(operation);
        for (kind, tokens) in [("input", self.usage.prompt_tokens), ("output", self.usage.completion_tokens)] {
            let mut labels = labels.clone();
            labels.push(Label::new("gen_ai.token.type", kind));
            histogram!(telemetry::TOKEN_USAGE, labels).record(f64::from(tokens));
        }
        let mut labels = labels;
        labels.extend(self.error.map(|error| Label::new("error.type", error)));
        histogram!(telemetry::SERVER_DURATION, labels).record(self.stages.total as f64 / 1e6);
    }

    /// What the request's span says when it ends.
    fn tell_span(&self, span: &Span, status: u16, route: &'static str) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        span.record("http.response.status_code", i64::from(status));
        span.record("gen_ai.response.model", self.response_model.as_str());
        span.record("gen_ai.response.finish_reasons", self.finish.join(","));
        span.record("gen_ai.usage.input_tokens", i64::from(self.usage.prompt_tokens));
        span.record("gen_ai.usage.output_tokens", i64::from(self.usage.completion_tokens));
        span.record("obsidian.route", route);
        span.record("obsidian.reason", self.reason.as_str());
        span.record("obsidian.degraded", self.degraded);
        span.record("obsidian.masked_values", number(self.masked_values as u64));
        span.record("obsidian.accepted", i64::from(self.usage.accepted_prediction_tokens));
        span.record("obsidian.rejected", i64::from(self.usage.rejected_prediction_tokens));
        span.record("obsidian.wan_bytes", number(self.wan().up + self.wan().down));
        if let Some(error) = self.error {
            span.record("error.type", error);
        }
        // A client's own mistake is no fault of ours.
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
    }
}

impl Account {
    /// Opens the account of a request that began at `began`.
    pub(crate) fn open(request: &ChatRequest, began: Instant) -> Self {
        gauge!("obsidian_requests_in_flight").increment(1.0);
        Self {
            id: request.id.clone(),
            tenant: request.tenant.clone(),
            client: request.client,
            began,
            operation: spans::operation(request),
            span: spans::request(request),
            entries: Mutex::default(),
        }
    }

    /// The request's span, for what is done in it.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// `gen_ai.operation.name`.
    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    /// Notes the model asked for, which is known by now.
    pub(crate) fn asked(&self, model: &ModelName) {
        let model = model.as_str();
        self.span.record("gen_ai.request.model", model);
        obsidian_wire::telemetry::rename(&self.span, format!("{} {model}", self.operation));
        self.entries().request_model = Some(model.to_owned());
    }

    /// Notes why one choice ended.
    pub(crate) fn finished(&self, reason: FinishReason) {
        self.entries().finish.push(finish_text(reason));
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `work` in a span of its own and notes its time under `stage`.
    pub(crate) async fn timed<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        self.spent(stage, work.instrument(spans::stage(stage.as_str()))).await
    }

    /// Waits for `work`, one piece of many, and adds its time to `stage`.
    pub(crate) async fn spent<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = work.await;
        let spent = micros_since(begun);
        let stages = &mut self.entries().stages;
        let place = match stage {
            Stage::Sanitise => &mut stages.sanitise,
            Stage::Mask => &mut stages.mask,
            Stage::Route => &mut stages.route,
            Stage::Render => &mut stages.render,
            Stage::Run => &mut stages.run,
            Stage::Verify => &mut stages.verify,
            Stage::Restore => &mut stages.restore,
        };
        *place += spent;
        result
    }

    /// Notes how many distinct values were masked.
    pub(crate) fn masked(&self, values: usize) {
        self.entries().masked_values = values;
    }

    /// Notes where the request runs and why; once more when it moves.
    pub(crate) fn routed(&self, route: Tier, reason: &str) {
        let mut entries = self.entries();
        entries.route = Some(route);
        reason.clone_into(&mut entries.reason);
    }

    /// Notes that `model` of `route` answers from here on; the reason so far stays.
    pub(crate) fn moved(&self, route: Tier, model: &str) {
        let mut entries = self.entries();
        entries.route = Some(route);
        model.clone_into(&mut entries.response_model);
    }

    /// Notes a fault that put the request on a lesser path: `part` is what failed, `what` how.
    pub(crate) fn degrade(&self, part: &'static str, what: &str) {
        counter!("obsidian_degraded_total", "part" => part, "what" => what.to_owned()).increment(1);
        let mut entries = self.entries();
        entries.degraded = true;
        let note = format!("+{part}:{what}");
        if !entries.reason.contains(&note) {
            entries.reason.push_str(&note);
        }
    }

    /// Where the request runs.
    pub(crate) fn route(&self) -> Tier {
        self.entries().route()
    }

    /// Why it runs there.
    pub(crate) fn reason(&self) -> String {
        self.entries().reason.clone()
    }

    /// Notes the prompt's tokens; it is one prompt for all choices.
    pub(crate) fn prompt_tokens(&self, tokens: usize) {
        self.entries().usage.prompt_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
    }

    /// Notes more tokens of an answer.
    pub(crate) fn completed(&self, tokens: usize) {
        let usage = &mut self.entries().usage;
        usage.completion_tokens = usage.completion_tokens.saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX));
    }

    /// Notes drafted tokens that were emitted, and those that reached the hub in vain.
    pub(crate) fn predicted(&self, accepted: u32, rejected: u32) {
        let usage = &mut self.entries().usage;
        usage.accepted_prediction_tokens = usage.accepted_prediction_tokens.saturating_add(accepted);
        usage.rejected_prediction_tokens = usage.rejected_prediction_tokens.saturating_add(rejected);
    }

    /// Notes how many bytes a choice's open upstream stream has cost so far.
    pub(crate) fn wan_so_far(&self, choice: u32, bytes: WanBytes) {
        self.entries().wan_open.insert(choice, bytes);
    }

    /// Notes that a choice's open upstream stream costs no more.
    pub(crate) fn wan_closed(&self, choice: u32) {
        let mut entries = self.entries();
        let bytes = entries.wan_open.remove(&choice).unwrap_or_default();
        entries.wan_closed = entries.wan_closed + bytes;
    }

    /// The first byte leaves for the client now.
    pub(crate) fn first_token(&self) {
        let mut entries = self.entries();
        entries.stages.first_token = micros_since(self.began);
        let seconds = self.began.elapsed().as_secs_f64();
        histogram!("obsidian_time_to_first_token_seconds", "route" => entries.route().as_str()).record(seconds);
        histogram!(telemetry::SERVER_TTFT, entries.gen_ai(self.operation)).record(seconds);
    }

    /// Closes the account of a request that was answered.
    pub(crate) fn answered(&self) -> Outcome {
        let mut entries = self.entries();
        entries.status = Some(200);
        entries.stages.total = micros_since(self.began);
        Outcome {
            route: entries.route(),
            reason: entries.reason.clone(),
            degraded: entries.degraded,
            usage: entries.usage,
            wan_bytes_up: entries.wan().up,
            wan_bytes_down: entries.wan().down,
            stages: entries.stages,
        }
    }

    /// Closes the account of a request that was not.
    pub(crate) fn failed(&self, fault: &Fault) {
        let status = fault.to_api().status.as_u16();
        if status >= 500 {
            tracing::warn!(request_id = %self.id, %fault, "request failed");
        }
        let mut entries = self.entries();
        entries.status = Some(status);
        entries.error = Some(fault.to_api().code.unwrap_or("error"));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (id, tenant, began, operation) = (&self.id, &self.tenant, self.began, self.operation);
        let span = &self.span;
        let entries = self.entries.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Dropped before it was closed: the client left and took the pipeline with it.
        let status = entries.status.unwrap_or(499);
        entries.stages.total = micros_since(began);
        let route = entries.route.map_or("none", Tier::as_str);
        gauge!("obsidian_requests_in_flight").decrement(1.0);
        counter!("obsidian_requests_total", "route" => route, "status" => status.to_string()).increment(1);
        counter!("obsidian_tokens_total", "kind" => "prompt").increment(entries.usage.prompt_tokens.into());
        counter!("obsidian_tokens_total", "kind" => "completion").increment(entries.usage.completion_tokens.into());
        counter!("obsidian_prediction_tokens_total", "outcome" => "accepted")
            .increment(entries.usage.accepted_prediction_tokens.into());
        counter!("obsidian_prediction_tokens_total", "outcome" => "rejected")
            .increment(entries.usage.rejected_prediction_tokens.into());
        counter!("obsidian_wan_bytes_total", "direction" => "up").increment(entries.wan().up);
        counter!("obsidian_wan_bytes_total", "direction" => "down").increment(entries.wan().down);
        for (stage, micros) in [
            ("sanitise", entries.stages.sanitise),
            ("mask", entries.stages.mask),
            ("route", entries.stages.route),
            ("render", entries.stages.render),
            ("run", entries.stages.run),
            ("verify", entries.stages.verify),
            ("restore", entries.stages.restore),
            ("total", entries.stages.total),
        ] {
            histogram!("obsidian_stage_seconds", "stage" => stage).record(micros as f64 / 1e6);
        }
        entries.tell_gen_ai(operation);
        entries.tell_span(span, status, route);
        let _in_span = span.enter();
        tracing::info!(
            target: "obsidian::audit",
            request_id = %id,
            tenant = %tenant,
            client = self.client.map(tracing::field::display),
            status,
            route,
            reason = entries.reason,
            degraded = entries.degraded,
            masked_values = entries.masked_values,
            prompt_tokens = entries.usage.prompt_tokens,
            completion_tokens = entries.usage.completion_tokens,
            accepted = entries.usage.accepted_prediction_tokens,
            rejected = entries.usage.rejected_prediction_tokens,
            wan_bytes_up = entries.wan().up,
            wan_bytes_down = entries.wan().down,
            first_token_us = entries.stages.first_token,
            total_us = entries.stages.total,
            "request"
        );
    }
}

/// As OpenAI's API says it, and OpenTelemetry's convention with it.
pub(crate) fn finish_text(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

fn micros_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
