//! The way of an answer's bytes to the client: restore, stop strings, whole characters, then the channel.

use std::sync::Arc;
use std::time::Duration;

use obsidian_shield::Vault;
use obsidian_types::PromptText;
use obsidian_types::limits::STREAM_STALL_MS;
use tokio::sync::mpsc;

use crate::account::Account;
use crate::fault::Fault;
use crate::outcome::{Event, Start};
use crate::pop::Pop;
use crate::shielding::Restoring;
use crate::text_gate::{Passed, TextGate};

/// One answer on its way out.
pub(crate) struct Answer {
    restoring: Restoring,
    gate: TextGate,
    events: mpsc::Sender<Event>,
    started: bool,
}

impl Answer {
    /// An answer that ends before any of `stop`.
    pub(crate) fn new(stop: &[PromptText], vault: Arc<Vault>, events: mpsc::Sender<Event>) -> Self {
        Self {
            restoring: Restoring::new(vault),
            gate: TextGate::new(stop.iter().map(PromptText::expose)),
            events,
            started: false,
        }
    }

    /// Takes masked bytes; says whether a stop string was met.
    pub(crate) async fn push(
        &mut self,
        pop: &Pop,
        account: &mut Account,
        model: &str,
        bytes: Vec<u8>,
    ) -> Result<bool, Fault> {
        let restored = self.restoring.push(pop, bytes).await?;
        let passed = self.gate.push(&restored);
        self.send(account, model, passed).await
    }

    /// Lets go of what was held back. An answer without any text begins here.
    pub(crate) async fn finish(&mut self, pop: &Pop, account: &mut Account, model: &str) -> Result<(), Fault> {
        let rest = self.restoring.finish(pop).await?;
        let passed = self.gate.push(&rest);
        self.send(account, model, passed).await?;
        let passed = self.gate.finish();
        self.send(account, model, passed).await?;
        self.start(account, model).await
    }

    async fn send(&mut self, account: &mut Account, model: &str, passed: Passed) -> Result<bool, Fault> {
        if self.restoring.native {
            account.degrade("shield", "native");
        }
        if !passed.text.is_empty() {
            self.start(account, model).await?;
            self.event(Event::Text(PromptText::from(passed.text))).await?;
        }
        Ok(passed.stopped)
    }

    async fn start(&mut self, account: &mut Account, model: &str) -> Result<(), Fault> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        account.first_token();
        let start = Start { route: account.route(), reason: account.reason().to_owned(), model: model.to_owned() };
        self.event(Event::Start(start)).await
    }

    /// Waits for room in the channel: a slow client slows its own pipeline down and nothing else.
    async fn event(&mut self, event: Event) -> Result<(), Fault> {
        let patience = Duration::from_millis(STREAM_STALL_MS);
        match tokio::time::timeout(patience, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Fault::ClientGone),
        }
    }
}
