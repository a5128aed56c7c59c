//! The hub's metrics. Numbers only: no id, no text, no tenant.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use obsidian_wire::Code;

use crate::engine::{Lane, Wanted};
use crate::session::Tally;

/// One forward pass.
pub(crate) fn pass(time: Duration, lanes: &[Lane<'_>]) {
    histogram!("obsidian_hub_forward_seconds").record(time.as_secs_f64());
    histogram!("obsidian_hub_batch_lanes").record(lanes.len() as f64);
    let rows = |wanted| lanes.iter().filter(|lane| lane.wanted == wanted).map(|lane| lane.ids.len()).sum::<usize>();
    histogram!("obsidian_hub_batch_rows").record((rows(Wanted::None) + rows(Wanted::All)) as f64);
    counter!("obsidian_hub_prefill_tokens_total").increment(rows(Wanted::None) as u64);
}

/// One window judged.
pub(crate) fn verdict(tally: &Tally) {
    counter!("obsidian_hub_emitted_tokens_total").increment(tally.emitted as u64);
    counter!("obsidian_hub_accepted_tokens_total").increment(tally.accepted as u64);
    rejected(tally.rejected);
}

/// Drafted ids that were not emitted.
pub(crate) fn rejected(count: usize) {
    counter!("obsidian_hub_rejected_tokens_total").increment(count as u64);
}

/// A stream opened.
pub(crate) fn opened(prompt_tokens: usize, reused_tokens: usize) {
    counter!("obsidian_hub_streams_total").increment(1);
    counter!("obsidian_hub_prompt_tokens_total").increment(prompt_tokens as u64);
    counter!("obsidian_hub_reused_tokens_total").increment(reused_tokens as u64);
}

/// A stream refused or ended with an error.
pub(crate) fn refusal(code: Code) {
    counter!("obsidian_hub_refusals_total", "code" => code.as_str()).increment(1);
}

/// A finished sequence made room.
pub(crate) fn evicted() {
    counter!("obsidian_hub_evicted_prefixes_total").increment(1);
}

/// How full the hub is.
pub(crate) fn load(sessions: usize, kv_bytes: u64) {
    gauge!("obsidian_hub_sessions").set(sessions as f64);
    gauge!("obsidian_hub_kv_bytes").set(kv_bytes as f64);
}
