//! `obsidian:functions/metrics`: a function's own metrics, named after it and bounded in number.

use ::metrics::{Label, counter, gauge, histogram};

use super::bindings::obsidian::functions::metrics::Host;
use crate::functions::state::FunctionState;

/// Labels of one metric.
const MAX_LABELS: usize = 8;
/// Longest name, label and value, bytes.
const MAX_TEXT_BYTES: usize = 64;

type Labels = Vec<(String, String)>;

impl FunctionState {
    /// The metric's name and labels as the node exports them; none if there are too many already, or it has no name.
    fn series(&self, name: &str, labels: Labels) -> Option<(String, Vec<Label>)> {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_TEXT_BYTES
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !text.starts_with(|first: char| first.is_ascii_digit())
        };
        let fits = plain(name)
            && labels.len() <= MAX_LABELS
            && labels.iter().all(|(label, value)| plain(label) && value.len() <= MAX_TEXT_BYTES)
            && self.origin.series.admit(name, &labels);
        if !fits {
            counter!("obsidian_function_metrics_refused_total", "function" => self.origin.id.module.clone())
                .increment(1);
            return None;
        }
        let mut all = vec![
            Label::new("tenant", self.origin.id.tenant.to_string()),
            Label::new("function", self.origin.id.module.clone()),
        ];
        all.extend(labels.into_iter().map(|(label, value)| Label::new(label, value)));
        Some((format!("fn_{name}"), all))
    }
}

impl Host for FunctionState {
    async fn counter_add(&mut self, name: String, labels: Labels, value: u64) -> wasmtime::Result<()> {
        if let Some((name, labels)) = self.series(&name, labels) {
            counter!(name, labels).increment(value);
        }
        Ok(())
    }

    async fn gauge_set(&mut self, name: String, labels: Labels, value: f64) -> wasmtime::Result<()> {
        if let Some((name, labels)) = self.series(&name, labels) {
            gauge!(name, labels).set(value);
        }
        Ok(())
    }

    async fn histogram_record(&mut self, name: String, labels: Labels, value: f64) -> wasmtime::Result<()> {
        if let Some((name, labels)) = self.series(&name, labels) {
            histogram!(name, labels).record(value);
        }
        Ok(())
    }
}
