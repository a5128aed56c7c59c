//! A first call of each kind to a guest that is about to serve: it warms the code up, and shows whether the guest
//! does what its contract says. What a guest gets wrong here it gets wrong before anybody relies on it.

use obsidian_router::{RouteMessage, Surroundings};
use obsidian_shield::{MaskedFields, ShieldKey, Vault};
use obsidian_types::{Message, Role, Sampling, TokenId};

use crate::drafter::Drafter;
use crate::error::{Refusal, SandboxError};
use crate::router::RouterSandbox;
use crate::shield::ShieldSandbox;

/// Values of several kinds, one of them twice, and a text with none.
const TEXTS: [&str; 3] = [
    "Write to alice.miller@example.com or call +1 415 555 0142; her server is 192.0.2.17.",
    "IBAN DE89 3704 0044 0532 0130 00, card 4111 1111 1111 1111, and again alice.miller@example.com",
    "Nothing to hide here: grün, 漢字, 🙂.",
];
/// Bytes that a restorer is given at a time: cuts every placeholder.
const PIECE_BYTES: usize = 7;
const QUESTION: &str = "Which way to the station?";
/// Tokens drafted.
const WINDOW: u32 = 8;
/// As most people ask: scores and noise must both agree.
const TEMPERATURE: f32 = 0.8;

impl ShieldSandbox {
    /// Masks texts and restores them piece by piece, and compares with the shield that is linked natively.
    ///
    /// # Errors
    /// [`SandboxError::Contract`] for another result, or the sandbox's failure.
    pub fn probe(&self) -> Result<(), SandboxError> {
        let fields = TEXTS.map(str::to_owned);
        let key = ShieldKey::derive(&[0x5a; 32], "probe");
        let masked = self.mask(&fields, &key)?;
        if !obsidian_shield::mask(&fields, &key).is_ok_and(|native| same(&native, &masked)) {
            return Err(self.broken("a shield masks what the shield linked natively masks"));
        }
        let mut restorer = self.restorer(&masked.vault)?;
        let mut restored = Vec::new();
        for piece in masked.fields.concat().as_bytes().chunks(PIECE_BYTES) {
            restored.extend(restorer.push(piece)?);
        }
        restored.extend(restorer.finish()?);
        if restored != fields.concat().as_bytes() {
            return Err(self.broken("a shield restores what it has masked"));
        }
        Ok(())
    }
}

fn same(native: &MaskedFields, other: &MaskedFields) -> bool {
    let pairs = |vault: &Vault| {
        let pairs = vault.replacements().iter();
        pairs.map(|pair| (pair.placeholder.clone(), pair.original.expose().to_owned())).collect::<Vec<_>>()
    };
    native.fields == other.fields && pairs(&native.vault) == pairs(&other.vault)
}

impl RouterSandbox {
    /// Decides about two conversations with the node's own weights. What comes back is checked as ever.
    ///
    /// # Errors
    /// As [`RouterSandbox::decide`].
    pub fn probe(&self, weights: &str) -> Result<(), SandboxError> {
        let message = |role: &str, content: &str| RouteMessage { role: role.to_owned(), content: content.to_owned() };
        let short = [message("user", QUESTION)];
        let long = [message("system", "Be brief."), message("user", TEXTS[2]), message("assistant", QUESTION)];
        self.decide(&short, &surroundings(1, true), weights)?;
        self.decide(&long, &surroundings(2, false), weights)?;
        Ok(())
    }
}

fn surroundings(turns: u32, hub: bool) -> Surroundings {
    Surroundings {
        prompt_tokens: 32,
        max_tokens: 128,
        turns,
        masked_values: 0,
        edge_load: 0.25,
        edge_ready: true,
        hub_ready: hub,
        core_ready: false,
        edge_allowed: true,
        hub_allowed: hub,
        core_allowed: false,
        edge_context: 2_048,
        hub_context: 4_096,
    }
}

impl Drafter {
    /// Renders and drafts, and compares with `running`, which has the same model: both must describe it alike, and the
    /// one arithmetic leaves no room for other tokens. A `running` that fails is not compared with.
    ///
    /// # Errors
    /// [`SandboxError::Contract`] for another description or other tokens, or the sandbox's failure.
    pub async fn probe(&self, running: &Self) -> Result<(), SandboxError> {
        if self.info() != running.info() {
            return Err(self.broken("a successor describes its model as its predecessor does"));
        }
        let prompt = self.question().await?;
        if running.question().await.is_ok_and(|expected| expected != prompt) {
            return Err(self.broken("a successor renders and tokenises as its predecessor does"));
        }
        let ids = self.continued(&prompt).await?;
        if running.continued(&prompt).await.is_ok_and(|expected| expected != ids) {
            return Err(self.broken("a successor drafts as its predecessor does"));
        }
        Ok(())
    }

    /// A question as the model sees it; as bare text if its chat template refuses it.
    async fn question(&self) -> Result<Vec<TokenId>, SandboxError> {
        match self.render(&[Message::new(Role::User, QUESTION)], &[]).await {
            Err(SandboxError::Refused(Refusal::Template(_))) => self.tokenize_prompt(QUESTION).await,
            rendered => rendered,
        }
    }

    async fn continued(&self, prompt: &[TokenId]) -> Result<Vec<TokenId>, SandboxError> {
        let sampling = Sampling { temperature: TEMPERATURE, seed: 7, ..Sampling::default() };
        let answer_start = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let mut session = self.open(sampling, answer_start).await?;
        session.feed(prompt).await?;
        let ids = session.draft(WINDOW).await?;
        self.detokenize(&ids).await?;
        Ok(ids)
    }

    fn broken(&self, rule: &'static str) -> SandboxError {
        SandboxError::Contract { guest: self.version().name.clone(), rule }
    }
}

#[cfg(test)]
mod tests {
    use obsidian_shield::ShieldKey;

    use super::TEXTS;

    #[test]
    fn there_is_something_to_mask() {
        let masked = obsidian_shield::mask(&TEXTS.map(str::to_owned), &ShieldKey::derive(&[0x5a; 32], "probe"));
        assert_eq!(masked.expect("short").vault.len(), 5);
    }
}
