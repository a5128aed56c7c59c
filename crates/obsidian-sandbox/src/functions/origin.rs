//! Who an instance works for and what it may use: the same for all instances of one module.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use obsidian_types::FunctionGrants;
use wasmtime_wasi_config::WasiConfigVariables;

use super::services::{FunctionId, FunctionServices};

/// Metrics of its own that one module may have, counting every set of labels.
const MAX_SERIES: usize = 128;

/// A module's identity and grants.
pub(super) struct Origin {
    pub(super) id: FunctionId,
    pub(super) grants: FunctionGrants,
    pub(super) services: FunctionServices,
    pub(super) config: Arc<WasiConfigVariables>,
    pub(super) series: Series,
}

impl Origin {
    pub(super) fn new(id: FunctionId, grants: FunctionGrants, services: FunctionServices) -> Arc<Self> {
        let values = grants.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
        let config = Arc::new(values.collect::<WasiConfigVariables>());
        Arc::new(Self { id, grants, services, config, series: Series::default() })
    }
}

/// The metrics that a module has made so far.
#[derive(Default)]
pub(super) struct Series(Mutex<BTreeSet<String>>);

impl Series {
    /// Whether the metric may exist: it does already, or there is room.
    pub(super) fn admit(&self, name: &str, labels: &[(String, String)]) -> bool {
        let mut key = name.to_owned();
        for (label, value) in labels {
            key.extend(["\0", label, "\0", value]);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&key) || (known.len() < MAX_SERIES && known.insert(key))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SERIES, Series};

    #[test]
    fn metrics_are_bounded_in_number() {
        let series = Series::default();
        let label = |value: usize| vec![("a".to_owned(), value.to_string())];
        assert!((0..MAX_SERIES).all(|value| series.admit("name", &label(value))));
        assert!(!series.admit("name", &label(MAX_SERIES)));
        assert!(series.admit("name", &label(0)));
    }
}
