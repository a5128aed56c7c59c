//! When an upstream is left alone: a circuit breaker, and a bucket that keeps retries from multiplying load.
//!
//! Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// Failures in a row that open the circuit.
const CONSECUTIVE_FAILURES: u32 = 5;
/// Requests in one window from which on their failure rate counts.
const RATED_REQUESTS: u32 = 20;
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// First pause; it doubles with every failed probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether an upstream is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Requests go through.
    Closed,
    /// Left alone until its pause is over.
    Open,
    /// The pause is over: one request at a time tries.
    HalfOpen,
}

impl Circuit {
    /// As shown in `/readyz` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// The circuit breaker of one upstream.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    consecutive: u32,
    window: Option<Window>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    requests: u32,
    failures: u32,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    probing: bool,
}

impl Breaker {
    pub(super) fn circuit(&self, now: Instant) -> Circuit {
        match &self.open {
            None => Circuit::Closed,
            Some(open) if now < open.until => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Whether a request may go through now.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.open.as_ref().is_none_or(|open| now >= open.until && !open.probing)
    }

    /// Takes the place of the one probe if the circuit is half open.
    pub(super) fn enter(&mut self, now: Instant) -> bool {
        let usable = self.is_usable(now);
        if let Some(open) = self.open.as_mut().filter(|_| usable) {
            open.probing = true;
        }
        usable
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        self.consecutive = 0;
        self.open = None;
        self.window(now).requests += 1;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.consecutive += 1;
        let window = self.window(now);
        window.requests += 1;
        window.failures += 1;
        let failing = window.requests >= RATED_REQUESTS && window.failures * 2 >= window.requests;
        match &mut self.open {
            Some(open) if open.probing => {
                open.pause = (open.pause * 2).min(LONGEST_PAUSE);
                open.until = now + open.pause;
                open.probing = false;
            }
            // Requests that were under way when it opened add nothing.
            Some(_) => {}
            None if failing || self.consecutive >= CONSECUTIVE_FAILURES => {
                self.open = Some(Open { until: now + FIRST_PAUSE, pause: FIRST_PAUSE, probing: false });
                self.window = None;
            }
            None => {}
        }
    }

    /// A request ended without telling anything about the upstream: its client left.
    pub(super) fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// A connection stands again: no need to wait for the end of the pause.
    pub(super) fn reachable(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.until = open.until.min(now);
        }
    }

    fn window(&mut self, now: Instant) -> &mut Window {
        if self.window.as_ref().is_some_and(|window| now.duration_since(window.began) >= WINDOW) {
            self.window = None;
        }
        self.window.get_or_insert(Window { began: now, requests: 0, failures: 0 })
    }
}

/// A token bucket: every request pays a share of a retry in, every retry takes a whole one out.
#[derive(Debug)]
pub(super) struct RetryBudget {
    share: f64,
    tokens: f64,
}

/// Retries that can be saved up, and what a link begins with.
const SAVED_RETRIES: f64 = 10.0;

impl RetryBudget {
    pub(super) fn new(share: f64) -> Self {
        Self { share, tokens: if share > 0.0 { SAVED_RETRIES } else { 0.0 } }
    }

    pub(super) fn deposit(&mut self) {
        self.tokens = (self.tokens + self.share).min(SAVED_RETRIES);
    }

    pub(super) fn withdraw(&mut self) -> bool {
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, CONSECUTIVE_FAILURES, Circuit, FIRST_PAUSE, RATED_REQUESTS, RetryBudget, WINDOW};
    use std::time::{Duration, Instant};

    #[test]
    fn failures_in_a_row_open_it_and_one_good_probe_closes_it() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..CONSECUTIVE_FAILURES {
            breaker.failed(start);
            assert_eq!(breaker.circuit(start), Circuit::Closed);
        }
        breaker.failed(start);
        assert_eq!(breaker.circuit(start), Circuit::Open);
        assert!(!breaker.enter(start));
        let later = start + FIRST_PAUSE;
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        assert!(breaker.enter(later));
        assert!(!breaker.enter(later), "one probe at a time");
        breaker.succeeded(later);
        assert_eq!(breaker.circuit(later), Circuit::Closed);
    }

    #[test]
    fn every_failed_probe_doubles_the_pause_and_an_abandoned_one_does_not() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        (0..CONSECUTIVE_FAILURES).for_each(|_| breaker.failed(start));
        let probe = start + FIRST_PAUSE;
        assert!(breaker.enter(probe));
        breaker.abandoned();
        assert!(breaker.enter(probe), "the place of the probe is free again");
        breaker.failed(probe);
        assert!(!breaker.is_usable(probe + FIRST_PAUSE));
        assert!(breaker.is_usable(probe + 2 * FIRST_PAUSE));
        breaker.reachable(probe);
        assert!(breaker.is_usable(probe));
    }

    #[test]
    fn half_of_many_failing_opens_it_though_never_in_a_row() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..RATED_REQUESTS / 2 {
            breaker.succeeded(start);
            breaker.failed(start);
        }
        assert_eq!(breaker.circuit(start), Circuit::Open);
        let mut old = Breaker::default();
        for step in 0..RATED_REQUESTS {
            let now = start + WINDOW * step;
            old.succeeded(now);
            old.failed(now + Duration::from_secs(1));
        }
        assert_eq!(old.circuit(start), Circuit::Closed, "what is long ago does not count");
    }

    #[test]
    fn retries_are_a_share_of_requests() {
        let mut budget = RetryBudget::new(0.1);
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
        (0..101).for_each(|_| budget.deposit());
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
        let mut none = RetryBudget::new(0.0);
        none.deposit();
        assert!(!none.withdraw());
    }
}
