//! What functions write to their logs: kept a while in memory, for whoever asks. Never on disk, and in the node's own
//! log without a word of the text.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use metrics::counter;
use obsidian_sandbox::functions::{FunctionLog, LogLevel, LogLine};
use obsidian_types::TenantId;
use obsidian_types::limits::{
    MAX_DEPLOYMENTS, MAX_FUNCTION_LOG_LINE_BYTES, MAX_KEPT_LOG_BYTES, MAX_KEPT_LOG_LINES, MAX_LOG_BACKLOG,
    MAX_LOG_LINES_PER_SECOND,
};
use serde::Serialize;
use tokio::sync::broadcast;

/// Seconds' worth of lines that may come at once.
const BURST_SECONDS: f64 = 10.0;
/// What a kept line costs beside its texts, bytes.
const ENTRY_BYTES: usize = 96;

/// A line as it is kept and told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Unix time, milliseconds.
    pub time_unix_ms: u64,
    /// `trace` to `critical`.
    pub level: &'static str,
    /// `stdout`, `stderr`, or what the function calls it.
    pub context: String,
    /// Which version wrote it.
    pub version: String,
    /// The line.
    pub text: String,
    /// Lines that were dropped before this one, because too many came at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + self.context.len() + self.version.len() + ENTRY_BYTES
    }
}

/// The logs of all functions.
#[derive(Default)]
pub(super) struct Logs {
    rings: Mutex<HashMap<(TenantId, String), Arc<Ring>>>,
    /// Bytes that all rings hold.
    held: Arc<AtomicUsize>,
}

struct Ring {
    state: Mutex<State>,
    followers: broadcast::Sender<Arc<Entry>>,
    held: Arc<AtomicUsize>,
}

struct State {
    entries: VecDeque<Arc<Entry>>,
    /// Lines that may still come now.
    allowance: f64,
    refilled: Instant,
    dropped: u64,
}

/// Lines kept so far, and those to come.
pub struct Following {
    /// What was kept.
    pub kept: Vec<Arc<Entry>>,
    /// What comes.
    pub coming: broadcast::Receiver<Arc<Entry>>,
}

impl Logs {
    fn ring(&self, tenant: &TenantId, module: &str) -> Option<Arc<Ring>> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), module.to_owned());
        if let Some(ring) = rings.get(&key) {
            return Some(ring.clone());
        }
        if rings.len() >= MAX_DEPLOYMENTS {
            return None;
        }
        let ring = Arc::new(Ring::new(self.held.clone()));
        rings.insert(key, ring.clone());
        Some(ring)
    }

    /// The last `count` lines of a function, and those to come.
    pub(super) fn follow(&self, tenant: &TenantId, module: &str, count: usize) -> Option<Following> {
        let ring = self.ring(tenant, module)?;
        let state = ring.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Subscribed under the lock, so that no line is told twice or not at all.
        let coming = ring.followers.subscribe();
        let skipped = state.entries.len().saturating_sub(count);
        Some(Following { kept: state.entries.iter().skip(skipped).cloned().collect(), coming })
    }

    /// Forgets a function's lines.
    pub(super) fn forget(&self, tenant: &TenantId, module: &str) {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).remove(&(tenant.clone(), module.to_owned()));
    }
}

impl FunctionLog for Logs {
    fn write(&self, line: LogLine) {
        let LogLine { function, level, context, mut text } = line;
        let Some(ring) = self.ring(&function.tenant, &function.module) else { return };
        let mut end = text.len().min(MAX_FUNCTION_LOG_LINE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        let (bytes, tenant, module) = (text.len(), function.tenant.as_str(), &function.module);
        let entry = Entry {
            time_unix_ms: unix_millis(),
            level: name(level),
            context: context.chars().take(64).collect(),
            version: function.version,
            text,
            dropped: 0,
        };
        if !ring.push(entry) {
            counter!("obsidian_function_log_dropped_total", "tenant" => tenant.to_owned(), "module" => module.clone())
                .increment(1);
        } else if level >= LogLevel::Error {
            tracing::info!(tenant, module, bytes, "a function wrote an error to its log");
        } else {
            tracing::debug!(tenant, module, bytes, "a function wrote to its log");
        }
    }
}

impl Ring {
    fn new(held: Arc<AtomicUsize>) -> Self {
        let state = State { entries: VecDeque::new(), allowance: burst(), refilled: Instant::now(), dropped: 0 };
        Self { state: Mutex::new(state), followers: broadcast::Sender::new(MAX_LOG_BACKLOG), held }
    }

    /// Takes a line; false if too many came.
    fn push(&self, mut entry: Entry) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.duration_since(state.refilled).as_secs_f64();
        state.refilled = now;
        state.allowance = (state.allowance + passed * f64::from(MAX_LOG_LINES_PER_SECOND)).min(burst());
        if state.allowance < 1.0 {
            state.dropped += 1;
            return false;
        }
        state.allowance -= 1.0;
        entry.dropped = std::mem::take(&mut state.dropped);
        let bytes = entry.bytes();
        // When all logs together are full, a function pays with its own oldest lines.
        while state.entries.len() >= MAX_KEPT_LOG_LINES
            || self.held.load(Ordering::Relaxed) + bytes > MAX_KEPT_LOG_BYTES
        {
            let Some(oldest) = state.entries.pop_front() else { break };
            self.held.fetch_sub(oldest.bytes(), Ordering::Relaxed);
        }
        let entry = Arc::new(entry);
        // Nobody may be listening.
        let _ = self.followers.send(entry.clone());
        if self.held.load(Ordering::Relaxed) + bytes <= MAX_KEPT_LOG_BYTES {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            state.entries.push_back(entry);
        }
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = state.entries.iter().map(|entry| entry.bytes()).sum();
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn burst() -> f64 {
    f64::from(MAX_LOG_LINES_PER_SECOND) * BURST_SECONDS
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use obsidian_sandbox::functions::{FunctionId, FunctionLog as _, LogLevel, LogLine};
    use obsidian_types::TenantId;
    use obsidian_types::limits::{MAX_FUNCTION_LOG_LINE_BYTES, MAX_KEPT_LOG_LINES, MAX_LOG_LINES_PER_SECOND};

    use super::Logs;

    fn line(tenant: &str, text: &str) -> LogLine {
        let function =
            FunctionId { tenant: TenantId::new(tenant), module: "shop".to_owned(), version: "1.0.0".to_owned() };
        LogLine { function, level: LogLevel::Info, context: "stdout".to_owned(), text: text.to_owned() }
    }

    #[tokio::test]
    async fn lines_are_kept_by_tenant_and_followed() {
        let logs = Logs::default();
        logs.write(line("a", "one"));
        logs.write(line("a", "two"));
        logs.write(line("b", "secret of b"));
        let mut following = logs.follow(&TenantId::new("a"), "shop", 1).unwrap();
        assert_eq!(following.kept.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), ["two"]);
        logs.write(line("a", "three"));
        assert_eq!(following.coming.recv().await.unwrap().text, "three");
        logs.forget(&TenantId::new("a"), "shop");
        assert!(logs.follow(&TenantId::new("a"), "shop", 10).unwrap().kept.is_empty());
    }

    #[test]
    fn a_flood_is_cut_and_counted_and_nothing_grows() {
        let logs = Logs::default();
        let many = MAX_LOG_LINES_PER_SECOND as usize * 20;
        for _ in 0..many {
            logs.write(line("a", "x"));
        }
        let kept = logs.follow(&TenantId::new("a"), "shop", usize::MAX).unwrap().kept;
        assert_eq!(kept.len(), MAX_KEPT_LOG_LINES);
        std::thread::sleep(std::time::Duration::from_millis(20));
        logs.write(line("a", "after"));
        let last = logs.follow(&TenantId::new("a"), "shop", 1).unwrap().kept;
        assert!(last[0].text == "after" && last[0].dropped > 1_000, "{last:?}");
        // A long line is cut at a character, and what is forgotten is given back.
        logs.write(line("b", &"ä".repeat(MAX_FUNCTION_LOG_LINE_BYTES)));
        let long = logs.follow(&TenantId::new("b"), "shop", 1).unwrap().kept;
        assert_eq!(long[0].text.len(), MAX_FUNCTION_LOG_LINE_BYTES);
        for tenant in ["a", "b"] {
            logs.forget(&TenantId::new(tenant), "shop");
        }
        drop((kept, last, long));
        assert_eq!(logs.held.load(Ordering::Relaxed), 0);
    }
}
