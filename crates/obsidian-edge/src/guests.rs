//! The POP's own guests, and how a version of one takes the place of another while requests run.
//!
//! Verified before it comes here, a candidate is loaded and called once on a thread of its own, and only then does it
//! take over: new work begins on it, what has begun ends where it began. If anything fails on the way, nothing has
//! changed. The version before stays ready for [`rollback`], and comes back by itself when a candidate faults again
//! and again. Start at [`swap`].

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use metrics::{counter, histogram};
use obsidian_registry::{Artifact, Verified};
use obsidian_sandbox::{
    Drafter, Generation, Generations, GuestVersion, RouterSandbox, SandboxError, ShieldSandbox, StillDraining,
};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard, oneshot};

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
}

/// The place of one guest.
pub(crate) struct Seat<T> {
    kind: GuestKind,
    generations: Generations<T>,
    /// Held while a candidate is prepared.
    door: Mutex<()>,
}

impl<T> Seat<T> {
    fn new(kind: GuestKind, guest: T) -> Self {
        Self { kind, generations: Generations::new(guest), door: Mutex::new(()) }
    }

    /// The version that new work begins on. Keep it until the work is over.
    pub(crate) fn current(&self) -> Arc<Generation<T>> {
        self.generations.current()
    }

    /// Notes an error of the sandbox, if the guest is to blame.
    pub(crate) fn note_sandbox_fault(&self, generation: &Arc<Generation<T>>, error: &SandboxError) {
        if is_own_fault(error) {
            self.note_fault(generation);
        }
    }

    /// Notes a fault of the guest; one too many takes it back.
    pub(crate) fn note_fault(&self, generation: &Arc<Generation<T>>) {
        if let Some(back) = self.generations.note_fault(generation, Instant::now()) {
            let guest = self.kind.as_str();
            counter!("obsidian_guest_rollbacks_total", "guest" => guest, "by" => "faults").increment(1);
            let (faulty, generation) = (generation.number(), back.number());
            tracing::error!(guest, faulty, generation, "a guest faulted again and again and was taken back");
        }
    }

    fn enter(&self) -> Result<MutexGuard<'_, ()>, SwapError> {
        self.door.try_lock().map_err(|_| SwapError::Busy(self.kind.as_str()))
    }

    fn switch(&self, candidate: Candidate<T>) -> Result<Swapped, SwapError> {
        let Candidate { guest, load, warm } = candidate;
        let begun = Instant::now();
        let current = self.generations.switch(guest)?;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Swapped {
            generation: current.number(),
            load_ms: milliseconds(load),
            warm_ms: milliseconds(warm),
            switch_us: begun.elapsed().as_secs_f64() * 1e6,
        })
    }

    fn rollback(&self) -> Result<(), SwapError> {
        let guest = self.kind.as_str();
        let back = self.generations.rollback().ok_or(SwapError::NothingBefore(guest))?;
        counter!("obsidian_guest_rollbacks_total", "guest" => guest, "by" => "operator").increment(1);
        tracing::info!(guest, generation = back.number(), "a guest was rolled back");
        Ok(())
    }

    fn report(&self, version: impl Fn(&T) -> GuestVersion) -> GuestReport {
        let now = Instant::now();
        let describe = |generation: &Generation<T>| {
            let GuestVersion { version, digest, .. } = version(generation.guest());
            let since = generation.since().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            VersionReport {
                generation: generation.number(),
                version,
                digest: digest.to_string(),
                since,
                faults: generation.faults(now),
            }
        };
        GuestReport {
            kind: self.kind,
            current: describe(&self.current()),
            previous: self.generations.previous().map(|previous| describe(&previous)),
            draining: self.generations.draining(),
        }
    }
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
    pub(crate) shield: Seat<ShieldSandbox>,
    pub(crate) router: Seat<RouterSandbox>,
    pub(crate) drafter: Seat<Drafter>,
}

impl Guests {
    pub(crate) fn new(shield: ShieldSandbox, router: RouterSandbox, drafter: Drafter) -> Self {
        Self {
            shield: Seat::new(GuestKind::Shield, shield),
            router: Seat::new(GuestKind::Router, router),
            drafter: Seat::new(GuestKind::Drafter, drafter),
        }
    }

    /// How each guest stands.
    pub(crate) fn report(&self) -> Vec<GuestReport> {
        vec![
            self.shield.report(|shield| shield.version().clone()),
            self.router.report(|router| router.version().clone()),
            self.drafter.report(|drafter| drafter.version().clone()),
        ]
    }

    /// Exchanges the current version and the one before.
    pub(crate) fn rollback(&self, kind: GuestKind) -> Result<(), SwapError> {
        match kind {
            GuestKind::Shield => self.shield.rollback(),
            GuestKind::Router => self.router.rollback(),
            GuestKind::Drafter => self.drafter.rollback(),
        }
    }
}

/// Puts `artifact` in the place of the guest that serves now. Compiling takes seconds where no compiled code is at
/// hand; requests go on meanwhile.
pub(crate) async fn swap(pop: &Pop, kind: GuestKind, artifact: Verified<Artifact>) -> Result<Swapped, SwapError> {
    let guest = kind.as_str();
    let (version, digest) = (artifact.version.clone(), artifact.digest());
    let swapped = if artifact.name == guest {
        match kind {
            GuestKind::Shield => shield(pop, artifact).await,
            GuestKind::Router => router(pop, artifact).await,
            GuestKind::Drafter => drafter(pop, artifact).await,
        }
    } else {
        Err(SwapError::Name { expected: guest, found: artifact.name.clone() })
    };
    let outcome = if swapped.is_ok() { "switched" } else { "refused" };
    counter!("obsidian_guest_swaps_total", "guest" => guest, "outcome" => outcome).increment(1);
    match &swapped {
        Ok(swapped) => {
            histogram!("obsidian_guest_swap_seconds").record((swapped.load_ms + swapped.warm_ms) / 1e3);
            tracing::info!(guest, version, %digest, ?swapped, "a guest was exchanged");
        }
        Err(error) => tracing::warn!(guest, version, %digest, %error, "a guest was not exchanged"),
    }
    swapped
}

/// A guest that has shown what it can do.
struct Candidate<T> {
    guest: T,
    load: Duration,
    warm: Duration,
}

async fn shield(pop: &Pop, artifact: Verified<Artifact>) -> Result<Swapped, SwapError> {
    let seat = &pop.guests.shield;
    let _door = seat.enter()?;
    let running = seat.current();
    let candidate = aside(move || try_out(|| running.guest().successor(&artifact), ShieldSandbox::probe)).await??;
    seat.switch(candidate)
}

async fn router(pop: &Pop, artifact: Verified<Artifact>) -> Result<Swapped, SwapError> {
    let seat = &pop.guests.router;
    let _door = seat.enter()?;
    let (running, weights) = (seat.current(), pop.parts.router_weights.text.clone());
    let candidate =
        aside(move || try_out(|| running.guest().successor(&artifact), |router| router.probe(&weights))).await??;
    seat.switch(candidate)
}

async fn drafter(pop: &Pop, artifact: Verified<Artifact>) -> Result<Swapped, SwapError> {
    let seat = &pop.guests.drafter;
    let _door = seat.enter()?;
    let running = seat.current();
    let predecessor = running.clone();
    // Its sandboxes have threads of their own, so only loading needs one.
    let loaded = aside(move || try_out(|| predecessor.guest().successor(&artifact), |_| Ok(()))).await??;
    let begun = Instant::now();
    loaded.guest.probe(running.guest()).await?;
    seat.switch(Candidate { warm: begun.elapsed(), ..loaded })
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
