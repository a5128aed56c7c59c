//! Samples of a command's stack, taken when an epoch ends, and the clock that ends epochs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wasmtime::{AsContext, Engine, GuestProfiler, Store, StoreContextMut, UpdateDeadline};

use super::store::Data;
use super::{Code, Command, CommandGrants};

/// How often a command that may only run for so long is asked to pause, so that the time can be looked at.
const PAUSE: Duration = Duration::from_millis(10);
/// Epochs that never pass.
const NEVER: u64 = u64::MAX / 2;

/// The samples of one run.
pub(super) struct Samples {
    profiler: GuestProfiler,
    last: Instant,
}

impl Samples {
    fn take(&mut self, store: impl AsContext) {
        let now = Instant::now();
        self.profiler.sample(store, now - self.last);
        self.last = now;
    }

    /// The file; nothing if it cannot be written, which only a fault of the library's could cause.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        let mut file = Vec::new();
        self.profiler.finish(&mut file).ok().map(|()| file)
    }
}

impl Command {
    /// Sets what happens when an epoch ends: a sample, a pause, or nothing.
    pub(super) fn begin_samples(&self, store: &mut Store<Data>, grants: &CommandGrants) -> wasmtime::Result<()> {
        let Some(interval) = grants.sample else {
            match grants.wall {
                Some(_) => {
                    store.set_epoch_deadline(1);
                    store.epoch_deadline_async_yield_and_update(1);
                }
                None => store.set_epoch_deadline(NEVER),
            }
            return Ok(());
        };
        let profiler = match &self.code {
            Code::Module(module) => {
                GuestProfiler::new(&self.engine, &self.name, interval, [(self.name.clone(), module.clone())])?
            }
            Code::Component(component) => {
                GuestProfiler::new_component(&self.engine, &self.name, interval, component.clone(), [])?
            }
        };
        store.data_mut().samples = Some(Samples { profiler, last: Instant::now() });
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store: StoreContextMut<'_, Data>| {
            // The profiler reads the store, so it cannot stay in it meanwhile.
            if let Some(mut samples) = store.data_mut().samples.take() {
                samples.take(&store);
                store.data_mut().samples = Some(samples);
            }
            Ok(UpdateDeadline::Yield(1))
        });
        Ok(())
    }
}

/// Ends epochs until it is dropped.
pub(super) struct Clock(Arc<AtomicBool>);

impl Clock {
    /// Starts it, if the run needs one.
    pub(super) fn start(engine: &Engine, grants: &CommandGrants) -> Option<Self> {
        let pause = grants.sample.or(grants.wall.map(|_| PAUSE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, stopped) = (engine.weak(), Arc::clone(&stop));
        let tick = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(pause);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        };
        // Without the thread nothing is sampled and the wall time is looked at when the command waits.
        std::thread::Builder::new().name("obsidian-epoch".to_owned()).spawn(tick).ok()?;
        Some(Self(stop))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
