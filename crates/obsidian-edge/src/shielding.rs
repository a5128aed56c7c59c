//! The shield's steps in the pipeline, and its fault rule: the sandbox, else the same shield linked
//! natively, else 503. There is no path on which raw text goes on: only a sealed prompt leaves [`mask`].

use std::sync::Arc;

use metrics::counter;
use obsidian_sandbox::{Generation, Refusal, SandboxError, SandboxRestorer, ShieldSandbox};
use obsidian_shield::{Masked, MaskedFields, Prompt, Restorer, ShieldKey, Vault};
use obsidian_types::limits::MAX_TEXT_LEAVES;
use obsidian_types::{ChatRequest, Input};

use crate::account::Account;
use crate::fault::Fault;
use crate::guests::Seated;
use crate::pop::Pop;
use crate::sanitise::SanitiseError;

/// A request that may be shown to the other guests and to the hub.
pub(crate) struct Shielded {
    /// The sealed prompt.
    pub(crate) prompt: Arc<Masked<Prompt>>,
    /// The way back to the originals; never leaves the POP.
    pub(crate) vault: Arc<Vault>,
    /// The version of the shield that masked, and so restores; `None` if the sandbox failed and the native one did.
    pub(crate) shield: Option<Arc<Generation<Seated<ShieldSandbox>>>>,
}

impl Shielded {
    /// Tells the account when the sandbox failed.
    pub(crate) fn note_fault(&self, account: &Account) {
        if self.shield.is_none() {
            account.degrade("shield", "native");
        }
    }
}

/// Masks every text leaf of the request and seals the result.
pub(crate) async fn mask(pop: &Pop, request: &ChatRequest) -> Result<Shielded, Fault> {
    let work = Arc::new(Work::of(pop, request)?);
    let shield = pop.guests.shield.current();
    let (sandbox, job) = (shield.clone(), work.clone());
    let sandboxed = pop
        .parts
        .pool
        .run(move || {
            let masked = sandbox.guest().mask(&job.fields, &job.key)?;
            Ok(job.seal(masked))
        })
        .await
        .unwrap_or_else(|error| Err(error.into()));
    let kind = match sandboxed {
        Ok(Some((prompt, vault))) => {
            pop.shield_health.note(true);
            return Ok(Shielded { prompt, vault, shield: Some(shield) });
        }
        Err(SandboxError::Refused(Refusal::Mask(error))) => return Err(Fault::Mask(error)),
        Err(SandboxError::Overloaded { .. }) => return Err(Fault::Overloaded("the privacy shield")),
        Ok(None) => {
            pop.guests.shield.note_fault(&shield);
            "invalid"
        }
        Err(error) => {
            tracing::warn!(%error, "shield sandbox failed, masking natively");
            pop.guests.shield.note_sandbox_fault(&shield, &error);
            fault_kind(&error)
        }
    };
    counter!("obsidian_shield_faults_total", "kind" => kind, "step" => "mask").increment(1);
    pop.shield_health.note(false);
    let native =
        pop.parts.pool.run(move || obsidian_shield::mask(&work.fields, &work.key).map(|masked| work.seal(masked)));
    match native.await {
        Ok(Ok(Some((prompt, vault)))) => Ok(Shielded { prompt, vault, shield: None }),
        Ok(Err(error)) => Err(Fault::Mask(error)),
        Ok(Ok(None)) | Err(_) => Err(Fault::Shield),
    }
}

/// What one mask call works on.
struct Work {
    /// Not masked yet; never leaves this step.
    prompt: Prompt,
    /// The prompt's, then the client's labels: those are masked like the rest (a value found there is masked
    /// everywhere) and sent nowhere.
    fields: Vec<String>,
    key: ShieldKey,
}

impl Work {
    fn of(pop: &Pop, request: &ChatRequest) -> Result<Self, Fault> {
        let tenant_key = pop.tenants.tenant_key(&request.tenant);
        let (messages, raw) = match &request.input {
            Input::Chat(messages) => (messages.clone(), None),
            Input::Raw(text) => (Vec::new(), Some(text.clone())),
        };
        let prompt = Prompt {
            messages,
            raw,
            tools: request.tools.clone(),
            tool_choice: request.tool_choice.clone(),
            parallel_tool_calls: request.parallel_tool_calls,
            stop: request.stop.clone(),
            user: request.user.clone(),
        };
        let labels = request.metadata.iter().flat_map(|(key, value)| [key, value]);
        let mut fields = prompt.fields();
        fields.extend(labels.map(|label| label.expose().to_owned()));
        if fields.len() > MAX_TEXT_LEAVES {
            return Err(Fault::Sanitise(SanitiseError::TooManyTexts { count: fields.len() }));
        }
        Ok(Self { prompt, fields, key: ShieldKey::derive(&tenant_key, request.conversation.as_str()) })
    }

    /// Seals what a shield returned. None if it cannot be trusted: a field lost or changed, or personal
    /// data still there.
    fn seal(&self, masked: MaskedFields) -> Option<(Arc<Masked<Prompt>>, Arc<Vault>)> {
        if masked.fields.len() != self.fields.len() {
            return None;
        }
        // A guest may replace values, nothing else: restoring must give back every byte.
        let same = |(masked_field, field): (&String, &String)| {
            masked.vault.restore(masked_field.as_bytes()) == field.as_bytes()
        };
        if !masked.fields.iter().zip(&self.fields).all(same) {
            return None;
        }
        let vault = masked.vault;
        let prompt = self.prompt.clone().with_fields(masked.fields)?;
        match vault.seal(prompt) {
            Ok(prompt) => Some((Arc::new(prompt), Arc::new(vault))),
            Err(error) => {
                tracing::warn!(%error, "a masked request was not sealed");
                None
            }
        }
    }
}

/// Puts the originals back into the stream, in the sandbox while that works.
pub(crate) struct Restoring {
    vault: Arc<Vault>,
    /// Whose restorer it is, while that works.
    shield: Option<Arc<Generation<Seated<ShieldSandbox>>>>,
    restorer: Option<AnyRestorer>,
    /// All masked bytes so far, to begin again natively if the sandbox fails; bounded by the answer.
    pushed: Vec<u8>,
    returned: usize,
}

enum AnyRestorer {
    Sandbox(SandboxRestorer),
    Native(Restorer),
}

/// What comes next in the stream.
#[derive(Clone, Copy)]
enum Step {
    Push,
    Finish,
}

impl Restoring {
    /// A restorer for one answer, in a sandbox of the version that masked; natively if `shield` is `None`.
    pub(crate) fn new(vault: Arc<Vault>, shield: Option<Arc<Generation<Seated<ShieldSandbox>>>>) -> Self {
        let restorer = shield.is_none().then(|| AnyRestorer::Native(Restorer::new(&vault)));
        Self { vault, shield, restorer, pushed: Vec::new(), returned: 0 }
    }

    /// Whether the sandbox failed, here or before.
    pub(crate) fn is_native(&self) -> bool {
        self.shield.is_none()
    }

    /// Takes masked bytes, returns restored ones.
    pub(crate) async fn push(&mut self, pop: &Pop, bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.step(pop, Step::Push, bytes).await
    }

    /// Returns what was held back.
    pub(crate) async fn finish(&mut self, pop: &Pop) -> Result<Vec<u8>, Fault> {
        self.step(pop, Step::Finish, Vec::new()).await
    }

    async fn step(&mut self, pop: &Pop, step: Step, bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.pushed.extend_from_slice(&bytes);
        // With nothing masked, or nothing said, there is nothing to restore: no sandbox is entered for it.
        if self.vault.is_empty() || self.pushed.is_empty() {
            return Ok(bytes);
        }
        if let Some(shield) = self.shield.clone() {
            match self.sandboxed(pop, &shield, step, bytes).await {
                Ok(restored) => {
                    self.returned += restored.len();
                    return Ok(restored);
                }
                Err(error) => {
                    tracing::warn!(%error, "shield sandbox failed, restoring natively");
                    counter!("obsidian_shield_faults_total", "kind" => fault_kind(&error), "step" => "restore")
                        .increment(1);
                    pop.shield_health.note(false);
                    pop.guests.shield.note_sandbox_fault(&shield, &error);
                    self.shield = None;
                    return Ok(self.begin_again(step));
                }
            }
        }
        let Some(AnyRestorer::Native(native)) = &mut self.restorer else {
            return Err(Fault::Internal);
        };
        Ok(match step {
            Step::Push => native.push(&bytes),
            Step::Finish => native.finish(),
        })
    }

    async fn sandboxed(
        &mut self,
        pop: &Pop,
        shield: &Arc<Generation<Seated<ShieldSandbox>>>,
        step: Step,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, SandboxError> {
        let (shield, vault) = (shield.clone(), self.vault.clone());
        let running = self.restorer.take();
        let job = move || {
            let mut restorer = match running {
                Some(AnyRestorer::Sandbox(restorer)) => restorer,
                _ => shield.guest().restorer(&vault)?,
            };
            Ok::<_, SandboxError>(match step {
                Step::Push => {
                    let restored = restorer.push(&bytes)?;
                    (Some(AnyRestorer::Sandbox(restorer)), restored)
                }
                Step::Finish => (None, restorer.finish()?),
            })
        };
        let (restorer, restored) = pop.parts.pool.run(job).await??;
        self.restorer = restorer;
        Ok(restored)
    }

    /// The same bytes through the native restorer, less what the client has already.
    fn begin_again(&mut self, step: Step) -> Vec<u8> {
        let mut native = Restorer::new(&self.vault);
        let mut restored = native.push(&self.pushed);
        if matches!(step, Step::Finish) {
            restored.extend(native.finish());
        }
        self.restorer = Some(AnyRestorer::Native(native));
        restored.split_off(self.returned.min(restored.len()))
    }
}

/// A short stable name for metrics.
pub(crate) fn fault_kind(error: &SandboxError) -> &'static str {
    match error {
        SandboxError::Trap { .. } => "trap",
        SandboxError::Deadline { .. } => "deadline",
        SandboxError::Memory { .. } => "memory",
        SandboxError::Overloaded { .. } => "overloaded",
        SandboxError::Contract { .. } => "contract",
        SandboxError::Refused(_) => "refused",
        SandboxError::Unavailable { .. } => "unavailable",
        SandboxError::SessionLost => "session_lost",
        SandboxError::Artifact { .. } => "artifact",
        SandboxError::Weights(_) => "weights",
        SandboxError::Engine(_) => "engine",
    }
}
