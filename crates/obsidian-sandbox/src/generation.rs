//! Versions of one guest, exchanged while it is in use.
//!
//! Whoever works with a guest takes the current generation and keeps it until the work is over, so a switch cuts
//! nothing off. The generation before stays ready, so going back takes no loading. One that faults again and again
//! soon after it took over is taken back by itself. Start at [`Generations`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use obsidian_registry::{Artifact, Digest, Verified};
use obsidian_types::limits::{GUEST_FAULT_WINDOW_MS, MAX_DRAINING_GENERATIONS, MAX_GUEST_FAULTS};

/// Which build of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestVersion {
    /// What it calls itself, for example `shield`.
    pub name: String,
    /// Its version, as in semantic versioning.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: Digest,
}

impl GuestVersion {
    /// The version of a verified component.
    pub fn of(artifact: &Verified<Artifact>) -> Self {
        Self { name: artifact.name.clone(), version: artifact.version.clone(), digest: artifact.digest() }
    }
}

/// One version of a guest while it serves, or waits for its last user to leave.
#[derive(Debug)]
pub struct Generation<T> {
    number: u64,
    since: SystemTime,
    guest: T,
    faults: Mutex<VecDeque<Instant>>,
}

impl<T> Generation<T> {
    fn new(number: u64, guest: T) -> Arc<Self> {
        Arc::new(Self { number, since: SystemTime::now(), guest, faults: Mutex::default() })
    }

    /// Counts up from 1; going back gives an old number again.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was made.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The guest.
    pub fn guest(&self) -> &T {
        &self.guest
    }

    /// Faults within the window that ends at `now`.
    pub fn faults(&self, now: Instant) -> usize {
        self.recent(now).len()
    }

    fn recent(&self, now: Instant) -> MutexGuard<'_, VecDeque<Instant>> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let window = Duration::from_millis(GUEST_FAULT_WINDOW_MS);
        while faults.front().is_some_and(|fault| now.saturating_duration_since(*fault) > window) {
            faults.pop_front();
        }
        faults
    }

    /// Notes a fault and says whether there were too many.
    fn is_spent(&self, now: Instant) -> bool {
        let mut faults = self.recent(now);
        if faults.len() < MAX_GUEST_FAULTS {
            faults.push_back(now);
        }
        faults.len() >= MAX_GUEST_FAULTS
    }
}

/// Too many old generations still have users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} older versions still serve what they began: try again when their streams have ended")]
pub struct StillDraining(usize);

/// The current generation of a guest, the one before, and those that still drain.
#[derive(Debug)]
pub struct Generations<T> {
    pair: ArcSwap<Pair<T>>,
    changes: Mutex<Changes<T>>,
}

#[derive(Debug)]
struct Pair<T> {
    current: Arc<Generation<T>>,
    previous: Option<Arc<Generation<T>>>,
}

#[derive(Debug)]
struct Changes<T> {
    last_number: u64,
    retired: Vec<Weak<Generation<T>>>,
}

impl<T> Changes<T> {
    fn draining(&mut self) -> usize {
        self.retired.retain(|generation| generation.strong_count() > 0);
        self.retired.len()
    }

    fn retire(&mut self, generation: Option<&Arc<Generation<T>>>) {
        self.retired.extend(generation.map(Arc::downgrade));
    }
}

impl<T> Generations<T> {
    /// The first generation.
    pub fn new(guest: T) -> Self {
        let pair = Pair { current: Generation::new(1, guest), previous: None };
        Self { pair: ArcSwap::from_pointee(pair), changes: Mutex::new(Changes { last_number: 1, retired: Vec::new() }) }
    }

    /// The generation that new work begins on. Keep it until the work is over.
    pub fn current(&self) -> Arc<Generation<T>> {
        self.pair.load().current.clone()
    }

    /// The generation that [`Generations::rollback`] goes back to.
    pub fn previous(&self) -> Option<Arc<Generation<T>>> {
        self.pair.load().previous.clone()
    }

    /// Older generations that still have users.
    pub fn draining(&self) -> usize {
        self.changes().draining()
    }

    /// Makes `guest` the current generation; the one that was stays ready.
    ///
    /// # Errors
    /// [`StillDraining`] if [`MAX_DRAINING_GENERATIONS`] older ones have users yet; nothing changes then.
    pub fn switch(&self, guest: T) -> Result<Arc<Generation<T>>, StillDraining> {
        let mut changes = self.changes();
        let draining = changes.draining();
        if draining >= MAX_DRAINING_GENERATIONS {
            return Err(StillDraining(draining));
        }
        changes.last_number += 1;
        let current = Generation::new(changes.last_number, guest);
        let old = self.pair.load_full();
        self.pair.store(Arc::new(Pair { current: current.clone(), previous: Some(old.current.clone()) }));
        changes.retire(old.previous.as_ref());
        Ok(current)
    }

    /// Exchanges the current generation and the one before. None if there is none before.
    pub fn rollback(&self) -> Option<Arc<Generation<T>>> {
        let _changes = self.changes();
        let old = self.pair.load_full();
        let current = old.previous.clone()?;
        self.pair.store(Arc::new(Pair { current: current.clone(), previous: Some(old.current.clone()) }));
        Some(current)
    }

    /// Notes a fault of `generation`. If it is the current one and the fault is its [`MAX_GUEST_FAULTS`]th within
    /// [`GUEST_FAULT_WINDOW_MS`], the one before takes over again, and is returned; the faulty one does not stay ready.
    pub fn note_fault(&self, generation: &Arc<Generation<T>>, now: Instant) -> Option<Arc<Generation<T>>> {
        if !generation.is_spent(now) {
            return None;
        }
        let mut changes = self.changes();
        let old = self.pair.load_full();
        let previous = old.previous.clone().filter(|_| Arc::ptr_eq(&old.current, generation))?;
        self.pair.store(Arc::new(Pair { current: previous.clone(), previous: None }));
        changes.retire(Some(generation));
        Some(previous)
    }

    fn changes(&self) -> MutexGuard<'_, Changes<T>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use obsidian_types::limits::{GUEST_FAULT_WINDOW_MS, MAX_DRAINING_GENERATIONS, MAX_GUEST_FAULTS};

    use super::{Generations, StillDraining};

    #[test]
    fn work_keeps_the_generation_it_began_with() {
        let generations = Generations::new("a");
        let held = generations.current();
        assert_eq!(generations.switch("b").map(|current| *current.guest()), Ok("b"));
        assert_eq!((*held.guest(), *generations.current().guest()), ("a", "b"));
        assert_eq!(generations.rollback().map(|current| (current.number(), *current.guest())), Some((1, "a")));
        assert_eq!(generations.rollback().map(|current| (current.number(), *current.guest())), Some((2, "b")));
        assert!(Generations::new("a").rollback().is_none());
    }

    #[test]
    fn a_guest_goes_with_its_last_user() {
        let generations = Generations::new(Arc::new("first"));
        let held = generations.current();
        let guest = Arc::downgrade(held.guest());
        for next in ["second", "third"] {
            generations.switch(Arc::new(next)).expect("few drain");
        }
        assert_eq!((guest.strong_count(), generations.draining()), (1, 1));
        drop(held);
        assert_eq!((guest.strong_count(), generations.draining()), (0, 0));
    }

    #[test]
    fn old_generations_do_not_pile_up() {
        let generations = Generations::new(0);
        let mut held = vec![generations.current()];
        // The one before the current one does not count as draining.
        for number in 1..=MAX_DRAINING_GENERATIONS {
            held.push(generations.switch(number).expect("not too many yet"));
        }
        held.push(generations.switch(100).expect("the last one"));
        assert_eq!(generations.switch(101).map(|_| ()), Err(StillDraining(MAX_DRAINING_GENERATIONS)));
        assert_eq!(*generations.current().guest(), 100);
        held.remove(0);
        assert!(generations.switch(101).is_ok());
    }

    #[test]
    fn only_many_faults_in_a_short_time_take_the_current_one_back() {
        let generations = Generations::new("good");
        let start = Instant::now();
        let window = Duration::from_millis(GUEST_FAULT_WINDOW_MS);
        let good = generations.current();
        for _ in 0..2 * MAX_GUEST_FAULTS {
            assert!(generations.note_fault(&good, start).is_none(), "there is nothing to go back to");
        }
        let candidate = generations.switch("candidate").expect("none drains");
        // Old work on the old one says nothing about the new one.
        assert!(generations.note_fault(&good, start).is_none());
        for fault in 0..3 * MAX_GUEST_FAULTS as u32 {
            assert!(generations.note_fault(&candidate, start + fault * window).is_none(), "spread out");
        }
        let late = start + 1_000 * window;
        for _ in 1..MAX_GUEST_FAULTS {
            assert!(generations.note_fault(&candidate, late).is_none());
        }
        let back = generations.note_fault(&candidate, late).expect("one too many");
        assert_eq!((back.number(), *generations.current().guest()), (1, "good"));
        assert!(generations.previous().is_none(), "the faulty one does not stay ready");
        assert!(generations.note_fault(&candidate, late).is_none(), "once");
    }
}
