//! How many of one kind an instance has on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is on its way. Cloning gives another handle to the same count.
#[derive(Clone, Debug, Default)]
pub(in crate::functions) struct InFlight(Arc<AtomicU32>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(in crate::functions) struct OnItsWay(InFlight);

impl InFlight {
    /// Counts one more, unless there are `limit`.
    pub(super) fn enter(&self, limit: u32) -> Option<OnItsWay> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= limit {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(OnItsWay(self.clone()))
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::InFlight;

    #[test]
    fn as_many_as_may_and_a_place_again_when_one_ends() {
        let in_flight = InFlight::default();
        let held = [in_flight.enter(2).unwrap(), in_flight.enter(2).unwrap()];
        assert!(in_flight.enter(2).is_none());
        drop(held);
        assert!(in_flight.is_none() && in_flight.enter(2).is_some());
    }
}
