//! The place of one guest: its versions while the POP runs, and what the disk is to remember of them.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use metrics::counter;
use obsidian_sandbox::{Drafter, Generation, Generations, GuestVersion, RouterSandbox, SandboxError, ShieldSandbox};
use tokio::runtime::Handle;

use super::{Candidate, GuestKind, GuestReport, SwapError, Swapped, VersionReport, is_own_fault};
use crate::functions::{ChangeError, Functions, GuestRecord, Signed};

/// A version of a guest, and where the disk has it.
#[derive(Debug)]
pub(crate) struct Seated<T> {
    guest: T,
    /// None for what is inside the binary.
    signed: Option<Signed>,
}

impl<T> Deref for Seated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guest
    }
}

/// What can tell its version.
pub(crate) trait Versioned: Send + Sync + 'static {
    /// Which build it is.
    fn version(&self) -> &GuestVersion;
}

impl Versioned for ShieldSandbox {
    fn version(&self) -> &GuestVersion {
        self.version()
    }
}

impl Versioned for RouterSandbox {
    fn version(&self) -> &GuestVersion {
        self.version()
    }
}

impl Versioned for Drafter {
    fn version(&self) -> &GuestVersion {
        self.version()
    }
}

/// The place of one guest.
pub(crate) struct Seat<T> {
    kind: GuestKind,
    generations: Generations<Seated<T>>,
    /// Held while a candidate is prepared.
    door: tokio::sync::Mutex<()>,
    /// The guest inside the binary.
    embedded: GuestVersion,
    memory: Option<Memory>,
    /// Why a version does not serve, or is not ready, since the start.
    not_restored: Mutex<Option<String>>,
}

/// Where it is written down which version serves.
struct Memory {
    functions: Functions,
    /// Faults are noted on threads of all kinds.
    runtime: Handle,
    /// Held while a record is made and written, so that the last one written is the last one made.
    writing: Mutex<()>,
}

impl<T: Versioned> Seat<T> {
    pub(super) fn new(kind: GuestKind, guest: T, functions: Option<&Functions>) -> Arc<Self> {
        let memory = |functions: &Functions| Memory {
            functions: functions.clone(),
            runtime: Handle::current(),
            writing: Mutex::default(),
        };
        Arc::new(Self {
            kind,
            embedded: guest.version().clone(),
            generations: Generations::new(Seated { guest, signed: None }),
            door: tokio::sync::Mutex::new(()),
            memory: functions.map(memory),
            not_restored: Mutex::default(),
        })
    }

    /// The version that new work begins on. Keep it until the work is over.
    pub(crate) fn current(&self) -> Arc<Generation<Seated<T>>> {
        self.generations.current()
    }

    /// The guest inside the binary.
    pub(super) fn embedded(&self) -> &GuestVersion {
        &self.embedded
    }

    /// Notes an error of the sandbox, if the guest is to blame.
    pub(crate) fn note_sandbox_fault(self: &Arc<Self>, generation: &Arc<Generation<Seated<T>>>, error: &SandboxError) {
        if is_own_fault(error) {
            self.note_fault(generation);
        }
    }

    /// Notes a fault of the guest; one too many takes it back.
    pub(crate) fn note_fault(self: &Arc<Self>, generation: &Arc<Generation<Seated<T>>>) {
        let Some(back) = self.generations.note_fault(generation, Instant::now()) else { return };
        let guest = self.kind.as_str();
        counter!("obsidian_guest_rollbacks_total", "guest" => guest, "by" => "faults").increment(1);
        let (faulty, generation) = (generation.number(), back.number());
        tracing::error!(guest, faulty, generation, "a guest faulted again and again and was taken back");
        if let Some(memory) = &self.memory {
            let seat = self.clone();
            memory.functions.later(&memory.runtime, move || {
                if let Err(error) = seat.write_down() {
                    tracing::error!(guest, %error, "a restart would find the faulty guest again");
                }
            });
        }
    }

    pub(super) fn enter(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, SwapError> {
        self.door.try_lock().map_err(|_| SwapError::Busy(self.kind.as_str()))
    }

    pub(super) fn switch(&self, candidate: Candidate<T>, signed: Option<Signed>) -> Result<Swapped, SwapError> {
        let Candidate { guest, load, warm } = candidate;
        let begun = Instant::now();
        let current = self.generations.switch(Seated { guest, signed })?;
        let switched = begun.elapsed();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Swapped {
            generation: current.number(),
            load_ms: milliseconds(load),
            warm_ms: milliseconds(warm),
            switch_us: switched.as_secs_f64() * 1e6,
        })
    }

    /// Exchanges the current version and the one before, which must still be trusted, and writes it down.
    pub(super) async fn roll_back(self: &Arc<Self>) -> Result<(), SwapError> {
        let guest = self.kind.as_str();
        let before = self.generations.previous().ok_or(SwapError::NothingBefore(guest))?;
        if let (Some(memory), Some(signed)) = (&self.memory, before.guest().signed) {
            // It is ready; but a key may have been revoked since.
            memory.functions.vouch_guest_again(signed).await.map_err(SwapError::Untrusted)?;
        }
        let back = self.step_back()?;
        counter!("obsidian_guest_rollbacks_total", "guest" => guest, "by" => "operator").increment(1);
        tracing::info!(guest, generation = back.number(), "a guest was rolled back");
        self.remember().await
    }

    /// Exchanges the current version and the one before, as they are.
    pub(super) fn step_back(&self) -> Result<Arc<Generation<Seated<T>>>, SwapError> {
        self.generations.rollback().ok_or(SwapError::NothingBefore(self.kind.as_str()))
    }

    /// Writes down which version serves, if there is anywhere to write.
    pub(super) async fn remember(self: &Arc<Self>) -> Result<(), SwapError> {
        if self.memory.is_none() {
            return Ok(());
        }
        let seat = self.clone();
        let written = crate::functions::blocking(move || seat.write_down()).await;
        written.map_err(SwapError::NotRemembered)
    }

    fn write_down(&self) -> Result<(), ChangeError> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let _writing = memory.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = |generation: &Arc<Generation<Seated<T>>>| generation.guest().signed;
        memory.functions.save_guest(
            self.kind.as_str(),
            &GuestRecord {
                current: signed(&self.current()),
                previous: self.generations.previous().as_ref().and_then(signed),
                embedded: self.embedded.digest,
            },
        )?;
        *self.not_restored() = None;
        Ok(())
    }

    /// Keeps a reason why the guest is not as it was before a restart, until it is exchanged again.
    pub(super) fn note_not_restored(&self, reason: &str) {
        let mut reasons = self.not_restored();
        *reasons = Some(reasons.take().map_or_else(|| reason.to_owned(), |first| format!("{first}; {reason}")));
    }

    fn not_restored(&self) -> MutexGuard<'_, Option<String>> {
        self.not_restored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self) -> GuestReport {
        let now = Instant::now();
        let describe = |generation: &Generation<Seated<T>>| {
            let GuestVersion { version, digest, .. } = generation.guest().version();
            let since = generation.since().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            VersionReport {
                generation: generation.number(),
                version: version.clone(),
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
            not_restored: self.not_restored().clone(),
        }
    }
}
