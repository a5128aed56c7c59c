//! What a tenant may use per minute, and how quickly this POP finishes requests. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// A bucket that refills evenly and holds one minute's worth.
#[derive(Debug)]
pub(super) struct Bucket {
    per_minute: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: u64, now: Instant) -> Self {
        let per_minute = per_minute as f64;
        Self { per_minute, level: per_minute, filled: now }
    }

    /// Another allowance from now on; what has been used stays used.
    pub(super) fn set(&mut self, per_minute: u64, now: Instant) {
        self.fill(now);
        let used = self.per_minute - self.level;
        self.per_minute = per_minute as f64;
        self.level = self.per_minute - used;
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.level = (self.level + passed * self.per_minute / 60.0).min(self.per_minute);
    }

    /// How long until `amount` is there; zero if it is there now.
    pub(super) fn wait(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        let missing = amount.min(self.per_minute) - self.level;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let seconds = missing * 60.0 / self.per_minute.max(f64::MIN_POSITIVE);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Takes `amount`, into debt if need be: the next waits until it is paid back.
    pub(super) fn take(&mut self, amount: f64, now: Instant) {
        self.fill(now);
        self.level -= amount;
    }
}

/// Events per second over the last seconds, recent ones counting more.
#[derive(Debug)]
pub(super) struct Pace {
    weight: f64,
    noted: Option<Instant>,
}

/// After this many seconds an event counts a third as much.
const MEMORY_SECONDS: f64 = 10.0;

impl Pace {
    pub(super) fn new() -> Self {
        Self { weight: 0.0, noted: None }
    }

    /// Something was finished.
    pub(super) fn note(&mut self, now: Instant) {
        self.weight = self.decayed(now) + 1.0;
        self.noted = Some(now);
    }

    fn decayed(&self, now: Instant) -> f64 {
        let Some(noted) = self.noted else {
            return 0.0;
        };
        self.weight * (-now.saturating_duration_since(noted).as_secs_f64() / MEMORY_SECONDS).exp()
    }

    /// How long `count` more will take; none before anything was measured.
    pub(super) fn time_for(&self, count: usize, now: Instant) -> Option<Duration> {
        self.noted?;
        let per_second = self.decayed(now) / MEMORY_SECONDS;
        Some(Duration::try_from_secs_f64(count as f64 / per_second).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Bucket, Pace};

    #[test]
    fn a_bucket_gives_a_minutes_worth_and_refills_evenly() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, start);
        for _ in 0..60 {
            assert_eq!(bucket.wait(1.0, start), Duration::ZERO);
            bucket.take(1.0, start);
        }
        assert_eq!(bucket.wait(1.0, start), Duration::from_secs(1));
        assert_eq!(bucket.wait(1.0, start + Duration::from_secs(1)), Duration::ZERO);
        // A debt is paid back before the next passes.
        bucket.take(31.0, start + Duration::from_secs(1));
        assert_eq!(bucket.wait(1.0, start + Duration::from_secs(1)), Duration::from_secs(31));
        // Never more than a minute's worth, and no request is larger than the bucket.
        let later = start + Duration::from_secs(3_600);
        assert_eq!(bucket.wait(1e9, later), Duration::ZERO);
        bucket.take(60.0, later);
        assert_eq!(bucket.wait(1.0, later), Duration::from_secs(1));
        bucket.set(120, later);
        assert_eq!(bucket.wait(1.0, later), Duration::ZERO);
    }

    #[test]
    fn pace_follows_what_is_measured() {
        let start = Instant::now();
        let mut pace = Pace::new();
        assert_eq!(pace.time_for(1, start), None);
        for tenth in 0..600 {
            pace.note(start + Duration::from_millis(tenth * 100));
        }
        let now = start + Duration::from_secs(60);
        let seconds = pace.time_for(20, now).unwrap().as_secs_f64();
        assert!((1.8..2.3).contains(&seconds), "ten a second were finished: {seconds}");
        // Nothing finished for long: the estimate grows.
        assert!(pace.time_for(20, now + Duration::from_secs(60)).unwrap() > Duration::from_secs(60));
    }
}
