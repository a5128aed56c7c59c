//! The POP's side of the link, and the only place of the project that connects to a hub.
//!
//! [`HubLink`] keeps several HTTP/2 connections warm and hands out [`VerifyStream`]s on the least loaded
//! one. A prompt goes in as [`Masked`] token ids and in no other form.

mod connection;
mod known;
mod options;
mod stream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use obsidian_shield::{Masked, TokenIds};
use tokio::task::JoinSet;

use crate::error::LinkError;
use crate::prefix::{ChainKey, PrefixChain};
use crate::proto;
use crate::tls::{ClientTls, TlsError};

use connection::keep;
pub(crate) use connection::{Shared, Slot};
pub use options::{Description, LinkOptions, LinkState, OpenOptions};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use stream::Asked;
pub use stream::{Batch, Verdict, VerifyStream};

/// Warm connections to one hub. Cheap to clone; the connections close when the last clone is dropped.
#[derive(Clone)]
pub struct HubLink {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    slots: Vec<Arc<Slot>>,
    turn: AtomicUsize,
    /// Ends the connections' tasks when the link is dropped.
    _tasks: JoinSet<()>,
}

impl HubLink {
    /// Starts connecting to `endpoint` (`HOST:PORT`) and returns at once; must be called in a tokio runtime.
    ///
    /// # Errors
    /// When `endpoint` is no `HOST:PORT` or the host cannot be a certificate's name.
    pub fn new(endpoint: &str, tls: ClientTls, options: LinkOptions) -> Result<Self, TlsError> {
        let shared = Arc::new(Shared::new(endpoint, tls, options)?);
        let slots: Vec<_> = (0..shared.options.connections.max(1)).map(|_| Arc::new(Slot::default())).collect();
        let mut tasks = JoinSet::new();
        for slot in &slots {
            tasks.spawn(keep(slot.clone(), shared.clone()));
        }
        Ok(Self { inner: Arc::new(Inner { shared, slots, turn: AtomicUsize::new(0), _tasks: tasks }) })
    }

    /// Health and load, without waiting: for the router.
    pub fn state(&self) -> LinkState {
        let connections = self.inner.slots.iter().filter(|slot| slot.live().is_some()).count();
        LinkState {
            healthy: connections > 0,
            connections,
            streams: self.inner.slots.iter().map(|slot| slot.streams()).sum(),
            round_trip: self.inner.shared.round_trip(),
            description: lock(&self.inner.shared.description).clone(),
            last_error: lock(&self.inner.shared.last_error).clone(),
        }
    }

    /// Waits until a connection stands.
    ///
    /// # Errors
    /// [`LinkError::Unavailable`] with the last failure when none does within `patience`.
    pub async fn ready(&self, patience: Duration) -> Result<(), LinkError> {
        let mut changed = self.inner.shared.changed.subscribe();
        let connected = changed.wait_for(|_| self.state().healthy);
        match tokio::time::timeout(patience, connected).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.inner.shared.unavailable()),
        }
    }

    /// Asks the hub what it serves and how busy it is.
    ///
    /// # Errors
    /// When no connection stands, or the hub does not answer in time.
    pub async fn describe(&self) -> Result<Description, LinkError> {
        let (_, live) = self.pick()?;
        let mut client = live.client;
        let asked = client.describe(proto::DescribeRequest {});
        let patience = self.inner.shared.options.request_timeout;
        let reply = tokio::time::timeout(patience, asked)
            .await
            .map_err(|_| stream::late("describe", patience))?
            .map_err(|status| LinkError::from_status(&status))?;
        let description = Description::from(reply.into_inner());
        *lock(&self.inner.shared.description) = Some(Arc::new(description.clone()));
        Ok(description)
    }

    /// Opens a stream for one answer to `prompt`. One round trip (two when the hub lost a prefix it was
    /// believed to hold); run it beside the drafter's own prefill.
    ///
    /// # Errors
    /// [`LinkError::Refused`] carries the hub's code: overloaded, model mismatch, unsupported version, ….
    pub async fn open(&self, prompt: &Masked<TokenIds>, options: OpenOptions) -> Result<VerifyStream, LinkError> {
        let (slot, live) = self.pick()?;
        let digest = hex_digest(&options.vocabulary_digest)?;
        let ids = prompt.get().as_slice().to_vec();
        let known = lock(&self.inner.shared.description).clone();
        let chain = known.map(|description| {
            let key = ChainKey { salt: options.tenant_salt, model_digest: description.model_digest };
            PrefixChain::of(key, &ids)
        });
        // Never the whole prompt: the hub needs at least one token to go on from.
        let blocks = chain.as_ref().map_or(0, |chain| {
            let usable = ids.len().saturating_sub(1) / crate::prefix::BLOCK_TOKENS;
            lock(&self.inner.shared.known).longest(&chain.links()[..usable.min(chain.links().len())])
        });
        let prefix = chain
            .as_ref()
            .filter(|_| blocks > 0)
            .map(|chain| proto::Prefix { blocks: blocks as u32, tip: chain.links()[blocks - 1].to_vec() });
        let open = proto::Open {
            versions: options.versions(),
            model: options.model.clone(),
            vocabulary_digest: digest,
            numerics_id: options.numerics_id.clone().unwrap_or_default(),
            sampling: Some(options.proto_sampling()),
            mode: options.mode().into(),
            max_tokens: options.max_tokens,
            end_ids: options.end_ids.clone(),
            tenant_salt: options.tenant_salt.to_vec(),
            suffix: ids[blocks * crate::prefix::BLOCK_TOKENS..].to_vec(),
            prefix,
            answer_start: options.answer_start,
        };
        let parts = stream::Parts { shared: self.inner.shared.clone(), slot, live, ids, chain };
        VerifyStream::open(parts, open, options.mode()).await
    }

    /// The least loaded connection that stands; equals take turns.
    fn pick(&self) -> Result<(Arc<Slot>, connection::Live), LinkError> {
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.inner.slots.len();
        (0..count)
            .map(|step| &self.inner.slots[(turn + step) % count])
            .filter_map(|slot| Some((slot.clone(), slot.live()?)))
            .min_by_key(|(slot, _)| slot.streams())
            .ok_or_else(|| self.inner.shared.unavailable())
    }
}

impl std::fmt::Debug for HubLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "HubLink({}, {:?})", self.inner.shared.endpoint, self.state())
    }
}

/// A panic elsewhere must not take the link down: what these locks guard is valid at every moment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hex_digest(text: &str) -> Result<Vec<u8>, LinkError> {
    let wrong = LinkError::WrongUse("the vocabulary digest is not 64 hexadecimal digits");
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong);
    }
    (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong.clone())).collect()
}
