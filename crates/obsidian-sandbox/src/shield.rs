//! The privacy shield in a sandbox: a fresh instance for every request and every response stream.

use obsidian_registry::{Artifact, Verified};
use obsidian_shield::{MaskError, MaskedFields, Replacement, ShieldKey, Vault};
use obsidian_types::PromptText;
use obsidian_types::limits::{MAX_PROMPT_BYTES, MAX_VAULT_VALUES};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use crate::call::{Alive, call};
use crate::engine::{EngineKind, Engines};
use crate::error::{Refusal, SandboxError};
use crate::function::Function;
use crate::generation::GuestVersion;
use crate::state::{Limits, State};

use bindings::exports::obsidian::edge::masking;

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit", world: "shield" });
}

/// A loaded shield. Cloning is cheap; every call runs in an instance of its own.
///
/// Calls compute: make them on the [`ComputePool`](crate::ComputePool), never on tokio's workers.
#[derive(Clone)]
pub struct ShieldSandbox {
    function: Function,
    guest: bindings::ShieldPre<State>,
}

impl ShieldSandbox {
    /// Compiles (or takes from the cache) and links the guest.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if it is no shield or cannot run on this machine.
    pub fn load(engines: &Engines, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        let (function, guest) = Function::load(engines, EngineKind::Function, artifact)?;
        let guest = bindings::ShieldPre::new(guest).map_err(|error| function.unfit(&error))?;
        Ok(Self { function, guest })
    }

    /// Loads another version, on the same engines.
    ///
    /// # Errors
    /// As for the first.
    pub fn successor(&self, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        Self::load(self.function.engines(), artifact)
    }

    /// Which build this is.
    pub fn version(&self) -> &GuestVersion {
        self.function.version()
    }

    pub(crate) fn broken(&self, rule: &'static str) -> SandboxError {
        self.function.broken(rule)
    }

    /// Masks the fields with placeholders derived from `key`. What the guest returned is checked for
    /// form only; whether it masked everything is decided when the prompt is sealed.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] with a [`MaskError`], [`SandboxError::Contract`] if what came back has
    /// not the form of masked fields, or the sandbox's failure.
    pub fn mask(&self, fields: &[String], key: &ShieldKey) -> Result<MaskedFields, SandboxError> {
        let name = self.function.name();
        let limits = self.function.limits();
        let mut store = self.function.store();
        let _alive = Alive::new(name);
        let masked = call(name, limits, &mut store, |store| {
            let guest = self.guest.instantiate(&mut *store)?;
            let masking = guest.obsidian_edge_masking();
            masking.call_mask(store, fields, key.as_bytes())
        });
        let masked = masked?.map_err(|error| self.refusal(&error))?;
        if masked.fields.len() != fields.len() {
            return Err(self.function.broken("mask returns one field for each given"));
        }
        let replacements = masked.replacements.into_iter().map(|replacement| Replacement {
            placeholder: replacement.placeholder,
            original: PromptText::new(replacement.original),
        });
        let vault = Vault::from_parts(replacements.collect())
            .map_err(|_| self.function.broken("replacements have distinct, well-formed placeholders and originals"))?;
        Ok(MaskedFields { fields: masked.fields, vault })
    }

    fn refusal(&self, error: &masking::MaskError) -> SandboxError {
        // The guest's limits are the host's own; what it claims they are is not passed on.
        match error {
            masking::MaskError::TooLarge(_) => {
                let limit = MAX_PROMPT_BYTES;
                Refusal::Mask(MaskError::TooLarge { limit }).into()
            }
            masking::MaskError::TooManyValues(_) => {
                let limit = MAX_VAULT_VALUES;
                Refusal::Mask(MaskError::TooManyValues { limit }).into()
            }
            masking::MaskError::InvalidKey => self.function.broken("a key of 32 bytes is taken"),
        }
    }

    /// Opens a restorer that lives as long as one response stream.
    ///
    /// # Errors
    /// [`SandboxError::Overloaded`] if as many sandboxes live as may, or the sandbox's failure.
    pub fn restorer(&self, vault: &Vault) -> Result<SandboxRestorer, SandboxError> {
        let name = self.function.name();
        let limits = self.function.limits();
        let mut store = self.function.store();
        let replacements: Vec<_> = vault
            .replacements()
            .iter()
            .map(|replacement| masking::Replacement {
                placeholder: replacement.placeholder.clone(),
                original: replacement.original.expose().to_owned(),
            })
            .collect();
        let (guest, restorer) = call(name, limits, &mut store, |store| {
            let guest = self.guest.instantiate(&mut *store)?;
            let restoring = guest.obsidian_edge_restoring().restorer();
            let restorer = restoring.call_constructor(store, &replacements)?;
            Ok((guest, restorer))
        })?;
        Ok(SandboxRestorer { store, guest, restorer, limits, name: name.to_owned(), _alive: Alive::new(name) })
    }
}

/// Puts originals back into one stream, in a sandbox of its own. After an error it must be given up.
pub struct SandboxRestorer {
    store: Store<State>,
    guest: bindings::Shield,
    restorer: ResourceAny,
    limits: Limits,
    name: String,
    _alive: Alive,
}

impl SandboxRestorer {
    /// Takes the next bytes of the stream, returns the bytes that may be sent.
    ///
    /// # Errors
    /// The sandbox's failure.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<u8>, SandboxError> {
        let restoring = self.guest.obsidian_edge_restoring().restorer();
        call(&self.name, self.limits, &mut self.store, |store| restoring.call_push(store, self.restorer, chunk))
    }

    /// Returns what was held back and ends the stream.
    ///
    /// # Errors
    /// The sandbox's failure.
    pub fn finish(mut self) -> Result<Vec<u8>, SandboxError> {
        let restoring = self.guest.obsidian_edge_restoring().restorer();
        call(&self.name, self.limits, &mut self.store, |store| restoring.call_finish(store, self.restorer))
    }
}
