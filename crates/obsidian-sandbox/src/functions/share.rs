//! Whose functions use how much of the processors lately. A tenant that takes more than its part while others are there
//! too runs on the patient threads: then what it does, however often, is not what the others wait for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use obsidian_types::TenantId;

use super::recent::Recent;
use super::workers::Pace;

/// Time constant of the memory: what was used longer ago counts for little.
const MEMORY: Duration = Duration::from_millis(500);
/// How long after a request of another tenant a tenant counts as not alone.
const COMPANY: Duration = Duration::from_secs(1);
/// Part of all processors that a tenant may use and still be prompt.
const PART: f64 = 0.2;
/// Memory of an instance that makes filling it and giving it back felt by others, bytes.
const MUCH_MEMORY: u64 = 4 << 20;
/// How long after a request of a tenant over its part the others are looked after with more care.
const TENSION: Duration = Duration::from_secs(1);

/// All tenants of a node.
pub(super) struct Shares {
    zero: Instant,
    processors: f64,
    tenants: Mutex<HashMap<TenantId, Weak<Share>>>,
    /// Who asked last, by number, and when that was somebody else than before.
    last: AtomicU64,
    changed_ns: AtomicU64,
    /// When a tenant over its part asked last.
    tense_ns: AtomicU64,
}

/// One tenant's use.
pub(super) struct Share {
    number: u64,
    /// Nanoseconds of processor time, fading; and when it was last brought up to date.
    used: Mutex<(f64, Instant)>,
    /// Linear memory of its instances lately, bytes.
    memory: Recent,
}

impl Shares {
    pub(super) fn new(threads: usize) -> Self {
        let processors = threads.max(1) as f64;
        let tenants = Mutex::default();
        let zero = Instant::now();
        let [last, changed_ns, tense_ns] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { zero, processors, tenants, last, changed_ns, tense_ns }
    }

    /// The share of a tenant, the same for all its modules.
    pub(super) fn of(&self, tenant: &TenantId) -> Arc<Share> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = tenants.get(tenant).and_then(Weak::upgrade) {
            return share;
        }
        tenants.retain(|_, share| share.strong_count() > 0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let share = Arc::new(Share { number, used: Mutex::new((0.0, Instant::now())), memory: Recent::default() });
        tenants.insert(tenant.clone(), Arc::downgrade(&share));
        share
    }

    /// A request of this tenant begins. How soon it should run.
    pub(super) fn pace(&self, share: &Share, now: Instant) -> Pace {
        let now_ns = self.nanoseconds(now);
        if self.last.swap(share.number, Ordering::Relaxed) != share.number {
            self.changed_ns.store(now_ns.max(1), Ordering::Relaxed);
        }
        let changed = self.changed_ns.load(Ordering::Relaxed);
        let alone = changed == 0 || now_ns.saturating_sub(changed) > COMPANY.as_nanos() as u64;
        if alone || share.part(now, self.processors) <= PART {
            return Pace::Prompt;
        }
        self.tense_ns.store(now_ns.max(1), Ordering::Relaxed);
        if share.memory.get() > MUCH_MEMORY { Pace::Single } else { Pace::Patient }
    }

    /// Whether some tenant was over its part a moment ago, with others there too.
    pub(super) fn is_tense(&self, now: Instant) -> bool {
        let last = self.tense_ns.load(Ordering::Relaxed);
        last > 0 && self.nanoseconds(now).saturating_sub(last) < TENSION.as_nanos() as u64
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.zero).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Share {
    /// Some processor time was used.
    pub(super) fn add(&self, time: Duration, now: Instant) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = (faded(*used, now) + time.as_nanos() as f64, now);
    }

    /// An instance ended with so much memory. One that has filled its stack, to which short calls can come again and again,
    /// counts as one that has filled much.
    pub(super) fn note_memory(&self, bytes: u64, failure: Option<&wasmtime::Error>) {
        let exhausted = failure.and_then(|error| error.downcast_ref()) == Some(&wasmtime::Trap::StackOverflow);
        self.memory.note(if exhausted { bytes.saturating_add(2 * MUCH_MEMORY) } else { bytes });
    }

    /// The part of all processors that it used lately.
    fn part(&self, now: Instant, processors: f64) -> f64 {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        faded(used, now) / (MEMORY.as_nanos() as f64 * processors)
    }
}

fn faded((used, since): (f64, Instant), now: Instant) -> f64 {
    used * (-now.saturating_duration_since(since).as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use obsidian_types::TenantId;

    use super::{Pace, Shares};

    #[test]
    fn who_takes_more_than_its_part_beside_others_is_patient() {
        let shares = Shares::new(2);
        let (greedy, modest) = (shares.of(&TenantId::new("greedy")), shares.of(&TenantId::new("modest")));
        let mut now = Instant::now();
        for _ in 0..200 {
            // Alone it may take everything.
            assert_eq!(shares.pace(&greedy, now + Duration::from_secs(10)), Pace::Prompt);
            now += Duration::from_millis(10);
            greedy.add(Duration::from_millis(15), now);
        }
        now += Duration::from_secs(10);
        for _ in 0..200 {
            now += Duration::from_millis(10);
            greedy.add(Duration::from_millis(15), now);
            modest.add(Duration::from_micros(100), now);
            assert_eq!(shares.pace(&modest, now), Pace::Prompt);
        }
        assert!(!shares.is_tense(now));
        assert_eq!(shares.pace(&greedy, now), Pace::Patient);
        assert!(shares.is_tense(now));
        assert!(!shares.is_tense(now + Duration::from_secs(2)));
        // It fades.
        assert_eq!(shares.pace(&modest, now + Duration::from_secs(5)), Pace::Prompt);
        assert_eq!(shares.pace(&greedy, now + Duration::from_secs(5)), Pace::Prompt);
    }

    #[test]
    fn who_fills_much_memory_over_its_part_has_one_thread() {
        let shares = Shares::new(1);
        let (greedy, modest) = (shares.of(&TenantId::new("greedy")), shares.of(&TenantId::new("modest")));
        let now = Instant::now();
        greedy.add(Duration::from_secs(1), now);
        let pace = || {
            assert_eq!(shares.pace(&modest, now), Pace::Prompt);
            shares.pace(&greedy, now)
        };
        greedy.note_memory(64 << 20, None);
        assert_eq!(pace(), Pace::Single);
        (0..30).for_each(|_| greedy.note_memory(1 << 20, None));
        assert_eq!(pace(), Pace::Patient);
        let exhausted = wasmtime::Trap::StackOverflow.into();
        (0..30).for_each(|_| greedy.note_memory(1 << 20, Some(&exhausted)));
        assert_eq!(pace(), Pace::Single);
    }

    #[test]
    fn all_modules_of_a_tenant_have_one_share() {
        let shares = Shares::new(1);
        let tenant = TenantId::new("a");
        let first = shares.of(&tenant);
        assert!(std::sync::Arc::ptr_eq(&first, &shares.of(&tenant)));
        assert!(!std::sync::Arc::ptr_eq(&first, &shares.of(&TenantId::new("b"))));
    }
}
