//! Connections that wait for their next request. Each belongs to one owner, so that no tenant sends on another's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::{http1, http2};
use obsidian_types::limits::{MAX_OUTBOUND_IDLE, MAX_OUTBOUND_IDLE_PER_HOST};

/// The body of a request outwards.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(30);

/// What a connection can be used for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Whose it is.
    pub(super) owner: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encrypted: bool,
    /// Whether it may lead to an address that is not public.
    pub(super) private: bool,
}

/// A connection that can take a request.
pub(super) enum Sender {
    /// One request at a time.
    One(http1::SendRequest<RequestBody>),
    /// Many at once; this is one of several handles.
    Many(http2::SendRequest<RequestBody>),
}

impl Sender {
    /// Whether a request can be sent now.
    fn is_usable(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_ready(),
            Self::Many(sender) => sender.is_ready(),
        }
    }

    /// Another handle, where the connection takes several requests at once.
    pub(super) fn shared(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Many(sender) => Some(Self::Many(sender.clone())),
        }
    }
}

struct Waiting {
    sender: Sender,
    since: Instant,
}

/// Connections that wait. Cloning gives another handle.
#[derive(Clone, Default)]
pub(super) struct Pool {
    waiting: Arc<Mutex<HashMap<Key, Vec<Waiting>>>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is ready, if one waits. One that takes several requests stays for the others.
    pub(super) fn take(&self, key: &Key) -> Option<Sender> {
        let mut waiting = self.lock();
        let list = waiting.get_mut(key)?;
        let mut found = None;
        while let Some(mut last) = list.pop() {
            if last.since.elapsed() > IDLE || !last.sender.is_usable() {
                continue;
            }
            found = Some(match last.sender.shared() {
                None => last.sender,
                Some(shared) => {
                    last.since = Instant::now();
                    list.push(last);
                    shared
                }
            });
            break;
        }
        if list.is_empty() {
            waiting.remove(key);
        }
        found
    }

    /// Keeps a connection for the next request, if there is room.
    pub(super) fn keep(&self, key: Key, sender: Sender) {
        let mut waiting = self.lock();
        let total: usize = waiting.values().map(Vec::len).sum();
        if total >= MAX_OUTBOUND_IDLE {
            sweep(&mut waiting);
            if waiting.values().map(Vec::len).sum::<usize>() >= MAX_OUTBOUND_IDLE {
                return;
            }
        }
        let list = waiting.entry(key).or_default();
        list.retain(|one| one.since.elapsed() <= IDLE);
        let many = matches!(sender, Sender::Many(_));
        if list.len() < MAX_OUTBOUND_IDLE_PER_HOST && !(many && list.iter().any(|one| one.sender.shared().is_some())) {
            list.push(Waiting { sender, since: Instant::now() });
        }
    }

    /// Closes what has waited too long; true if anything was closed.
    pub(super) fn sweep(&self) {
        sweep(&mut self.lock());
    }

    /// Closes the connection that has waited longest, to make room for another.
    pub(super) fn evict(&self) {
        let mut waiting = self.lock();
        let oldest = waiting
            .iter()
            .filter_map(|(key, list)| Some((list.iter().map(|one| one.since).min()?, key.clone())))
            .min_by_key(|(since, _)| *since);
        if let Some((since, key)) = oldest
            && let Some(list) = waiting.get_mut(&key)
        {
            list.retain(|one| one.since != since);
            if list.is_empty() {
                waiting.remove(&key);
            }
        }
    }
}

fn sweep(waiting: &mut HashMap<Key, Vec<Waiting>>) {
    waiting.retain(|_, list| {
        list.retain(|one| one.since.elapsed() <= IDLE && one.sender.is_usable());
        !list.is_empty()
    });
}

/// A connection in use: given back at the end of its answer, closed if dropped before.
pub(super) struct Lease {
    pub(super) pool: Pool,
    pub(super) key: Key,
    pub(super) sender: Sender,
}

impl Lease {
    pub(super) fn give_back(self) {
        self.pool.keep(self.key, self.sender);
    }
}
