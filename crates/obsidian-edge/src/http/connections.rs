//! What is known of client connections: how many an address has, and whether one is in use.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::proxies::counted;

/// Connections (or, behind a trusted proxy, requests) by client address. Holds an entry only while there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection or request of an address.
#[derive(Debug)]
pub(crate) struct OneOf {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more of `address`, unless it has `most`.
    pub(crate) fn enter(&self, address: IpAddr, most: usize) -> Option<OneOf> {
        let address = counted(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        // An entry made just now is at 0, and `most` is at least 1.
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(OneOf { counts: self.counts.clone(), address })
    }
}

impl Drop for OneOf {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Whether one connection has requests, and since when it has none.
#[derive(Debug)]
pub(super) struct Activity {
    born: Instant,
    requests: AtomicUsize,
    /// Milliseconds after `born` at which the last request ended.
    ended: AtomicU64,
    had_any: std::sync::atomic::AtomicBool,
}

/// A request on its connection, its answer included.
pub(super) struct Busy(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            requests: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            had_any: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.had_any.store(true, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether it was without a request for too long: for `first` at its beginning, for `idle` later.
    pub(super) fn is_idle(&self, first: Duration, idle: Duration) -> bool {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let since = Duration::from_millis(self.ended.load(Ordering::Relaxed));
        let patience = if self.had_any.load(Ordering::Relaxed) { idle } else { first };
        self.born.elapsed() > since + patience
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let after = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(after, Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Activity, Addresses};

    #[test]
    fn addresses_are_counted_and_forgotten() {
        let addresses = Addresses::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = addresses.enter(one, 2).unwrap();
        let second = addresses.enter(one, 2).unwrap();
        assert!(addresses.enter(one, 2).is_none());
        assert!(addresses.enter(other, 2).is_some());
        drop(first);
        assert!(addresses.enter(one, 2).is_some());
        drop(second);
        assert!(addresses.counts.lock().unwrap().is_empty());
        // One household of IPv6 is one address.
        let _home = addresses.enter("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(addresses.enter("2001:db8::2".parse().unwrap(), 1).is_none());
    }

    #[test]
    fn a_connection_with_a_request_is_not_idle() {
        let activity = Activity::new();
        let (never, at_once) = (Duration::from_secs(3_600), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        assert!(activity.is_idle(at_once, never) && !activity.is_idle(never, at_once));
        let busy = activity.begin();
        assert!(!activity.is_idle(at_once, at_once));
        drop(busy);
        std::thread::sleep(Duration::from_millis(5));
        assert!(activity.is_idle(never, at_once) && !activity.is_idle(at_once, never));
    }
}
