//! Numbers about requests to functions, by tenant and function. What the instances do is counted in the sandbox, under
//! the same two labels; here those numbers are only described.

use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use super::deployment::Key;

/// From the request's head to the answer's head.
pub(crate) const FIRST_BYTE: &str = "obsidian_function_first_byte_seconds";
/// Counted by the sandbox: one call, to the last byte of its answer.
pub(crate) const CALL: &str = "obsidian_function_call_seconds";
/// Counted by the sandbox: processor time of one call.
pub(crate) const CPU: &str = "obsidian_function_cpu_seconds";
/// Counted by the sandbox: making one instance.
pub(crate) const INSTANTIATION: &str = "obsidian_function_instantiation_seconds";
/// Counted by the sandbox: linear memory of an instance when it ends.
pub(crate) const MEMORY: &str = "obsidian_function_memory_bytes";

/// Classes of HTTP statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Tells the recorder what the metrics mean.
pub(crate) fn describe() {
    describe_counter!("obsidian_function_requests_total", "Requests to functions, by class of HTTP status.");
    describe_histogram!(FIRST_BYTE, Unit::Seconds, "From a request's head to its answer's head.");
    describe_counter!("obsidian_function_broken_total", "Answers of functions that did not reach their end, by kind.");
    describe_histogram!(CALL, Unit::Seconds, "One call of a function, to the last byte of its answer.");
    describe_histogram!(CPU, Unit::Seconds, "Processor time of one call.");
    describe_histogram!(INSTANTIATION, Unit::Seconds, "Making one instance.");
    describe_histogram!(MEMORY, Unit::Bytes, "Linear memory of an instance.");
    describe_gauge!("obsidian_function_instances", "Instances alive now.");
    describe_gauge!("obsidian_function_instances_warm", "Instances that wait for a request now.");
    describe_counter!("obsidian_function_starts_total", "Requests by how their instance began: warm or cold.");
    describe_counter!("obsidian_function_answers_total", "Requests that a function answered.");
    describe_counter!("obsidian_function_failures_total", "Requests that a function did not answer, by kind.");
    describe_counter!("obsidian_function_outbound_total", "Requests of functions outwards, by outcome.");
    describe_counter!("obsidian_function_chat_total", "Questions of functions to models, by outcome.");
    describe_counter!("obsidian_function_log_dropped_total", "Log lines of functions that were too many.");
    describe_counter!("obsidian_function_shadow_total", "Requests copied to candidates, by how the answers compare.");
}

/// The numbers of one deployment. Looking a metric up costs as much as a small request, so it is done once.
pub(crate) struct Numbers {
    answered: [Counter; 5],
    first_byte: Histogram,
    key: Key,
}

impl Numbers {
    pub(super) fn new(key: &Key) -> Self {
        let (tenant, function) = (key.tenant.as_str().to_owned(), key.name.clone());
        let answered = CLASSES.map(|class| {
            counter!("obsidian_function_requests_total", "tenant" => tenant.clone(), "function" => function.clone(),
                "status" => class)
        });
        let first_byte = histogram!(FIRST_BYTE, "tenant" => tenant, "function" => function);
        Self { answered, first_byte, key: key.clone() }
    }

    /// The head of an answer has left, the function's or ours.
    pub(crate) fn answered(&self, status: StatusCode, first_byte: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.answered[class].increment(1);
        self.first_byte.record(first_byte.as_secs_f64());
    }

    /// An answer has not reached its end.
    pub(crate) fn broken(&self, kind: &'static str) {
        let (tenant, function) = (self.key.tenant.as_str().to_owned(), self.key.name.clone());
        counter!("obsidian_function_broken_total", "tenant" => tenant, "function" => function, "kind" => kind)
            .increment(1);
    }
}
