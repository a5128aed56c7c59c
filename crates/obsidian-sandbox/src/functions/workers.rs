//! The threads on which functions run. Each is an executor of its own, so that a guest's waiting costs no thread and
//! its computing delays nobody on tokio's workers.
//!
//! There are two sets over the same cores. A request begins on a *prompt* thread, unless its tenant has had more than its
//! part lately (`share.rs`). One that has computed for longer than a few turns moves, in the middle of its work, to a
//! *patient* thread, which uses what the others leave: short requests of all other functions pass it, whatever it does.
//!
//! Tenants over their part whose instances fill much memory share a single patient thread: growing a memory on one thread
//! while another gives pages back would make everybody wait for the lock of the process's one address space.
//!
//! While a tenant is over its part, what a prompt request leaves behind is the *keeper's*: instances are made and thrown
//! away under that lock, which a neighbour that gives much memory back holds for milliseconds. Requests then wait for no
//! more than an instance that is there already.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{AbortHandle, Abortable};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::FunctionHostOptions;
use super::meter::Meter;
use crate::cores::pin;
use crate::error::SandboxError;
use crate::scheduling::{run_promptly, step_back};

/// Processor time after which a request becomes a patient one.
pub(super) const PROMPT: Duration = Duration::from_millis(4);
/// Stack of a thread, bytes. Guests have stacks of their own.
const THREAD_STACK_BYTES: usize = 2 << 20;

/// How soon a request runs beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// At once, for as long as it is short.
    Prompt,
    /// When nobody prompt wants to.
    Patient,
    /// The same, on the one thread for all that fill much memory.
    Single,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All threads. They end when this is dropped.
pub(super) struct Workers {
    prompt: Vec<Arc<Worker>>,
    patient: Vec<Arc<Worker>>,
    keeper: Arc<Worker>,
    stop: CancellationToken,
}

struct Worker {
    executor: Handle,
    load: AtomicU32,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Workers {
    pub(super) fn start(options: &FunctionHostOptions) -> Result<Self, SandboxError> {
        let stop = CancellationToken::new();
        let keeper = spawn("obsidian-fnkeep".to_owned(), None, run_promptly, &stop)?;
        let mut workers = Self { prompt: Vec::new(), patient: Vec::new(), keeper, stop };
        for index in 0..options.threads.max(1) {
            let core = (!options.cores.is_empty()).then(|| options.cores[index % options.cores.len()]);
            workers.prompt.push(spawn(format!("obsidian-fn-{index}"), core, run_promptly, &workers.stop)?);
            let name = format!("obsidian-fnslow-{index}");
            workers.patient.push(spawn(name, core, step_back, &workers.stop)?);
        }
        Ok(workers)
    }

    /// Runs a job. It ends early when `Running` is dropped.
    pub(super) fn run(&self, job: Job, meter: &Arc<Meter>, pace: Pace) -> Running {
        let (abort, registration) = AbortHandle::new_pair();
        let job: Job = Box::pin(async move {
            // Aborted: its client is gone, nobody waits for the result.
            let _ = Abortable::new(job, registration).await;
        });
        let (worker, slower) = match pace {
            Pace::Prompt => (least_loaded(&self.prompt), Some(least_loaded(&self.patient).clone())),
            Pace::Patient => (least_loaded(&self.patient), None),
            Pace::Single => (&self.patient[0], None),
        };
        begin(worker, Turns { job: Some(job), meter: meter.clone(), slower });
        Running { abort: Some(abort) }
    }

    /// Where housekeeping runs.
    pub(super) fn background(&self) -> &Handle {
        &self.keeper.executor
    }
}

/// A job at work.
pub(super) struct Running {
    abort: Option<AbortHandle>,
}

impl Running {
    /// Lets it go on by itself.
    pub(super) fn leave(mut self) {
        self.abort = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

fn least_loaded(workers: &[Arc<Worker>]) -> &Arc<Worker> {
    let mut best = &workers[0];
    for worker in &workers[1..] {
        if worker.load.load(Ordering::Relaxed) < best.load.load(Ordering::Relaxed) {
            best = worker;
        }
    }
    best
}

fn begin(worker: &Arc<Worker>, turns: Turns) {
    let loaded = Loaded::on(worker);
    worker.executor.spawn(async move {
        let _loaded = loaded;
        turns.await;
    });
}

/// Counts one job of a worker.
struct Loaded(Arc<Worker>);

impl Loaded {
    fn on(worker: &Arc<Worker>) -> Self {
        worker.load.fetch_add(1, Ordering::Relaxed);
        Self(worker.clone())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Measures a job's turns, and moves it once it has had many.
struct Turns {
    job: Option<Job>,
    meter: Arc<Meter>,
    slower: Option<Arc<Worker>>,
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut job) = self.job.take() else { return Poll::Ready(()) };
        self.meter.begin(self.slower.is_none());
        let polled = job.as_mut().poll(context);
        self.meter.end();
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if self.slower.is_some()
            && self.meter.spent() > PROMPT
            && let Some(slower) = self.slower.take()
        {
            metrics::counter!("obsidian_function_moved_total").increment(1);
            begin(&slower, Turns { job: Some(job), meter: self.meter.clone(), slower: None });
            return Poll::Ready(());
        }
        self.job = Some(job);
        Poll::Pending
    }
}

fn spawn(
    name: String,
    core: Option<usize>,
    settle: fn(),
    stop: &CancellationToken,
) -> Result<Arc<Worker>, SandboxError> {
    let failed = |error: std::io::Error| SandboxError::Engine(format!("function thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let executor = runtime.handle().clone();
    let stop = stop.clone();
    let (ready, started) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(name)
        .stack_size(THREAD_STACK_BYTES)
        .spawn(move || {
            if let Some(core) = core {
                pin(core);
            }
            settle();
            let _ = ready.send(());
            runtime.block_on(stop.cancelled());
            // What still runs is cut off; the host has drained its modules before, if it was asked to.
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    // A thread that dies at once would leave jobs waiting for ever.
    started.recv().map_err(|_| SandboxError::Engine("a function thread ended at once".to_owned()))?;
    Ok(Arc::new(Worker { executor, load: AtomicU32::new(0) }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::sync::oneshot;

    use super::{FunctionHostOptions, Meter, Pace, Workers};

    fn workers() -> Workers {
        let options = FunctionHostOptions { threads: 1, cores: Vec::new(), instances: 1, running: 1 };
        Workers::start(&options).unwrap()
    }

    #[test]
    fn long_jobs_move_to_the_patient_threads() {
        let workers = workers();
        let (reply, names) = oneshot::channel();
        let job = async move {
            let name = || std::thread::current().name().unwrap_or_default().to_owned();
            let before = name();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
            let _ = reply.send((before, name()));
        };
        let running = workers.run(Box::pin(job), &Meter::new(), Pace::Prompt);
        let (before, after) = names.blocking_recv().unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("obsidian-fn-0", "obsidian-fnslow-0"));
        drop(running);
    }

    #[test]
    fn a_dropped_job_ends() {
        struct Tell(Option<oneshot::Sender<()>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.take().map(|tell| tell.send(()));
            }
        }
        let workers = workers();
        let (ended, end) = oneshot::channel();
        let (begun, begin) = oneshot::channel();
        let tell = Tell(Some(ended));
        let job = async move {
            let _tell = tell;
            let _ = begun.send(());
            std::future::pending::<()>().await;
        };
        let running = workers.run(Box::pin(job), &Meter::new(), Pace::Prompt);
        begin.blocking_recv().unwrap();
        drop(running);
        end.blocking_recv().unwrap();
    }
}
