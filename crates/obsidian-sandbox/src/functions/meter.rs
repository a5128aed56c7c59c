//! How long a request has been on the processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Short requests are measured by the clock on the wall, which costs nothing to read: while they run, little else can
/// have. Long ones are measured by their thread's own clock, so that a busy machine does not eat their allowance.
///
/// Sums the time between [`Meter::begin`] and [`Meter::end`]; may be read in between, as the guest's own turns do.
#[derive(Debug)]
pub(super) struct Meter {
    zero: Instant,
    spent_ns: AtomicU64,
    /// When the present turn began, nanoseconds after `zero`, plus one; 0 between turns.
    began: AtomicU64,
    /// Whether `began` is a reading of the thread's clock.
    precise: AtomicBool,
}

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            zero: Instant::now(),
            spent_ns: AtomicU64::new(0),
            began: AtomicU64::new(0),
            precise: AtomicBool::new(false),
        })
    }

    fn now_ns(&self) -> u64 {
        let now = match self.precise.load(Ordering::Relaxed) {
            true => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                Duration::try_from(now).unwrap_or_default()
            }
            false => self.zero.elapsed(),
        };
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX - 1)
    }

    /// A turn begins, on the thread that will end it; `precise` says by which clock it is measured.
    pub(super) fn begin(&self, precise: bool) {
        self.precise.store(precise, Ordering::Relaxed);
        self.began.store(self.now_ns() + 1, Ordering::Relaxed);
    }

    /// A turn ends.
    pub(super) fn end(&self) {
        let began = self.began.swap(0, Ordering::Relaxed);
        if began > 0 {
            self.spent_ns.fetch_add((self.now_ns() + 1).saturating_sub(began), Ordering::Relaxed);
        }
    }

    /// All turns so far, the present one included; asked by the thread that has it.
    pub(super) fn spent(&self) -> Duration {
        let began = self.began.load(Ordering::Relaxed);
        let present = if began > 0 { (self.now_ns() + 1).saturating_sub(began) } else { 0 };
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed) + present)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Meter;

    #[test]
    fn only_turns_count() {
        let meter = Meter::new();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(meter.spent(), Duration::ZERO);
        meter.begin(false);
        std::thread::sleep(Duration::from_millis(2));
        let during = meter.spent();
        assert!(during >= Duration::from_millis(2));
        meter.end();
        let after = meter.spent();
        assert!(after >= during);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(meter.spent(), after);
        meter.end();
        assert_eq!(meter.spent(), after);
        // By the thread's own clock sleeping is free.
        meter.begin(true);
        std::thread::sleep(Duration::from_millis(20));
        meter.end();
        assert!(meter.spent() < after + Duration::from_millis(10));
    }
}
