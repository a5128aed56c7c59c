//! From a sealed prompt to sealed token ids, by the draft model's guest; and how long to wait for that
//! guest while its supervisor restarts it.

use std::time::{Duration, Instant};

use metrics::counter;
use obsidian_sandbox::{Refusal, SandboxError};
use obsidian_shield::{Masked, TokenIds};
use obsidian_types::TokenId;

use crate::fault::Fault;
use crate::local::Local;
use crate::pop::Pop;
use crate::shielding::{Shielded, fault_kind};

/// How long a request waits for a draft model that is being restarted.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Applies the chat template (not to raw text), tokenises, and seals the ids.
pub(crate) async fn render(pop: &Pop, local: &Local, shielded: &Shielded) -> Result<Masked<TokenIds>, Fault> {
    let mut patience = Patience::new();
    let ids = loop {
        let prompt = shielded.prompt.get();
        let rendered = match &prompt.raw {
            Some(raw) => local.drafter().tokenize_prompt(raw.expose()).await,
            None => local.drafter().render(&prompt.messages, &prompt.tools).await,
        };
        match rendered {
            Ok(ids) => break ids,
            // Nothing has been promised yet: a client that comes back later does better than a queue here.
            Err(error @ SandboxError::Overloaded { .. }) => return Err(drafter_fault(error)),
            Err(error) => patience.try_again(pop, local, error).await?,
        }
    };
    seal(pop, local, shielded, ids).await
}

/// The ids of text that an upstream said, masked, in the POP's own vocabulary.
pub(crate) async fn tokenize(pop: &Pop, local: &Local, text: &str) -> Result<Vec<TokenId>, Fault> {
    let mut patience = Patience::new();
    loop {
        match local.drafter().tokenize(text).await {
            Ok(ids) => return Ok(ids),
            Err(error) => patience.try_again(pop, local, error).await?,
        }
    }
}

/// Seals ids that came from the sealed prompt (and, going on elsewhere, from the answer so far).
pub(crate) async fn seal(
    pop: &Pop,
    local: &Local,
    shielded: &Shielded,
    ids: Vec<TokenId>,
) -> Result<Masked<TokenIds>, Fault> {
    let decoded = detokenize(pop, local, &ids).await?;
    let (prompt, vault) = (shielded.prompt.clone(), shielded.vault.clone());
    let sealed = pop.parts.pool.run(move || prompt.tokens(ids, &decoded, &vault)).await;
    match sealed {
        Ok(Ok(sealed)) => Ok(sealed),
        Ok(Err(error)) => {
            tracing::warn!(%error, "token ids were not sealed");
            counter!("obsidian_shield_faults_total", "kind" => "unsealed", "step" => "render").increment(1);
            Err(Fault::Shield)
        }
        Err(_) => Err(Fault::Overloaded("the privacy shield")),
    }
}

/// The bytes of token ids.
pub(crate) async fn detokenize(pop: &Pop, local: &Local, ids: &[TokenId]) -> Result<Vec<u8>, Fault> {
    let mut patience = Patience::new();
    loop {
        match local.drafter().detokenize(ids).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => patience.try_again(pop, local, error).await?,
        }
    }
}

/// Decides whether to try a draft model once more.
pub(crate) struct Patience {
    until: Instant,
    deaths: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, deaths: 0 }
    }

    /// Whether to try again; waits a little if so. What kills the guest is tried once more, not twice: it
    /// would take the guest away from everybody again and again.
    pub(crate) async fn again(&mut self, pop: &Pop, local: &Local, error: &SandboxError) -> bool {
        let again = match error {
            SandboxError::Unavailable { .. } | SandboxError::SessionLost | SandboxError::Overloaded { .. } => true,
            SandboxError::Trap { .. }
            | SandboxError::Deadline { .. }
            | SandboxError::Memory { .. }
            | SandboxError::Contract { .. } => {
                counter!("obsidian_drafter_faults_total", "kind" => fault_kind(error)).increment(1);
                self.deaths += 1;
                self.deaths < 2
            }
            SandboxError::Refused(_)
            | SandboxError::Artifact { .. }
            | SandboxError::Weights(_)
            | SandboxError::Engine(_) => false,
        };
        if !again || Instant::now() >= self.until {
            return false;
        }
        local.note_fault(pop, error);
        tokio::time::sleep(PAUSE).await;
        true
    }

    /// The same where giving up ends the request.
    async fn try_again(&mut self, pop: &Pop, local: &Local, error: SandboxError) -> Result<(), Fault> {
        if self.again(pop, local, &error).await {
            return Ok(());
        }
        local.note_last_fault(pop, &error);
        Err(drafter_fault(error))
    }
}

/// What the client is told when the draft model cannot do its part.
pub(crate) fn drafter_fault(error: SandboxError) -> Fault {
    match error {
        SandboxError::Overloaded { .. } => Fault::Overloaded("the draft model"),
        SandboxError::Refused(Refusal::Template(_)) => Fault::Template,
        other => Fault::Model(other.to_string()),
    }
}
