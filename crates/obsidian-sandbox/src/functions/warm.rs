//! Instances that wait for their request. How many follows demand: as many as ran at once lately, fewer with every
//! second of silence, one at least, so that the next request finds it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::instance::Instance;

/// Most instances of one module that wait.
const MAX_WARM: u32 = 256;
/// Most of them that are kept for the time that making one may take beside a greedy neighbour.
const MAX_RESERVE: u32 = 32;

/// The waiting instances of one module.
#[derive(Default)]
pub(super) struct WarmPool {
    ready: Mutex<Vec<Instance>>,
    /// Requests that ran at once lately.
    peak: AtomicU32,
    /// Instances beyond that, because making them was slower than demand.
    reserve: AtomicU32,
    /// Instances being made.
    making: AtomicU32,
    closed: std::sync::atomic::AtomicBool,
}

impl WarmPool {
    /// Takes the instance that was put here last: its memory is the warmest.
    pub(super) fn take(&self) -> Option<Instance> {
        self.lock().pop()
    }

    /// Puts an instance here, unless there is no need of it.
    pub(super) fn put(&self, instance: Instance) {
        let mut ready = self.lock();
        if !self.closed.load(Ordering::Acquire) && ready.len() < MAX_WARM as usize {
            ready.push(instance);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Notes how many requests run at once.
    pub(super) fn note(&self, running: u32) {
        self.peak.fetch_max(running, Ordering::Relaxed);
    }

    /// Notes that a request found none, though making them had its time.
    pub(super) fn note_missing(&self) {
        let more = |reserve: u32| Some((2 * reserve).clamp(4, MAX_RESERVE));
        let _ = self.reserve.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Claims the making of one more instance, if one is missing.
    pub(super) fn claim(&self, running: u32) -> Option<Making<'_>> {
        let peak = self.peak.load(Ordering::Relaxed).saturating_sub(running).max(1);
        let wanted = peak.saturating_add(self.reserve.load(Ordering::Relaxed));
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        self.claim_up_to(wanted)
    }

    /// The same for a number of waiting instances that somebody asked for.
    pub(super) fn claim_up_to(&self, wanted: u32) -> Option<Making<'_>> {
        let have = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let making = self.making.fetch_add(1, Ordering::AcqRel);
        let claim = Making(self);
        (have.saturating_add(making) < wanted.min(MAX_WARM)).then_some(claim)
    }

    /// A second has passed: what the demand no longer asks for is let go. Returns how many wait. A reserve stays while
    /// `tense` neighbours may need it again.
    pub(super) fn cool(&self, running: u32, tense: bool) -> usize {
        if !tense {
            self.reserve.store(0, Ordering::Relaxed);
        }
        let peak = self.peak.load(Ordering::Relaxed);
        let cooler = peak.saturating_sub(peak.div_ceil(4)).max(running).max(1);
        self.peak.store(cooler, Ordering::Relaxed);
        let surplus = {
            let mut ready = self.lock();
            let keep = ((cooler + self.reserve.load(Ordering::Relaxed)) as usize).min(ready.len());
            // The oldest are the coldest.
            let surplus = ready.len() - keep;
            ready.drain(..surplus).collect::<Vec<_>>()
        };
        // Outside the lock: freeing slots takes time.
        drop(surplus);
        self.len()
    }

    /// Lets go of one instance, for another module that has none. Whether there was one.
    pub(super) fn give_up_one(&self) -> bool {
        let coldest = {
            let mut ready = self.lock();
            (!ready.is_empty()).then(|| ready.remove(0))
        };
        coldest.is_some()
    }

    /// Lets go of all, and of what comes later.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The claim to make one instance.
pub(super) struct Making<'pool>(&'pool WarmPool);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.fetch_sub(1, Ordering::AcqRel);
    }
}
