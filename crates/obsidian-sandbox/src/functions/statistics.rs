//! What is counted for each module, in memory for [`FunctionStatistics`] and as metrics for `/metrics`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

use super::error::FunctionError;
use super::recent::Recent;
use super::services::FunctionId;

/// How a module is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionStatistics {
    /// Requests that run now.
    pub running: u32,
    /// Requests that wait now.
    pub waiting: u32,
    /// Instances alive now, warm ones included.
    pub live: u32,
    /// Instances that wait for a request.
    pub warm: u32,
    /// Requests answered by an instance that waited for them.
    pub warm_starts: u64,
    /// Requests for which an instance had to be made first.
    pub cold_starts: u64,
    /// Requests that ended with a [`FunctionError`].
    pub failures: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Processor time over all requests, microseconds.
    pub cpu_us: u64,
    /// Largest linear memory that an instance had, bytes.
    pub peak_memory_bytes: u64,
}

/// The counters of one module. Handles of metrics are made once: looking them up costs as much as a small request.
pub(super) struct Counters {
    labels: Vec<Label>,
    pub(super) running: AtomicU32,
    pub(super) waiting: AtomicU32,
    live: AtomicU32,
    warm_starts: AtomicU64,
    cold_starts: AtomicU64,
    failures: AtomicU64,
    answered: AtomicU64,
    cpu_us: AtomicU64,
    peak_memory_bytes: AtomicU64,
    /// Processor time of recent requests, microseconds: decides where the next begins.
    recent_cpu_us: Recent,
    live_gauge: Gauge,
    warm_gauge: Gauge,
    warm_counter: Counter,
    cold_counter: Counter,
    answered_counter: Counter,
    call_seconds: Histogram,
    cpu_seconds: Histogram,
    instantiation_seconds: Histogram,
    memory_bytes: Histogram,
}

impl Counters {
    pub(super) fn new(id: &FunctionId) -> Self {
        let labels = vec![Label::new("tenant", id.tenant.to_string()), Label::new("function", id.module.clone())];
        let starts = |kind: &'static str| {
            let labels: Vec<Label> = labels.iter().cloned().chain([Label::new("start", kind)]).collect();
            counter!("obsidian_function_starts_total", labels)
        };
        Self {
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            live: AtomicU32::new(0),
            warm_starts: AtomicU64::new(0),
            cold_starts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            cpu_us: AtomicU64::new(0),
            peak_memory_bytes: AtomicU64::new(0),
            recent_cpu_us: Recent::default(),
            live_gauge: gauge!("obsidian_function_instances", labels.clone()),
            warm_gauge: gauge!("obsidian_function_instances_warm", labels.clone()),
            warm_counter: starts("warm"),
            cold_counter: starts("cold"),
            answered_counter: counter!("obsidian_function_answers_total", labels.clone()),
            call_seconds: histogram!("obsidian_function_call_seconds", labels.clone()),
            cpu_seconds: histogram!("obsidian_function_cpu_seconds", labels.clone()),
            instantiation_seconds: histogram!("obsidian_function_instantiation_seconds", labels.clone()),
            memory_bytes: histogram!("obsidian_function_memory_bytes", labels.clone()),
            labels,
        }
    }

    pub(super) fn made(&self, took: Duration) {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.live_gauge.increment(1.0);
        self.instantiation_seconds.record(took.as_secs_f64());
    }

    pub(super) fn gone(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.live_gauge.decrement(1.0);
    }

    pub(super) fn started(&self, warm: bool) {
        let (count, metric) = match warm {
            true => (&self.warm_starts, &self.warm_counter),
            false => (&self.cold_starts, &self.cold_counter),
        };
        count.fetch_add(1, Ordering::Relaxed);
        metric.increment(1);
    }

    pub(super) fn set_warm(&self, count: usize) {
        self.warm_gauge.set(count as f64);
    }

    pub(super) fn used(&self, memory_bytes: u64) {
        self.peak_memory_bytes.fetch_max(memory_bytes, Ordering::Relaxed);
        self.memory_bytes.record(memory_bytes as f64);
    }

    pub(super) fn ended(&self, took: Duration, cpu: Duration, failure: Option<&FunctionError>) {
        let cpu_us = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        self.cpu_us.fetch_add(cpu_us, Ordering::Relaxed);
        self.call_seconds.record(took.as_secs_f64());
        self.cpu_seconds.record(cpu.as_secs_f64());
        self.recent_cpu_us.note(cpu_us);
        match failure {
            None => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.answered_counter.increment(1);
            }
            Some(failure) => self.failed(failure),
        }
    }

    pub(super) fn failed(&self, failure: &FunctionError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let labels: Vec<Label> = self.labels.iter().cloned().chain([Label::new("kind", failure.kind())]).collect();
        counter!("obsidian_function_failures_total", labels).increment(1);
    }

    /// Processor time that a request of this module takes lately.
    pub(super) fn recent_cpu(&self) -> Duration {
        Duration::from_micros(self.recent_cpu_us.get())
    }

    pub(super) fn snapshot(&self, warm: usize) -> FunctionStatistics {
        FunctionStatistics {
            running: self.running.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            live: self.live.load(Ordering::Relaxed),
            warm: u32::try_from(warm).unwrap_or(u32::MAX),
            warm_starts: self.warm_starts.load(Ordering::Relaxed),
            cold_starts: self.cold_starts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
            cpu_us: self.cpu_us.load(Ordering::Relaxed),
            peak_memory_bytes: self.peak_memory_bytes.load(Ordering::Relaxed),
        }
    }
}
