//! The compute pool: a fixed set of named threads on which guests run.
//!
//! Guest code must never run on tokio's workers: a guest that computes for its whole deadline would
//! stall every connection on that worker, and the synchronous WASI calls would panic there.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use obsidian_types::limits::MAX_COMPUTE_QUEUE;
use tokio::sync::oneshot;

use crate::cores::{pin, turn};
use crate::error::{ComputeError, SandboxError};

/// Stack of a compute thread, bytes: the guest's own stack limit and the host's calls on top of it.
const THREAD_STACK_BYTES: usize = 4 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// How a pool is made.
#[derive(Clone, Debug)]
pub struct ComputePoolOptions {
    /// Threads, at least one.
    pub threads: usize,
    /// Cores to pin the threads to, in turn; none leaves them to the scheduler.
    pub cores: Vec<usize>,
    /// Jobs that may wait.
    pub queue: usize,
}

/// Threads that run jobs in the order they come. Cloning gives another handle to the same pool; the
/// threads end when the last handle is gone and the queue is empty.
#[derive(Clone)]
pub struct ComputePool {
    shared: Arc<Handle>,
}

struct Handle {
    queue: Arc<Queue>,
    limit: usize,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    ready: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Jobs run outside the lock, so a poisoned queue is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

impl ComputePool {
    /// A pool of `threads` threads (at least one) with the standard queue.
    ///
    /// # Errors
    /// [`SandboxError::Engine`] if the system gives no threads.
    pub fn new(threads: usize) -> Result<Self, SandboxError> {
        Self::with_options(&ComputePoolOptions { threads, cores: Vec::new(), queue: MAX_COMPUTE_QUEUE })
    }

    /// A pool made to measure.
    ///
    /// # Errors
    /// [`SandboxError::Engine`] if the system gives no threads.
    pub fn with_options(options: &ComputePoolOptions) -> Result<Self, SandboxError> {
        let queue = Arc::new(Queue::default());
        // The handle closes the queue if a later thread cannot be had.
        let pool = Self { shared: Arc::new(Handle { queue: Arc::clone(&queue), limit: options.queue }) };
        for index in 0..options.threads.max(1) {
            let queue = Arc::clone(&queue);
            let core = turn(&options.cores, index);
            std::thread::Builder::new()
                .name(format!("obsidian-compute-{index}"))
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || work(&queue, core))
                .map_err(|error| SandboxError::Engine(format!("compute thread: {error}")))?;
        }
        Ok(pool)
    }

    /// Runs `job` on a compute thread and waits for its result without blocking the caller's thread.
    ///
    /// Dropping the future does not stop a job that has begun.
    ///
    /// # Errors
    /// [`ComputeError::Overloaded`] at once if the queue is full, [`ComputeError::Panicked`] if the job
    /// panicked.
    pub async fn run<T, F>(&self, job: F) -> Result<T, ComputeError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        self.submit(Box::new(move || {
            // Nobody waits any more if this fails.
            let _ = reply.send(job());
        }))?;
        result.await.map_err(|_| ComputeError::Panicked)
    }

    fn submit(&self, job: Job) -> Result<(), ComputeError> {
        let mut state = self.shared.queue.lock();
        if state.jobs.len() >= self.shared.limit {
            metrics::counter!("obsidian_compute_refused_total").increment(1);
            return Err(ComputeError::Overloaded);
        }
        state.jobs.push_back(job);
        drop(state);
        self.shared.queue.ready.notify_one();
        Ok(())
    }
}

fn work(queue: &Queue, core: Option<usize>) {
    if let Some(core) = core {
        pin(core);
    }
    while let Some(job) = queue.next() {
        // A panic is the job's own; its caller sees the reply channel close.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job panicked on the compute pool");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::{ComputePool, ComputePoolOptions};
    use crate::error::ComputeError;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    #[test]
    fn jobs_run_on_named_threads_outside_tokio() {
        let pool = ComputePool::new(2).expect("threads");
        let (name, in_tokio) = runtime()
            .block_on(pool.run(|| {
                let name = std::thread::current().name().map(str::to_owned);
                (name, tokio::runtime::Handle::try_current().is_ok())
            }))
            .expect("the job runs");
        assert!(name.is_some_and(|name| name.starts_with("obsidian-compute-")));
        assert!(!in_tokio);
    }

    #[test]
    fn a_panic_costs_one_job_and_no_thread() {
        let pool = ComputePool::new(1).expect("threads");
        let runtime = runtime();
        let broken = runtime.block_on(pool.run(|| -> u32 { panic!("on purpose") }));
        assert_eq!(broken, Err(ComputeError::Panicked));
        assert_eq!(runtime.block_on(pool.run(|| 7)), Ok(7));
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let options = ComputePoolOptions { threads: 1, cores: vec![0], queue: 1 };
        let pool = ComputePool::with_options(&options).expect("threads");
        let (release, gate) = sync_channel::<()>(0);
        let (started, begun) = sync_channel::<()>(0);
        pool.submit(Box::new(move || {
            started.send(()).expect("the test waits");
            let _ = gate.recv();
        }))
        .expect("the pool is empty");
        begun.recv().expect("the first job begins");
        pool.submit(Box::new(|| ())).expect("one may wait");
        let refused = runtime().block_on(pool.run(|| ()));
        assert_eq!(refused, Err(ComputeError::Overloaded));
        drop(release);
    }
}
