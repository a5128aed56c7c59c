//! The account of one request: what it used, how long each stage took, how it ended.
//!
//! It is closed when it is dropped, so that a request whose client left is counted like any other. Neither
//! the audit line nor a metric ever holds text of the request: ids, numbers and our own words only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use metrics::{counter, gauge, histogram};
use obsidian_types::{RequestId, StageTimes, TenantId, Tier, Usage};
use obsidian_wire::WanBytes;

use crate::fault::Fault;
use crate::outcome::Outcome;

/// The stages whose time is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Sanitise,
    Mask,
    Route,
    Render,
}

/// One request's account. Its choices run at the same time and all write here.
pub(crate) struct Account {
    id: RequestId,
    tenant: TenantId,
    began: Instant,
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
}

impl Entries {
    fn wan(&self) -> WanBytes {
        self.wan_open.values().fold(self.wan_closed, |sum, bytes| sum + *bytes)
    }

    fn route(&self) -> Tier {
        self.route.unwrap_or(Tier::Edge)
    }
}

impl Account {
    /// Opens the account of a request that began at `began`.
    pub(crate) fn open(id: RequestId, tenant: TenantId, began: Instant) -> Self {
        gauge!("obsidian_requests_in_flight").increment(1.0);
        Self { id, tenant, began, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `work` and notes its time under `stage`.
    pub(crate) async fn timed<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = work.await;
        let spent = micros_since(begun);
        let stages = &mut self.entries().stages;
        let place = match stage {
            Stage::Sanitise => &mut stages.sanitise,
            Stage::Mask => &mut stages.mask,
            Stage::Route => &mut stages.route,
            Stage::Render => &mut stages.render,
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

    /// Notes that a fault moved the request to `route`; the reason so far stays.
    pub(crate) fn moved(&self, route: Tier) {
        self.entries().route = Some(route);
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
        histogram!("obsidian_time_to_first_token_seconds", "route" => entries.route().as_str())
            .record(self.began.elapsed().as_secs_f64());
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
        self.entries().status = Some(status);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (id, tenant, began) = (&self.id, &self.tenant, self.began);
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
            ("total", entries.stages.total),
        ] {
            histogram!("obsidian_stage_seconds", "stage" => stage).record(micros as f64 / 1e6);
        }
        tracing::info!(
            target: "obsidian::audit",
            request_id = %id,
            tenant = %tenant,
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

fn micros_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
