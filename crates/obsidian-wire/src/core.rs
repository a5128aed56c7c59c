//! The core route: the POP's client for OpenAI-compatible upstreams, tried in the operator's order.
//!
//! A prompt goes in as `Masked<Prompt>` and in no other form; everything else that is sent is numbers or the
//! operator's own settings. Start at [`CoreLink::open`]. One module per concern: [`dial`] connects, [`server`] knows
//! one upstream's connections and health, [`stream`] reads one answer, [`sse`] and [`chunk`] read its events,
//! [`request`] writes what is sent, [`breaker`] decides when an upstream is left alone.

mod breaker;
mod chunk;
mod dial;
mod error;
mod options;
mod request;
mod server;
mod sse;
mod stream;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::counter;
use obsidian_shield::{Masked, Prompt};
use tokio::task::JoinSet;

use crate::client::lock;
use crate::wan::WanBytes;
use breaker::RetryBudget;
use server::{Attempt, Server};
use stream::Begin;

pub use breaker::Circuit;
pub use chunk::{CoreDelta, CoreLogprob, CoreToken};
pub use error::{CoreError, CoreFailure, CoreSetupError};
pub use options::{ApiKey, CoreModel, CoreOptions, CoreRequest, CoreState, LengthField, Upstream, UpstreamState};
pub use sse::{SseError, SseParser};
pub use stream::CoreStream;

/// First pause before the same upstream is tried again; it doubles, and half of it is chance.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Longest pause that a request waits for an upstream that asked for one.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often connections are looked after, and how long that is left alone after a failure.
const TEND_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_TEND_INTERVAL: Duration = Duration::from_secs(30);

/// The way to all upstreams. Cheap to clone; connections close when the last clone is dropped.
#[derive(Clone)]
pub struct CoreLink {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Vec<Arc<Server>>,
    options: CoreOptions,
    budget: Mutex<RetryBudget>,
    /// Ends the tasks that look after connections when the link is dropped.
    _tasks: JoinSet<()>,
}

impl CoreLink {
    /// Reads keys and certificates, and starts connecting; returns at once and must be called in a tokio runtime.
    /// Upstreams are tried in the order given.
    ///
    /// # Errors
    /// [`CoreSetupError`] names the upstream and what is wrong with its settings.
    pub fn new(upstreams: Vec<Upstream>, options: CoreOptions) -> Result<Self, CoreSetupError> {
        let servers = servers(upstreams, &options)?;
        let mut tasks = JoinSet::new();
        for server in servers.iter().filter(|_| options.warm_connections > 0) {
            tasks.spawn(tend(server.clone(), options));
        }
        let budget = Mutex::new(RetryBudget::new(options.retry_share));
        Ok(Self { inner: Arc::new(Inner { servers, options, budget, _tasks: tasks }) })
    }

    /// Whether some upstream can be asked now, without waiting: for the router.
    pub fn is_ready(&self) -> bool {
        let now = Instant::now();
        self.inner.servers.iter().any(|server| server.is_usable(now))
    }

    /// The same for one model.
    pub fn serves(&self, model: &CoreModel) -> bool {
        let now = Instant::now();
        self.inner.servers.iter().any(|server| server.model(model).is_some() && server.is_usable(now))
    }

    /// Every upstream's state.
    pub fn state(&self) -> CoreState {
        let now = Instant::now();
        let upstreams = self.inner.servers.iter().map(|server| server.state(now)).collect();
        CoreState { ready: self.is_ready(), upstreams }
    }

    /// The model names that clients may ask for.
    pub fn model_names(&self) -> BTreeSet<String> {
        let of = |server: &Arc<Server>| {
            let upstream = &server.upstream;
            upstream.models.keys().chain([&upstream.model]).cloned().collect::<Vec<_>>()
        };
        self.inner.servers.iter().flat_map(of).collect()
    }

    /// The model a client calls by `name`, if some upstream serves it.
    pub fn model(&self, name: &str) -> Option<CoreModel> {
        let model = CoreModel(Some(name.into()));
        self.inner.servers.iter().any(|server| server.model(&model).is_some()).then_some(model)
    }

    /// Reads all API keys again. A key that cannot be read leaves the old one in use.
    ///
    /// # Errors
    /// The first that cannot be read; the others are read all the same.
    pub fn reload_keys(&self) -> Result<(), CoreSetupError> {
        let mut outcome = Ok(());
        for server in &self.inner.servers {
            outcome = outcome.and(server.reload_key());
        }
        outcome
    }

    /// Asks for an answer and waits until it begins. Upstreams that fail before that are passed over or tried
    /// again, as far as the retry budget reaches; afterwards there are no retries.
    ///
    /// # Errors
    /// [`CoreFailure`] with the last attempt's error.
    pub async fn open(&self, prompt: &Masked<Prompt>, request: &CoreRequest) -> Result<CoreStream, CoreFailure> {
        let inner = &self.inner;
        let deadline = Instant::now() + inner.options.total_timeout;
        lock(&inner.budget).deposit();
        let mut spent = WanBytes::default();
        let mut last: Option<(CoreError, Arc<Server>)> = None;
        for attempt_number in 0.. {
            let Some((attempt, wait)) = inner.next_attempt(&request.model, last.as_ref(), attempt_number) else {
                let error = last.map_or_else(|| inner.unavailable(&request.model), |(error, _)| error);
                return Err(CoreFailure { error, wan_bytes: spent });
            };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let server = attempt.server.clone();
            let began = inner.attempt(attempt, prompt, request, deadline).await;
            let failure = match began {
                Ok(mut stream) => {
                    stream.add_earlier(spent);
                    return Ok(stream);
                }
                Err(failure) => failure,
            };
            spent = spent + failure.wan_bytes;
            let error = failure.error;
            let again = error.is_retriable()
                && attempt_number < inner.options.max_retries
                && Instant::now() < deadline
                && lock(&inner.budget).withdraw();
            if !again {
                return Err(CoreFailure { error, wan_bytes: spent });
            }
            tracing::debug!(%error, "trying again");
            counter!("obsidian_core_retries_total").increment(1);
            last = Some((error, server));
        }
        Err(CoreFailure { error: inner.unavailable(&request.model), wan_bytes: spent })
    }
}

impl std::fmt::Debug for CoreLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CoreLink({:?})", self.state())
    }
}

impl Inner {
    /// Whom to try and after which pause: first upstreams that have not just failed, at once; then the one that
    /// has, later.
    fn next_attempt(
        &self,
        model: &CoreModel,
        last: Option<&(CoreError, Arc<Server>)>,
        number: u32,
    ) -> Option<(Attempt, Duration)> {
        let now = Instant::now();
        let serving = || self.servers.iter().filter(|server| server.model(model).is_some());
        let Some((error, failed)) = last else {
            return serving().find_map(|server| server.enter(now)).map(|attempt| (attempt, Duration::ZERO));
        };
        let other = serving().filter(|server| !Arc::ptr_eq(server, failed)).find_map(|server| server.enter(now));
        if let Some(attempt) = other {
            return Some((attempt, Duration::ZERO));
        }
        if !error.may_pass() {
            return None;
        }
        let wait = match error.retry_after() {
            Some(asked) if asked > LONGEST_WAIT => return None,
            Some(asked) => asked,
            None => backoff(number),
        };
        failed.enter(now + wait).map(|attempt| (attempt, wait))
    }

    async fn attempt(
        &self,
        attempt: Attempt,
        prompt: &Masked<Prompt>,
        request: &CoreRequest,
        deadline: Instant,
    ) -> Result<CoreStream, CoreFailure> {
        let server = attempt.server.clone();
        let model = server.model(&request.model).unwrap_or(&server.upstream.model);
        let body = match request::body(prompt, request, model, server.upstream.length_field) {
            Ok(body) => Bytes::from(body),
            // Only a tool whose parameters are no JSON comes here; ingress has refused it long before.
            Err(_) => {
                let error = CoreError::protocol(server.name(), "the request cannot be written as JSON");
                return Err(CoreFailure { error, wan_bytes: WanBytes::default() });
            }
        };
        let begin = Begin { path: request::path(prompt), body: &body, model };
        CoreStream::begin(attempt, begin, &self.options, deadline).await
    }

    fn unavailable(&self, model: &CoreModel) -> CoreError {
        let now = Instant::now();
        let serving = || self.servers.iter().filter(|server| server.model(model).is_some());
        let describe = |server: &Arc<Server>| {
            let state = server.state(now);
            let what = if state.resting.is_some() { "asked to be left alone" } else { "is failing" };
            format!("{} {what} ({})", state.name, state.last_error)
        };
        CoreError::Unavailable {
            summary: serving().map(describe).collect::<Vec<_>>().join(", "),
            retry_after: serving().map(|server| server.pause(now)).min().unwrap_or(Duration::from_secs(1)),
        }
    }
}

/// Whether a link could be made of these settings; connects to nobody.
///
/// # Errors
/// As [`CoreLink::new`].
pub fn check(upstreams: Vec<Upstream>, options: &CoreOptions) -> Result<(), CoreSetupError> {
    servers(upstreams, options).map(drop)
}

fn servers(upstreams: Vec<Upstream>, options: &CoreOptions) -> Result<Vec<Arc<Server>>, CoreSetupError> {
    options.check()?;
    if upstreams.is_empty() {
        return Err(CoreSetupError::NoUpstream);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = upstreams.iter().find(|upstream| !names.insert(upstream.name.clone())) {
        return Err(CoreSetupError::SameName(twice.name.clone()));
    }
    upstreams.into_iter().map(|upstream| Server::new(upstream).map(Arc::new)).collect()
}

/// Looks after one upstream's connections, less often while it cannot be reached.
async fn tend(server: Arc<Server>, options: CoreOptions) {
    let (mut interval, mut first) = (TEND_INTERVAL, true);
    loop {
        let well = server.tend(&options, first).await;
        interval = if well { TEND_INTERVAL } else { (interval * 2).min(LONGEST_TEND_INTERVAL) };
        // Until it has been reached once, it is tried whether or not requests come.
        first = !well;
        tokio::time::sleep(interval).await;
    }
}

/// Half fixed, half chance, so that requests that failed together do not come back together.
fn backoff(number: u32) -> Duration {
    let whole = FIRST_BACKOFF * 2u32.saturating_pow(number.min(6));
    // Every `RandomState` has random keys: chance enough for a pause.
    let chance = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
    whole.mul_f64(0.5 + chance / 2.0)
}
