//! Helper threads that wait for work: spinning for as long as the gaps of a forward pass last, then asleep.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Looks at the job before a helper goes to sleep; some tens of microseconds.
const SPINS: u32 = 2_000;
/// Most parts of one job.
const MOST_PARTS: usize = 0xffff;

/// A job: the part with this number, with scratch memory of the thread.
type Job<'job> = dyn Fn(usize, &mut Vec<f32>) + Sync + 'job;

/// The helpers of one caller.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// What caller and helpers share.
struct Shared {
    /// Number of the job (32 bits), its parts (16 bits), the next part to give out (16 bits): in one word, so that a
    /// helper that comes late cannot take a part of a job that has ended.
    state: AtomicU64,
    /// Parts not finished yet.
    left: AtomicUsize,
    /// Written by the caller while no part is out; read by whoever holds a part.
    job: UnsafeCell<Option<*const Job<'static>>>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: all fields but `job` are made for sharing. `job` is written only in `Pool::run`, which has the
// pool mutably and returns when every part is finished, and read only between taking a part and finishing it.
// The pointer in it is to a `Sync` closure.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is not bound to a thread.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts `count` helpers.
    pub(super) fn start(count: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            left: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut pool = Self { shared, helpers: Vec::new() };
        for _ in 0..count {
            let shared = Arc::clone(&pool.shared);
            let helper = std::thread::Builder::new().name("obsidian-model".to_owned()).spawn(move || shared.help())?;
            pool.helpers.push(helper);
        }
        Ok(pool)
    }

    pub(super) fn helpers(&self) -> usize {
        self.helpers.len()
    }

    /// Does all parts of `job`, each once, and returns when they are done. A panic in one of them goes on
    /// in the caller, after the others have ended.
    pub(super) fn run(&mut self, parts: usize, job: &Job<'_>, scratch: &mut Vec<f32>) {
        assert!(parts <= MOST_PARTS, "parts are counted in 16 bits");
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes, and the pointer is not used after this call: parts are given out of
        // this job only until all are, and this call waits until all that were given out are finished.
        let erased = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        // SAFETY: no part is out (the call before waited for that, and `&mut self` excludes a second caller),
        // and without a part nobody reads the job.
        unsafe { *shared.job.get() = Some(erased) };
        shared.left.store(parts, Ordering::Relaxed);
        let number = (shared.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) & 0xffff_ffff;
        shared.state.store(number << 32 | (parts as u64) << 16, Ordering::Release);
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
        shared.work(scratch);
        let mut spins = 0;
        while shared.left.load(Ordering::Acquire) > 0 {
            // A helper that holds a part may need this very processor.
            if spins < SPINS {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
            spins += 1;
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches what its jobs throw.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// A helper's life.
    fn help(&self) {
        let mut scratch = Vec::new();
        let mut spins = 0;
        while !self.stop.load(Ordering::Acquire) {
            if self.work(&mut scratch) {
                spins = 0;
            } else if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                // Returns at once if there was a job since the last look.
                std::thread::park();
                spins = 0;
            }
        }
    }

    /// Takes and does parts until none is left; whether there was one.
    fn work(&self, scratch: &mut Vec<f32>) -> bool {
        let mut worked = false;
        while let Some(part) = self.take() {
            worked = true;
            // SAFETY: this thread holds a part, so the job is the one the part belongs to, and its caller waits.
            let done = unsafe {
                let job = *self.job.get();
                job.map(|job| catch_unwind(AssertUnwindSafe(|| (*job)(part, scratch))))
            };
            if let Some(Err(panic)) = done {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            self.left.fetch_sub(1, Ordering::Release);
        }
        worked
    }

    fn take(&self) -> Option<usize> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let (parts, next) = (state >> 16 & 0xffff, state & 0xffff);
            if next >= parts {
                return None;
            }
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(next as usize),
                Err(now) => state = now,
            }
        }
    }
}
