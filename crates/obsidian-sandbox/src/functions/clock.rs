//! The tick that gives every running function its turn. It stands still while none runs.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

use crate::error::SandboxError;
use crate::scheduling::run_promptly;

/// Length of one turn: a function that computes gives way to the others this often.
pub(super) const TICK: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Shared {
    running: AtomicU32,
    stop: AtomicBool,
    engines: Mutex<Vec<EngineWeak>>,
    wake: Condvar,
}

/// A thread that advances the epochs.
pub(super) struct Clock(Arc<Shared>);

impl Clock {
    pub(super) fn start() -> Result<Self, SandboxError> {
        let shared = Arc::new(Shared::default());
        let clock = Self(shared.clone());
        std::thread::Builder::new()
            .name("obsidian-turns".to_owned())
            .spawn(move || {
                run_promptly();
                run(&shared);
            })
            .map_err(|error| SandboxError::Engine(format!("clock thread: {error}")))?;
        Ok(clock)
    }

    /// Ticks for this engine too.
    pub(super) fn add(&self, engine: &Engine) {
        self.0.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.weak());
    }

    /// Ticks for as long as this is held.
    pub(super) fn ticking(&self) -> Ticking {
        if self.0.running.fetch_add(1, Ordering::AcqRel) == 0 {
            // Under the lock: the clock looks at the count and begins to wait under it too.
            let _engines = self.0.engines.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.wake.notify_one();
        }
        Ticking(self.0.clone())
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
        let _engines = self.0.engines.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.wake.notify_one();
    }
}

/// A function is running.
pub(super) struct Ticking(Arc<Shared>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

fn run(shared: &Shared) {
    loop {
        {
            let mut engines = shared.engines.lock().unwrap_or_else(PoisonError::into_inner);
            while shared.running.load(Ordering::Acquire) == 0 && !shared.stop.load(Ordering::Acquire) {
                engines = shared.wake.wait(engines).unwrap_or_else(PoisonError::into_inner);
            }
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            engines.retain(|engine| match engine.upgrade() {
                Some(engine) => {
                    engine.increment_epoch();
                    true
                }
                None => false,
            });
        }
        std::thread::sleep(TICK);
    }
}
