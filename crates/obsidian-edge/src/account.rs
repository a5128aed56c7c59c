//! The account of one request: what it used, how long each stage took, how it ended.
//!
//! It is closed when it is dropped, so that a request whose client left is counted like any other. Neither
//! the audit line nor a metric ever holds text of the request: ids, numbers and our own words only.

use std::time::Instant;

use metrics::{counter, gauge, histogram};
use obsidian_types::{FinishReason, RequestId, StageTimes, TenantId, Tier, Usage};
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

/// One request's account.
pub(crate) struct Account {
    id: RequestId,
    tenant: TenantId,
    began: Instant,
    stages: StageTimes,
    route: Option<Tier>,
    reason: String,
    degraded: bool,
    masked_values: usize,
    /// Tokens.
    pub(crate) usage: Usage,
    /// Of upstream streams that are closed, and of the one that is open.
    wan_closed: WanBytes,
    wan_open: WanBytes,
    status: Option<u16>,
}

impl Account {
    /// Opens the account of a request that began at `began`.
    pub(crate) fn open(id: RequestId, tenant: TenantId, began: Instant) -> Self {
        gauge!("obsidian_requests_in_flight").increment(1.0);
        Self {
            id,
            tenant,
            began,
            stages: StageTimes::default(),
            route: None,
            reason: String::new(),
            degraded: false,
            masked_values: 0,
            usage: Usage::default(),
            wan_closed: WanBytes::default(),
            wan_open: WanBytes::default(),
            status: None,
        }
    }

    /// Waits for `work` and notes its time under `stage`.
    pub(crate) async fn timed<T>(&mut self, stage: Stage, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = work.await;
        let spent = micros_since(begun);
        let place = match stage {
            Stage::Sanitise => &mut self.stages.sanitise,
            Stage::Mask => &mut self.stages.mask,
            Stage::Route => &mut self.stages.route,
            Stage::Render => &mut self.stages.render,
        };
        *place += spent;
        result
    }

    /// Notes how many distinct values were masked.
    pub(crate) fn masked(&mut self, values: usize) {
        self.masked_values = values;
    }

    /// Notes where the request runs and why; once more when it moves.
    pub(crate) fn routed(&mut self, route: Tier, reason: &str) {
        self.route = Some(route);
        reason.clone_into(&mut self.reason);
    }

    /// Notes that a fault moved the request to `route`; the reason so far stays.
    pub(crate) fn moved(&mut self, route: Tier) {
        self.route = Some(route);
    }

    /// Notes a fault that put the request on a lesser path: `part` is what failed, `what` how.
    pub(crate) fn degrade(&mut self, part: &'static str, what: &str) {
        counter!("obsidian_degraded_total", "part" => part, "what" => what.to_owned()).increment(1);
        self.degraded = true;
        let note = format!("+{part}:{what}");
        if !self.reason.contains(&note) {
            self.reason.push_str(&note);
        }
    }

    /// Where the request runs.
    pub(crate) fn route(&self) -> Tier {
        self.route.unwrap_or(Tier::Edge)
    }

    /// Why it runs there.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Notes how many bytes the open upstream stream has cost so far.
    pub(crate) fn wan_so_far(&mut self, bytes: WanBytes) {
        self.wan_open = bytes;
    }

    /// Notes that the open upstream stream costs no more.
    pub(crate) fn wan_closed(&mut self) {
        self.wan_closed = self.wan();
        self.wan_open = WanBytes::default();
    }

    fn wan(&self) -> WanBytes {
        self.wan_closed + self.wan_open
    }

    /// The first byte leaves for the client now.
    pub(crate) fn first_token(&mut self) {
        self.stages.first_token = micros_since(self.began);
        histogram!("obsidian_time_to_first_token_seconds", "route" => self.route().as_str())
            .record(self.began.elapsed().as_secs_f64());
    }

    /// Closes the account of a request that was answered.
    pub(crate) fn answered(&mut self, finish: FinishReason) -> Outcome {
        self.status = Some(200);
        self.stages.total = micros_since(self.began);
        Outcome {
            route: self.route(),
            reason: self.reason.clone(),
            degraded: self.degraded,
            finish,
            usage: self.usage,
            wan_bytes_up: self.wan().up,
            wan_bytes_down: self.wan().down,
            stages: self.stages,
        }
    }

    /// Closes the account of a request that was not.
    pub(crate) fn failed(&mut self, fault: &Fault) {
        let status = fault.to_api().status.as_u16();
        if status >= 500 {
            tracing::warn!(request_id = %self.id, %fault, "request failed");
        }
        self.status = Some(status);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Dropped before it was closed: the client left and took the pipeline with it.
        let status = self.status.unwrap_or(499);
        self.stages.total = micros_since(self.began);
        let route = self.route.map_or("none", Tier::as_str);
        gauge!("obsidian_requests_in_flight").decrement(1.0);
        counter!("obsidian_requests_total", "route" => route, "status" => status.to_string()).increment(1);
        counter!("obsidian_tokens_total", "kind" => "prompt").increment(self.usage.prompt_tokens.into());
        counter!("obsidian_tokens_total", "kind" => "completion").increment(self.usage.completion_tokens.into());
        counter!("obsidian_prediction_tokens_total", "outcome" => "accepted")
            .increment(self.usage.accepted_prediction_tokens.into());
        counter!("obsidian_prediction_tokens_total", "outcome" => "rejected")
            .increment(self.usage.rejected_prediction_tokens.into());
        counter!("obsidian_wan_bytes_total", "direction" => "up").increment(self.wan().up);
        counter!("obsidian_wan_bytes_total", "direction" => "down").increment(self.wan().down);
        for (stage, micros) in [
            ("sanitise", self.stages.sanitise),
            ("mask", self.stages.mask),
            ("route", self.stages.route),
            ("render", self.stages.render),
            ("total", self.stages.total),
        ] {
            histogram!("obsidian_stage_seconds", "stage" => stage).record(micros as f64 / 1e6);
        }
        tracing::info!(
            target: "obsidian::audit",
            request_id = %self.id,
            tenant = %self.tenant,
            status,
            route,
            reason = self.reason,
            degraded = self.degraded,
            masked_values = self.masked_values,
            prompt_tokens = self.usage.prompt_tokens,
            completion_tokens = self.usage.completion_tokens,
            accepted = self.usage.accepted_prediction_tokens,
            rejected = self.usage.rejected_prediction_tokens,
            wan_bytes_up = self.wan().up,
            wan_bytes_down = self.wan().down,
            first_token_us = self.stages.first_token,
            total_us = self.stages.total,
            "request"
        );
    }
}

fn micros_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
