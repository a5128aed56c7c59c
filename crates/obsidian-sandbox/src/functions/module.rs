//! A loaded function: who may enter, where it runs, what it keeps warm.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::FunctionId;
use super::answer::{Job, Reply};
use super::body::{Attended, Bounded, FunctionBody};
use super::clock::Ticking;
use super::error::FunctionError;
use super::host::Host;
use super::instance::{Instance, Linked};
use super::lane::Lane;
use super::meter::Meter;
use super::origin::Origin;
use super::share::Share;
use super::statistics::{Counters, FunctionStatistics};
use super::warm::WarmPool;
use super::workers::{PROMPT, Pace};
use http_body_util::BodyExt as _;

/// A loaded function. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct FunctionModule(pub(super) Arc<Inner>);

/// One module.
pub(super) struct Inner {
    pub(super) origin: Arc<Origin>,
    pub(super) host: Arc<Host>,
    pub(super) lane: Arc<Lane>,
    pub(super) linked: Arc<Linked>,
    pub(super) warm: WarmPool,
    pub(super) counters: Arc<Counters>,
    pub(super) share: Arc<Share>,
    places: Arc<Semaphore>,
}

/// What a running request holds: its place in the module and on the node, and the clock.
pub(super) struct Place {
    module: Arc<Inner>,
    _ticking: Ticking,
    _node: OwnedSemaphorePermit,
    _module: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.module.counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request that waits.
struct Waiting<'module>(&'module Inner);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counters.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Inner {
    pub(super) fn new(origin: Arc<Origin>, host: Arc<Host>, lane: Arc<Lane>, linked: Arc<Linked>) -> Arc<Self> {
        let places = Semaphore::new(origin.grants.limits.concurrency.max(1) as usize);
        let counters = Arc::new(Counters::new(&origin.id));
        let share = host.shares.of(&origin.id.tenant);
        let (warm, places) = (WarmPool::default(), Arc::new(places));
        Arc::new(Self { origin, host, lane, linked, warm, counters, share, places })
    }

    /// Waits for a place, in a queue of bounded length and for no longer than a request may take.
    async fn enter(self: &Arc<Self>, began: Instant) -> Result<Place, FunctionError> {
        let limits = &self.origin.grants.limits;
        let module = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.wait(began).await?,
        };
        let last = began + Duration::from_millis(limits.wall_ms);
        let node = tokio::time::timeout_at(last, self.host.running.clone().acquire_owned()).await;
        let Ok(Ok(node)) = node else { return Err(FunctionError::NodeFull) };
        let running = self.counters.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.warm.note(running);
        Ok(Place { module: self.clone(), _ticking: self.host.clock.ticking(), _node: node, _module: module })
    }

    async fn wait(&self, began: Instant) -> Result<OwnedSemaphorePermit, FunctionError> {
        let limits = &self.origin.grants.limits;
        let busy = |waiting| FunctionError::Busy {
            module: self.origin.id.module.clone(),
            running: self.counters.running.load(Ordering::Relaxed),
            waiting,
        };
        if self.places.is_closed() {
            return Err(FunctionError::Stopping);
        }
        let waiting = self.counters.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(self);
        if waiting >= limits.queue {
            return Err(busy(waiting));
        }
        let last = began + Duration::from_millis(limits.wall_ms);
        match tokio::time::timeout_at(last, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(FunctionError::Stopping),
            Err(_) => Err(busy(waiting)),
        }
    }

    /// An instance that waited, or a new one; and whether it waited. Where the node is full, another module gives up one
    /// that waits, or one that is being made or thrown away is waited for, for a moment.
    pub(super) async fn obtain(&self, meter: &Arc<Meter>) -> Result<(Instance, bool), FunctionError> {
        let last = Instant::now() + FULL_WAIT;
        loop {
            if let Some(instance) = self.warm.take() {
                return Ok((instance, true));
            }
            if self.host.shares.is_tense(std::time::Instant::now()) {
                self.warm.note_missing();
            }
            match self.make(meter).await {
                Err(FunctionError::NodeFull) if Instant::now() < last => {
                    if !self.host.give_up_one(&self.lane) {
                        tokio::time::sleep(FULL_LOOK).await;
                    }
                }
                made => return made.map(|instance| (instance, false)),
            }
        }
    }

    async fn make(&self, meter: &Arc<Meter>) -> Result<Instance, FunctionError> {
        Instance::make(&self.lane, &self.linked, &self.origin, &self.counters, meter).await
    }

    /// After a request: throws away the instance that it left, and makes those that demand asks for. The keeper does it
    /// for prompt requests while a tenant is over its part, so that nothing holds up their thread.
    pub(super) async fn clear_up(self: &Arc<Self>, left: Option<Instance>, prompt: bool) {
        if prompt && self.host.shares.is_tense(std::time::Instant::now()) {
            let module = self.clone();
            self.host.workers.background().spawn(async move {
                drop(left);
                module.refill().await;
            });
        } else {
            drop(left);
            self.refill().await;
        }
    }

    /// Makes the instances that demand asks for.
    pub(super) async fn refill(self: &Arc<Self>) {
        while let Some(_making) = self.warm.claim(self.counters.running.load(Ordering::Relaxed)) {
            // The clock ticks for a guest that computes while it starts.
            let _ticking = self.host.clock.ticking();
            match tokio::time::timeout(self.wall(), self.make(&Meter::new())).await {
                Ok(Ok(instance)) => self.warm.put(instance),
                // The next request makes its own, and hears why if it cannot.
                Ok(Err(_)) | Err(_) => return,
            }
        }
        self.counters.set_warm(self.warm.len());
    }

    fn wall(&self) -> Duration {
        Duration::from_millis(self.origin.grants.limits.wall_ms)
    }

    /// A second has passed.
    pub(super) fn cool(&self) {
        let tense = self.host.shares.is_tense(std::time::Instant::now());
        let warm = self.warm.cool(self.counters.running.load(Ordering::Relaxed), tense);
        self.counters.set_warm(warm);
    }
}

impl FunctionModule {
    /// Which module this is.
    pub fn id(&self) -> &FunctionId {
        &self.0.origin.id
    }

    /// Whether its code was compiled quickly rather than well.
    pub fn is_quick(&self) -> bool {
        self.0.lane.kind.quick
    }

    /// Answers one request: returns when the head of the answer is there; the body streams. Dropping the future, or
    /// the body, ends the instance's work. The URI may be relative; `Host` or its authority must be there.
    ///
    /// # Errors
    /// [`FunctionError`]: which limit it hit, or how it failed. After the head, a body that breaks off says why.
    pub async fn call(
        &self,
        request: http::Request<FunctionBody>,
    ) -> Result<http::Response<FunctionBody>, FunctionError> {
        let inner = &self.0;
        let began = Instant::now();
        let limits = &inner.origin.grants.limits;
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let admitted = match length {
            Some(length) if length > limits.request_body_bytes => Err(FunctionError::RequestTooLong {
                module: inner.origin.id.module.clone(),
                limit: limits.request_body_bytes,
            }),
            _ => inner.enter(began).await,
        };
        let place = admitted.inspect_err(|failure| inner.counters.failed(failure))?;
        let (reply, answered) = Reply::new();
        let verdict = reply.verdict.clone();
        let meter = Meter::new();
        let pace = match inner.host.shares.pace(&inner.share, began.into_std()) {
            Pace::Prompt if inner.counters.recent_cpu() > PROMPT => Pace::Patient,
            pace => pace,
        };
        let job = Job { module: inner.clone(), request, reply, meter: meter.clone(), pace, place, began };
        let running = inner.host.workers.run(Box::pin(job.run()), &meter, pace);
        match answered.await {
            Ok(Ok(response)) => {
                let limit = limits.response_body_bytes;
                Ok(response.map(|body| {
                    Attended::new(Bounded::new(body, limit, Arc::default()), running, verdict).boxed_unsync()
                }))
            }
            Ok(Err(failure)) => {
                // It has ended, or is about to; what it still does is put its place back.
                running.leave();
                Err(failure)
            }
            // Only a panic of the host's own code ends a job without an answer.
            Err(_) => Err(FunctionError::Trap {
                module: inner.origin.id.module.clone(),
                reason: "the host failed".to_owned(),
            }),
        }
    }

    /// Makes instances until `count` wait for requests, so that the first ones find them ready.
    ///
    /// # Errors
    /// [`FunctionError`] if an instance cannot be made.
    pub async fn warm(&self, count: u32) -> Result<(), FunctionError> {
        let (reply, result) = tokio::sync::oneshot::channel();
        let inner = self.0.clone();
        let meter = Meter::new();
        let job = async move {
            let _ticking = inner.host.clock.ticking();
            let mut made = Ok(());
            while made.is_ok()
                && let Some(_making) = inner.warm.claim_up_to(count)
            {
                made = match tokio::time::timeout(inner.wall(), inner.make(&Meter::new())).await {
                    Ok(Ok(instance)) => {
                        inner.warm.put(instance);
                        Ok(())
                    }
                    Ok(Err(failure)) => Err(failure),
                    Err(_) => Err(FunctionError::WallTime {
                        module: inner.origin.id.module.clone(),
                        limit_ms: inner.origin.grants.limits.wall_ms,
                    }),
                };
            }
            inner.counters.set_warm(inner.warm.len());
            let _ = reply.send(made);
        };
        let _running = self.0.host.workers.run(Box::pin(job), &meter, Pace::Prompt);
        result.await.unwrap_or(Err(FunctionError::Stopping))
    }

    /// Makes `count` instances one after the other, throws them away, and returns how long each took to make. For
    /// people who want to know what a start costs on their machine.
    ///
    /// # Errors
    /// [`FunctionError`] if an instance cannot be made.
    pub async fn time_starts(&self, count: usize) -> Result<Vec<Duration>, FunctionError> {
        let (reply, result) = tokio::sync::oneshot::channel();
        let inner = self.0.clone();
        let job = async move {
            let _ticking = inner.host.clock.ticking();
            let mut times = Vec::with_capacity(count);
            let mut failure = None;
            while times.len() < count && failure.is_none() {
                let began = std::time::Instant::now();
                match inner.make(&Meter::new()).await {
                    Ok(instance) => {
                        times.push(began.elapsed());
                        drop(instance);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            let _ = reply.send(failure.map_or(Ok(times), Err));
        };
        let _running = self.0.host.workers.run(Box::pin(job), &Meter::new(), Pace::Patient);
        result.await.unwrap_or(Err(FunctionError::Stopping))
    }

    /// Takes no new requests and lets go of its warm instances; waits until those in flight have ended, for at most
    /// `grace`. Returns how many are still running then; they end when their clients or their limits say so.
    pub async fn drain(&self, grace: Duration) -> u32 {
        let inner = &self.0;
        inner.places.close();
        inner.warm.close();
        let last = Instant::now() + grace;
        loop {
            let running = inner.counters.running.load(Ordering::Relaxed);
            if running == 0 || Instant::now() >= last {
                inner.counters.set_warm(0);
                return running;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// How it is doing.
    pub fn statistics(&self) -> FunctionStatistics {
        self.0.counters.snapshot(self.0.warm.len())
    }
}

/// How long a request waits for room on a full node.
const FULL_WAIT: Duration = Duration::from_millis(500);
/// How often it looks.
const FULL_LOOK: Duration = Duration::from_micros(500);
/// How often draining looks whether requests still run.
const DRAIN_LOOK: Duration = Duration::from_millis(2);
