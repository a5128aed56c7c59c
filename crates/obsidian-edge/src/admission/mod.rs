//! Admission: who may enter the pipeline, who waits, and who is told to come back later.
//!
//! A request passes in two steps. [`Admission::arrive`] looks at its tenant's allowance and at the length of the queue
//! and refuses at once if need be, before a byte of the body is read. [`Arrival::place`] then waits for a free place,
//! in a queue that is fair between tenants ([`queue`]). A [`Place`] gives itself back when it is dropped.

mod bucket;
mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use obsidian_types::TenantId;
use obsidian_types::limits::MAX_RETRY_AFTER_SECONDS;
use tokio::sync::oneshot;

pub(crate) use self::queue::Cost;
use crate::keys::TenantLimits;
use crate::limits::IngressLimits;
use crate::openai::error::ApiError;
use bucket::{Bucket, Pace};
use queue::Queue;

/// The door of one POP.
#[derive(Clone)]
pub(crate) struct Admission {
    state: Arc<Mutex<State>>,
}

struct State {
    limits: Arc<IngressLimits>,
    queue: Queue<oneshot::Sender<usize>>,
    /// Of tenants with an allowance per minute; as many as the keys file names.
    allowances: HashMap<TenantId, Allowance>,
    pace: Pace,
}

#[derive(Default)]
struct Allowance {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many requests a minute.
    Requests,
    /// Too many tokens a minute.
    Tokens,
    /// The tenant's own queue is full.
    TenantQueue,
    /// The POP's queue is full.
    Queue,
    /// No place came free in time.
    Waited,
}

/// A refusal and when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TurnedAway {
    pub(crate) refusal: Refusal,
    pub(crate) retry_after: u32,
}

impl Refusal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "tenant_requests",
            Self::Tokens => "tenant_tokens",
            Self::TenantQueue => "tenant_queue",
            Self::Queue => "queue",
            Self::Waited => "queue_wait",
        }
    }
}

impl TurnedAway {
    /// What the client sees: 429 for its tenant's own limit, 503 for the POP's.
    pub(crate) fn to_api(self) -> ApiError {
        let seconds = self.retry_after;
        let again = format!("try again in {seconds} s");
        let error = match self.refusal {
            Refusal::Requests => {
                ApiError::too_many_requests(format!("This API key's tenant has used its requests per minute: {again}."))
            }
            Refusal::Tokens => {
                ApiError::too_many_requests(format!("This API key's tenant has used its tokens per minute: {again}."))
            }
            Refusal::TenantQueue => ApiError::too_many_requests(format!(
                "This API key's tenant has too many requests waiting: {again}, or wait for answers before asking again."
            )),
            Refusal::Queue => ApiError::unavailable("overloaded", format!("This POP's queue is full: {again}.")),
            Refusal::Waited => {
                ApiError::unavailable("overloaded", format!("No place came free on this POP in time: {again}."))
            }
        };
        error.after(seconds)
    }
}

impl Admission {
    pub(crate) fn new(limits: Arc<IngressLimits>) -> Self {
        let state = State { queue: Queue::new(limits.inflight), limits, allowances: HashMap::new(), pace: Pace::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Other limits from now on. Allowances of tenants that `known` does not name are forgotten.
    pub(crate) fn reload(&self, limits: Arc<IngressLimits>, known: impl Fn(&TenantId) -> bool) {
        let mut state = self.lock();
        state.queue.set_places(limits.inflight);
        state.limits = limits;
        state.allowances.retain(|tenant, _| known(tenant));
        state.dispatch();
    }

    /// Lets a request of `tenant` arrive, or turns it away. Never waits.
    pub(crate) fn arrive(&self, tenant: &TenantId, terms: &TenantLimits) -> Result<Arrival, TurnedAway> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Err(away) = state.may_arrive(tenant, terms, now) {
            counter!("obsidian_admission_rejected_total", "reason" => away.refusal.as_str()).increment(1);
            return Err(away);
        }
        state.queue.arrive(tenant, terms.weight, places(terms));
        Ok(Arrival {
            admission: self.clone(),
            tenant: tenant.clone(),
            counts_tokens: terms.tokens_per_minute.is_some(),
            asked: false,
        })
    }

    /// Whether nothing waits and nothing runs.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queue.pending() == 0 && state.queue.free() == state.limits.inflight
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics with the lock held; if it ever does, the counts are still sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn places(terms: &TenantLimits) -> usize {
    terms.concurrent.map_or(usize::MAX, |most| most as usize)
}

impl State {
    fn may_arrive(&mut self, tenant: &TenantId, terms: &TenantLimits, now: Instant) -> Result<(), TurnedAway> {
        let most = places(terms);
        if self.queue.pending_of(tenant)
            >= self.limits.queue_per_tenant.saturating_add(self.queue.free_for(tenant, most))
        {
            // What waits in front of this tenant's next request is its own; the others' share passes beside it.
            let waiting = self.queue.pending_of(tenant) + 1;
            let share = self.queue.share(tenant, terms.weight);
            return Err(self.away(Refusal::TenantQueue, waiting, share, now));
        }
        if self.queue.pending() >= self.limits.queue.saturating_add(self.queue.free()) {
            return Err(self.away(Refusal::Queue, self.queue.pending() + 1, 1.0, now));
        }
        // Last, because it takes something.
        self.allowance(tenant, terms, now)
    }

    fn away(&self, refusal: Refusal, waiting: usize, share: f64, now: Instant) -> TurnedAway {
        let time = self.pace.time_for(waiting, now).unwrap_or(Duration::from_secs(1));
        let time = Duration::try_from_secs_f64(time.as_secs_f64() / share).unwrap_or(Duration::MAX);
        TurnedAway { refusal, retry_after: whole_seconds(time) }
    }

    fn allowance(&mut self, tenant: &TenantId, terms: &TenantLimits, now: Instant) -> Result<(), TurnedAway> {
        if terms.requests_per_minute.is_none() && terms.tokens_per_minute.is_none() {
            return Ok(());
        }
        let allowance = self.allowances.entry(tenant.clone()).or_default();
        set(&mut allowance.requests, terms.requests_per_minute, now);
        set(&mut allowance.tokens, terms.tokens_per_minute, now);
        let wait = allowance.requests.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(1.0, now));
        if wait > Duration::ZERO {
            return Err(TurnedAway { refusal: Refusal::Requests, retry_after: whole_seconds(wait) });
        }
        // What it will cost is known when it is over; until then it is enough that something is left.
        let wait = allowance.tokens.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(1.0, now));
        if wait > Duration::ZERO {
            return Err(TurnedAway { refusal: Refusal::Tokens, retry_after: whole_seconds(wait) });
        }
        if let Some(bucket) = &mut allowance.requests {
            bucket.take(1.0, now);
        }
        Ok(())
    }

    /// Wakes whoever may run now.
    fn dispatch(&mut self) {
        while let Some((wake, places)) = self.queue.next() {
            // Its owner holds the other end until it has looked at the lanes under this same lock; see `Waiting`.
            let _ = wake.send(places);
        }
        gauge!("obsidian_admission_queue").set(self.queue.waiting() as f64);
    }
}

fn set(bucket: &mut Option<Bucket>, per_minute: Option<u64>, now: Instant) {
    match (bucket.as_mut(), per_minute) {
        (Some(bucket), Some(per_minute)) => bucket.set(per_minute, now),
        (None, Some(per_minute)) => *bucket = Some(Bucket::new(per_minute, now)),
        (_, None) => *bucket = None,
    }
}

fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).clamp(1, MAX_RETRY_AFTER_SECONDS)
}

/// A request whose body may now be read.
pub(crate) struct Arrival {
    admission: Admission,
    tenant: TenantId,
    counts_tokens: bool,
    asked: bool,
}

impl Arrival {
    /// Waits for a place.
    pub(crate) async fn place(mut self, cost: Cost) -> Result<Place, TurnedAway> {
        let (wake, woken) = oneshot::channel();
        let began = Instant::now();
        let (ticket, patience) = {
            let mut state = self.admission.lock();
            self.asked = true;
            let ticket = state.queue.wait(&self.tenant, cost, wake);
            state.dispatch();
            (ticket, state.limits.queue_wait)
        };
        let mut waiting = Waiting { arrival: &self, ticket, woken: Some(woken) };
        let woken = waiting.woken.as_mut().map(|woken| tokio::time::timeout(patience, woken));
        let granted = match woken {
            Some(woken) => woken.await,
            None => return Err(waiting.give_up()),
        };
        histogram!("obsidian_admission_wait_seconds").record(began.elapsed().as_secs_f64());
        match granted {
            Ok(Ok(places)) => {
                waiting.woken = None;
                Ok(Place {
                    admission: self.admission.clone(),
                    tenant: self.tenant.clone(),
                    places,
                    counts_tokens: self.counts_tokens,
                })
            }
            Ok(Err(_)) | Err(_) => Err(waiting.give_up()),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.asked {
            self.admission.lock().queue.gone(&self.tenant);
        }
    }
}

/// A request in the queue; dropped when its client leaves or its patience ends.
struct Waiting<'a> {
    arrival: &'a Arrival,
    ticket: u64,
    /// None once the place has an owner.
    woken: Option<oneshot::Receiver<usize>>,
}

impl Waiting<'_> {
    fn give_up(&self) -> TurnedAway {
        let state = self.arrival.admission.lock();
        let away = state.away(Refusal::Waited, state.queue.pending(), 1.0, Instant::now());
        counter!("obsidian_admission_rejected_total", "reason" => away.refusal.as_str()).increment(1);
        away
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut woken) = self.woken.take() else {
            return;
        };
        let mut state = self.arrival.admission.lock();
        if state.queue.leave(&self.arrival.tenant, self.ticket) {
            gauge!("obsidian_admission_queue").set(state.queue.waiting() as f64);
            return;
        }
        // Granted in the meantime, and nobody is here to take it.
        if let Ok(places) = woken.try_recv() {
            state.queue.release(&self.arrival.tenant, places);
            state.dispatch();
        }
    }
}

/// A place in the pipeline.
pub(crate) struct Place {
    admission: Admission,
    tenant: TenantId,
    places: usize,
    counts_tokens: bool,
}

impl Place {
    /// Tells what the request has used, for its tenant's tokens per minute.
    pub(crate) fn spent(&self, tokens: u64) {
        if !self.counts_tokens {
            return;
        }
        let mut state = self.admission.lock();
        if let Some(bucket) = state.allowances.get_mut(&self.tenant).and_then(|allowance| allowance.tokens.as_mut()) {
            bucket.take(tokens as f64, Instant::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.pace.note(Instant::now());
        state.queue.release(&self.tenant, self.places);
        state.dispatch();
    }
}

#[cfg(test)]
mod tests;
