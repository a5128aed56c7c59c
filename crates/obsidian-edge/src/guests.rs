//! The POP's own guests, and how a version of one takes the place of another while requests run.
//!
//! Verified before it comes here, a candidate is loaded and called once on a thread of its own, and only then does it
//! take over: new work begins on it, what has begun ends where it began. If anything fails on the way, nothing has
//! changed. The version before stays ready for [`roll_back`], and comes back by itself when a candidate faults again
//! and again. What serves is written down, and [`restore`] finds it again. Start at [`swap`].

mod restore;
mod seat;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use obsidian_registry::{Artifact, Verified};
use obsidian_sandbox::{Drafter, RouterSandbox, SandboxError, ShieldSandbox, StillDraining};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::oneshot;

pub(crate) use self::restore::restore;
pub(crate) use self::seat::{Seat, Seated};
use crate::functions::{ChangeError, Functions, Signed};
use crate::pop::Pop;

/// Stack of the thread that loads and probes a candidate, bytes: as much as compute threads have.
const THREAD_STACK_BYTES: usize = 4 << 20;

/// One of the POP's own guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// Masks and restores.
    Shield,
    /// Chooses a tier.
    Router,
    /// Runs the POP's models.
    Drafter,
}

impl GuestKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shield, Self::Router, Self::Drafter];

    /// Its name, which a module for this place must have.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shield => "shield",
            Self::Router => "router",
            Self::Drafter => "drafter",
        }
    }

    /// The guest of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Which version of a guest serves, and what it could go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestReport {
    /// Which guest.
    pub kind: GuestKind,
    /// The version that new requests begin on.
    pub current: VersionReport,
    /// The version that a rollback goes back to.
    pub previous: Option<VersionReport>,
    /// Older versions that still serve what they began.
    pub draining: usize,
    /// Why a version that was put here does not serve since the POP started, if so.
    pub not_restored: Option<String>,
}

/// One version of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionReport {
    /// Counts the versions of this guest since the POP started, from 1.
    pub generation: u64,
    /// As it was signed.
    pub version: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// When it was first put to use, Unix time in seconds.
    pub since: u64,
    /// Faults of late; as many as [`obsidian_types::limits::MAX_GUEST_FAULTS`] take it back.
    pub faults: usize,
}

/// What a swap took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Swapped {
    /// The generation that serves now.
    pub generation: u64,
    /// Compiling, or loading what was compiled before, milliseconds.
    pub load_ms: f64,
    /// The first calls, milliseconds.
    pub warm_ms: f64,
    /// The switch itself, microseconds.
    pub switch_us: f64,
}

/// Why a guest was not exchanged. What served before serves on.
#[derive(Debug, Error)]
pub enum SwapError {
    /// Signed for another purpose.
    #[error("the module is called {found}: sign one under the name {expected} to put it there")]
    Name {
        /// The guest's name.
        expected: &'static str,
        /// The module's.
        found: String,
    },
    /// Two swaps of one guest at once.
    #[error("another swap of the {0} is going on: wait for it")]
    Busy(&'static str),
    /// It cannot run, failed its first calls, or did something else than its contract says.
    #[error("the candidate is refused: {0}")]
    Candidate(#[from] SandboxError),
    /// Too many old versions in use.
    #[error(transparent)]
    Draining(#[from] StillDraining),
    /// No swap yet, or the last one was taken back.
    #[error("there is no version of the {0} to go back to")]
    NothingBefore(&'static str),
    /// No thread, or the POP is ending.
    #[error("the candidate could not be tried: {0}")]
    Thread(String),
    /// What would be gone back to may not run any more.
    #[error("{0}")]
    Untrusted(#[source] ChangeError),
    /// It serves, but a restart would find what served before.
    #[error("it serves, but could not be written down: {0}")]
    NotRemembered(#[source] ChangeError),
}

/// Whether the guest did something that it must not do.
pub(crate) fn is_own_fault(error: &SandboxError) -> bool {
    match error {
        SandboxError::Trap { .. }
        | SandboxError::Deadline { .. }
        | SandboxError::Memory { .. }
        | SandboxError::Contract { .. } => true,
        SandboxError::Overloaded { .. }
        | SandboxError::Refused(_)
        | SandboxError::Unavailable { .. }
        | SandboxError::SessionLost
        | SandboxError::Artifact { .. }
        | SandboxError::Weights(_)
        | SandboxError::Engine(_) => false,
    }
}

/// The guests of one POP.
pub(crate) struct Guests {
    pub(crate) shield: Arc<Seat<ShieldSandbox>>,
    pub(crate) router: Arc<Seat<RouterSandbox>>,
    pub(crate) drafter: Arc<Seat<Drafter>>,
}

impl Guests {
    /// Where there is a directory for functions, it remembers which versions serve.
    pub(crate) fn new(
        shield: ShieldSandbox,
        router: RouterSandbox,
        drafter: Drafter,
        functions: Option<&Functions>,
    ) -> Self {
        Self {
            shield: Seat::new(GuestKind::Shield, shield, functions),
            router: Seat::new(GuestKind::Router, router, functions),
            drafter: Seat::new(GuestKind::Drafter, drafter, functions),
        }
    }

    /// How each guest stands.
    pub(crate) fn report(&self) -> Vec<GuestReport> {
        vec![self.shield.report(), self.router.report(), self.drafter.report()]
    }
}

/// Puts `artifact` in the place of the guest that serves now. Compiling takes seconds where no compiled code is at
/// hand; requests go on meanwhile. What has no `signed` on the disk is not found again by a restart.
pub(crate) async fn swap(
    pop: &Pop,
    kind: GuestKind,
    artifact: Verified<Artifact>,
    signed: Option<Signed>,
) -> Result<Swapped, SwapError> {
    let guest = kind.as_str();
    let (version, digest) = (artifact.version.clone(), artifact.digest());
    let swapped = put(pop, kind, artifact, signed).await;
    let outcome = if swapped.is_ok() { "switched" } else { "refused" };
    counter!("obsidian_guest_swaps_total", "guest" => guest, "outcome" => outcome).increment(1);
    match &swapped {
        Ok(swapped) => {
            histogram!("obsidian_guest_swap_seconds").record((swapped.load_ms + swapped.warm_ms) / 1e3);
            tracing::info!(guest, version, %digest, ?swapped, "a guest was exchanged");
        }
        Err(error) => tracing::warn!(guest, version, %digest, %error, "a guest was not exchanged"),
    }
    if swapped.is_ok() && signed.is_some() {
        remember(pop, kind).await?;
    }
    swapped
}

/// Exchanges the current version and the one before, which must still be trusted.
pub(crate) async fn roll_back(pop: &Pop, kind: GuestKind) -> Result<(), SwapError> {
    match kind {
        GuestKind::Shield => pop.guests.shield.roll_back().await,
        GuestKind::Router => pop.guests.router.roll_back().await,
        GuestKind::Drafter => pop.guests.drafter.roll_back().await,
    }
}

async fn remember(pop: &Pop, kind: GuestKind) -> Result<(), SwapError> {
    match kind {
        GuestKind::Shield => pop.guests.shield.remember().await,
        GuestKind::Router => pop.guests.router.remember().await,
        GuestKind::Drafter => pop.guests.drafter.remember().await,
    }
}

async fn put(
    pop: &Pop,
    kind: GuestKind,
    artifact: Verified<Artifact>,
    signed: Option<Signed>,
) -> Result<Swapped, SwapError> {
    let expected = kind.as_str();
    if artifact.name != expected {
        return Err(SwapError::Name { expected, found: artifact.name.clone() });
    }
    match kind {
        GuestKind::Shield => shield(pop, artifact, signed).await,
        GuestKind::Router => router(pop, artifact, signed).await,
        GuestKind::Drafter => drafter(pop, artifact, signed).await,
    }
}

/// A guest that has shown what it can do.
struct Candidate<T> {
    guest: T,
    load: Duration,
    warm: Duration,
}

async fn shield(pop: &Pop, artifact: Verified<Artifact>, signed: Option<Signed>) -> Result<Swapped, SwapError> {
    let seat = &pop.guests.shield;
    let _door = seat.enter()?;
    let running = seat.current();
    let candidate = aside(move || try_out(|| running.guest().successor(&artifact), ShieldSandbox::probe)).await??;
    seat.switch(candidate, signed)
}

async fn router(pop: &Pop, artifact: Verified<Artifact>, signed: Option<Signed>) -> Result<Swapped, SwapError> {
    let seat = &pop.guests.router;
    let _door = seat.enter()?;
    let (running, weights) = (seat.current(), pop.parts.router_weights.text.clone());
    let candidate =
        aside(move || try_out(|| running.guest().successor(&artifact), |router| router.probe(&weights))).await??;
    seat.switch(candidate, signed)
}

async fn drafter(pop: &Pop, artifact: Verified<Artifact>, signed: Option<Signed>) -> Result<Swapped, SwapError> {
    let seat = &pop.guests.drafter;
    let _door = seat.enter()?;
    let running = seat.current();
    let predecessor = running.clone();
    // Its sandboxes have threads of their own, so only loading needs one.
    let loaded = aside(move || try_out(|| predecessor.guest().successor(&artifact), |_| Ok(()))).await??;
    let begun = Instant::now();
    loaded.guest.probe(running.guest()).await?;
    seat.switch(Candidate { warm: begun.elapsed(), ..loaded }, signed)
}

fn try_out<T>(
    load: impl FnOnce() -> Result<T, SandboxError>,
    probe: impl FnOnce(&T) -> Result<(), SandboxError>,
) -> Result<Candidate<T>, SandboxError> {
    let begun = Instant::now();
    let guest = load()?;
    let load = begun.elapsed();
    probe(&guest)?;
    Ok(Candidate { guest, load, warm: begun.elapsed() - load })
}

/// Runs `job` on a thread of its own: compiling would hold up the compute pool, and guests must not run on tokio's
/// workers.
async fn aside<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, SwapError> {
    let (reply, done) = oneshot::channel();
    std::thread::Builder::new()
        .name("obsidian-swap".to_owned())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(move || {
            // Whoever asked may have left.
            let _ = reply.send(job());
        })
        .map_err(|error| SwapError::Thread(error.to_string()))?;
    done.await.map_err(|_| SwapError::Thread("its thread panicked".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::GuestKind;

    #[test]
    fn names_lead_back_to_their_guests() {
        for kind in GuestKind::ALL {
            assert_eq!(GuestKind::find(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(GuestKind::find("hostile_shield"), None);
    }
}
