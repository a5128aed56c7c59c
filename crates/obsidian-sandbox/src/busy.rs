//! How busy a worker has been lately, as an exponentially weighted share of wall time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time constant: work older than a few seconds no longer counts.
const WINDOW: Duration = Duration::from_secs(1);

/// A worker reports when it begins and ends work; anyone may ask for the share.
#[derive(Debug)]
pub(crate) struct BusyMeter(Mutex<Reading>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    share: f64,
    busy: bool,
    since: Instant,
}

impl Reading {
    fn at(self, now: Instant) -> f64 {
        let target = f64::from(u8::from(self.busy));
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        target + (self.share - target) * (-elapsed / WINDOW.as_secs_f64()).exp()
    }
}

impl BusyMeter {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Reading { share: 0.0, busy: false, since: now }))
    }

    /// The worker begins (`true`) or ends (`false`) work.
    pub(crate) fn set(&self, busy: bool, now: Instant) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *reading = Reading { share: reading.at(now), busy, since: now };
    }

    /// Busy share between 0 and 1.
    pub(crate) fn share(&self, now: Instant) -> f32 {
        let reading = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.at(now).clamp(0.0, 1.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::BusyMeter;

    #[test]
    fn follows_work_and_forgets_it() {
        let start = Instant::now();
        let meter = BusyMeter::new(start);
        assert_eq!(meter.share(start), 0.0);
        meter.set(true, start);
        let later = start + Duration::from_secs(10);
        assert!(meter.share(later) > 0.99);
        meter.set(false, later);
        let one = meter.share(later + Duration::from_secs(1));
        assert!((0.3..0.4).contains(&one), "{one}");
        assert!(meter.share(later + Duration::from_secs(20)) < 0.01);
    }
}
