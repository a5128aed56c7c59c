//! A map that keeps its order, as Python's do.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value};

/// Keys and values, and where each key stands.
#[derive(Debug)]
struct Record {
    entries: Vec<(Value, Value)>,
    places: BTreeMap<Value, usize>,
}

impl Object for Record {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.places.get(key).map(|place| self.entries[*place].1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The map of `entries`; of equal keys the last value counts, in the first one's place.
pub(super) fn map(entries: impl IntoIterator<Item = (Value, Value)>) -> Value {
    let mut record = Record { entries: Vec::new(), places: BTreeMap::new() };
    for (key, value) in entries {
        match record.places.get(&key) {
            Some(place) => record.entries[*place].1 = value,
            None => {
                record.places.insert(key.clone(), record.entries.len());
                record.entries.push((key, value));
            }
        }
    }
    Value::from_object(record)
}

/// As [`map`], with the names of attributes for keys.
pub(super) fn record<const N: usize>(entries: [(&str, Value); N]) -> Value {
    map(entries.map(|(key, value)| (Value::from(key), value)))
}
