//! One upstream with all that is known of it: its connections, its health, its key. (Called a server here, because
//! an [`Upstream`] is what the operator wrote about it.)

use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use metrics::{counter, gauge};
use obsidian_types::limits::MAX_CORE_IDLE_CONNECTIONS;

use super::breaker::{Breaker, Circuit};
use super::dial::{Connection, Origin};
use super::error::{CoreError, CoreSetupError};
use super::options::{Authorization, CoreModel, CoreOptions, Upstream, UpstreamState};
use crate::client::lock;

/// Connections are kept warm while the last request is not longer ago than this.
const WARM_FOR: Duration = Duration::from_secs(60);
/// How long the end of a response may lag behind its last event before the connection is given up.
const TAIL: Duration = Duration::from_secs(1);
/// Longest rest that an upstream can ask for.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// One upstream at run time.
pub(super) struct Server {
    pub(super) upstream: Upstream,
    origin: Origin,
    authorization: RwLock<Authorization>,
    health: Mutex<Health>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Default)]
struct Health {
    breaker: Breaker,
    /// Asked to be left alone until then.
    rest_until: Option<Instant>,
    last_error: String,
    last_request: Option<Instant>,
}

/// A connection between two requests, with what may still be under way of the last response.
struct Idle {
    connection: Connection,
    tail: Option<Incoming>,
}

impl Server {
    pub(super) fn new(upstream: Upstream) -> Result<Self, CoreSetupError> {
        let named = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if upstream.name.is_empty() || !upstream.name.chars().all(named) {
            return Err(CoreSetupError::Name(upstream.name));
        }
        if upstream.model.is_empty() || upstream.models.iter().any(|(name, sent)| name.is_empty() || sent.is_empty()) {
            return Err(CoreSetupError::NoModel(upstream.name));
        }
        Ok(Self {
            origin: Origin::new(&upstream)?,
            authorization: RwLock::new(Authorization::read(&upstream)?),
            health: Mutex::default(),
            idle: Mutex::default(),
            upstream,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.upstream.name
    }

    /// The name to send for a model, if this upstream serves it.
    pub(super) fn model(&self, model: &CoreModel) -> Option<&str> {
        match &model.0 {
            None => Some(&self.upstream.model),
            Some(name) if **name == *self.upstream.model => Some(&self.upstream.model),
            Some(name) => self.upstream.models.get(&**name).map(String::as_str),
        }
    }

    /// Reads the key again; the old one stays if that fails.
    pub(super) fn reload_key(&self) -> Result<(), CoreSetupError> {
        let fresh = Authorization::read(&self.upstream)?;
        *self.authorization.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let health = lock(&self.health);
        health.rest_until.is_none_or(|until| now >= until) && health.breaker.is_usable(now)
    }

    /// How long until it may be tried again.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let rest = lock(&self.health).rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        rest.max(Duration::from_secs(1))
    }

    /// A place for one attempt, if the upstream takes one now.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Option<Attempt> {
        let mut health = lock(&self.health);
        if health.rest_until.is_some_and(|until| now < until) || !health.breaker.enter(now) {
            return None;
        }
        health.rest_until = None;
        health.last_request = Some(now);
        Some(Attempt { server: self.clone(), settled: false })
    }

    pub(super) fn state(&self, now: Instant) -> UpstreamState {
        let health = lock(&self.health);
        UpstreamState {
            name: self.upstream.name.clone(),
            model: self.upstream.model.clone(),
            circuit: health.breaker.circuit(now),
            resting: health.rest_until.and_then(|until| until.checked_duration_since(now)),
            last_error: health.last_error.clone(),
            idle_connections: lock(&self.idle).len(),
        }
    }

    fn failed(&self, error: &CoreError) {
        let now = Instant::now();
        let mut health = lock(&self.health);
        if let Some(rest) = error.retry_after() {
            health.rest_until = Some(now + rest.min(LONGEST_REST));
        }
        let before = health.breaker.circuit(now);
        if error.is_failure() {
            health.breaker.failed(now);
        } else {
            health.breaker.abandoned();
        }
        health.last_error = error.to_string();
        let after = health.breaker.circuit(now);
        drop(health);
        if before != after && after == Circuit::Open {
            tracing::warn!(upstream = self.name(), %error, "upstream is left alone after repeated failures");
        }
        self.show_circuit(after);
    }

    fn show_circuit(&self, circuit: Circuit) {
        let open = if circuit == Circuit::Closed { 0.0 } else { 1.0 };
        gauge!("obsidian_core_circuit_open", "upstream" => self.upstream.name.clone()).set(open);
    }

    /// A connection that stands, the most recently used first.
    pub(super) fn take_idle(&self, keep_alive: Duration) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            match idle[at].check(keep_alive) {
                Check::Usable => return Some(idle.remove(at).connection),
                // Its tail is still on the way: it stays for the next request.
                Check::Busy => {}
                Check::Dead => drop(idle.remove(at)),
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put_idle(&self, connection: Connection, tail: Option<Incoming>) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_CORE_IDLE_CONNECTIONS {
            idle.push(Idle { connection, tail });
        }
    }

    pub(super) async fn dial(&self, patience: Duration) -> Result<Connection, CoreError> {
        self.origin.dial(patience).await
    }

    /// The request as this upstream takes it.
    pub(super) fn request(&self, path: &str, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.origin.path))
            .header(HOST, self.origin.authority.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("text/event-stream"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("obsidian/", env!("CARGO_PKG_VERSION"))))
            .body(Full::new(body))?;
        let authorization = self.authorization.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(value) = &authorization.0 {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    /// Drops connections that have ended, and opens some ahead of the next request. Called every now and then.
    /// Says whether it went well.
    pub(super) async fn tend(&self, options: &CoreOptions, first: bool) -> bool {
        let standing = {
            let mut idle = lock(&self.idle);
            idle.retain_mut(|idle| !matches!(idle.check(options.keep_alive), Check::Dead));
            idle.len()
        };
        let wanted = first || lock(&self.health).last_request.is_some_and(|last| last.elapsed() < WARM_FOR);
        let missing = if wanted { options.warm_connections.saturating_sub(standing) } else { 0 };
        for _ in 0..missing {
            match self.dial(options.connect_timeout).await {
                Ok(connection) => {
                    self.put_idle(connection, None);
                    let mut health = lock(&self.health);
                    health.breaker.reachable(Instant::now());
                }
                Err(error) => {
                    tracing::debug!(%error, "no warm connection");
                    self.failed(&error);
                    return false;
                }
            }
        }
        true
    }
}

enum Check {
    Usable,
    Busy,
    Dead,
}

impl Idle {
    fn check(&mut self, keep_alive: Duration) -> Check {
        if let Some(tail) = &mut self.tail {
            // The driver first: it reads what the tail then shows.
            let _ = self.connection.is_usable();
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match hyper::body::Body::poll_frame(std::pin::Pin::new(tail), &mut context) {
                std::task::Poll::Ready(None) => self.tail = None,
                std::task::Poll::Pending if self.connection.used.elapsed() < TAIL => return Check::Busy,
                // More data after the end of the answer, an error, or nothing for too long.
                _ => return Check::Dead,
            }
        }
        if self.connection.used.elapsed() < keep_alive && self.connection.is_usable() {
            Check::Usable
        } else {
            Check::Dead
        }
    }
}

/// One attempt at an upstream: however it ends, the upstream's health hears of it.
pub(super) struct Attempt {
    pub(super) server: Arc<Server>,
    settled: bool,
}

impl Attempt {
    /// The answer has begun.
    pub(super) fn succeeded(&mut self) {
        self.settled = true;
        let mut health = lock(&self.server.health);
        health.breaker.succeeded(Instant::now());
        let recovered = !std::mem::take(&mut health.last_error).is_empty();
        drop(health);
        counter!("obsidian_core_attempts_total", "upstream" => self.server.upstream.name.clone(), "outcome" => "begun")
            .increment(1);
        if recovered {
            self.server.show_circuit(Circuit::Closed);
        }
    }

    /// No answer, or no whole one.
    pub(super) fn failed(&mut self, error: &CoreError) {
        self.settled = true;
        counter!("obsidian_core_attempts_total", "upstream" => self.server.upstream.name.clone(), "outcome" => error.name())
            .increment(1);
        self.server.failed(error);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled {
            lock(&self.server.health).breaker.abandoned();
        }
    }
}
