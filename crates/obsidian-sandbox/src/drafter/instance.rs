//! One live drafter sandbox: the store, the guest and its sessions. Used by one thread.

use std::collections::HashMap;
use std::time::Duration;

use obsidian_types::{Message, PromptText, Sampling, TokenId, Tool};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::scored::{Candidate, MAX_TOKEN_BYTES, ScoredToken};
use crate::call::{Alive, call, quoted};
use crate::engine::Lane;
use crate::error::{Refusal, SandboxError};
use crate::state::{Limits, State};
use crate::weights::{Attachments, WeightFile};

use bindings::exports::obsidian::edge::drafting;

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit", world: "drafter" });
}

pub(super) use bindings::DrafterPre;
pub(super) use drafting::Findings;
pub(super) use drafting::ModelInfo as GuestModelInfo;
pub(super) use drafting::ToolForm as GuestToolForm;

/// What a chat template is told, on its way to the guest.
#[derive(Clone)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<Tool>,
    /// Seconds since 1970.
    pub(super) now_seconds: Option<u64>,
}

impl Conversation {
    fn to_guest(&self) -> drafting::Conversation {
        let text = |text: &PromptText| text.expose().to_owned();
        let turn = |message: &Message| drafting::Turn {
            role: message.role.as_str().to_owned(),
            content: text(&message.content),
            name: message.name.as_ref().map(text),
            tool_calls: message
                .tool_calls
                .iter()
                .map(|call| drafting::ToolCall {
                    id: text(&call.id),
                    name: text(&call.name),
                    arguments: text(&call.arguments),
                })
                .collect(),
            tool_call_id: message.tool_call_id.as_ref().map(text),
        };
        let tool = |tool: &Tool| drafting::Tool {
            name: text(&tool.name),
            description: tool.description.as_ref().map(text),
            parameters: text(&tool.parameters),
            strict: tool.strict,
        };
        drafting::Conversation {
            turns: self.messages.iter().map(turn).collect(),
            tools: self.tools.iter().map(tool).collect(),
            now_seconds: self.now_seconds,
        }
    }
}

/// Names a session within one instance.
pub(super) type SessionNumber = u64;

/// A drafter that has loaded its model.
pub(super) struct Instance {
    /// Present until drop.
    store: Option<Store<State>>,
    guest: bindings::Drafter,
    name: String,
    limits: Limits,
    sessions: HashMap<SessionNumber, ResourceAny>,
    _alive: Alive,
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(store) = self.store.take()
            && store.data().attachments.as_ref().is_some_and(Attachments::is_broken)
        {
            // Unmapping this memory could unmap someone else's: keep the address range for ever.
            std::mem::forget(store);
        }
    }
}

impl Instance {
    /// Instantiates the guest, attaches the weights and loads the model, of which `known` was found before.
    pub(super) fn start(
        name: &str,
        lane: &Lane,
        guest: &DrafterPre<State>,
        weights: &WeightFile,
        known: Option<&Findings>,
    ) -> Result<(Self, GuestModelInfo), SandboxError> {
        let limits = lane.limits;
        let attachments = Attachments::new(weights.clone());
        let mut store = State::store(&lane.engine, limits, Some(attachments));
        let guest = call(name, limits, &mut store, |store| guest.instantiate(store))?;
        let mut instance = Self {
            store: Some(store),
            guest,
            name: name.to_owned(),
            limits,
            sessions: HashMap::new(),
            _alive: Alive::new(name),
        };
        let info = instance.call(|guest, store| guest.call_load(store, known))?;
        Ok((instance, info.map_err(refusal)?))
    }

    /// What loading found.
    pub(super) fn survey(&mut self) -> Result<Findings, SandboxError> {
        self.call(|guest, store| guest.call_survey(store))
    }

    /// Time spent attaching weights.
    pub(super) fn attach_time(&self) -> Duration {
        let store = self.store.as_ref();
        let attachments = store.and_then(|store| store.data().attachments.as_ref());
        attachments.map_or(Duration::ZERO, Attachments::elapsed)
    }

    /// Linear memory, attached weights included.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.data().memory_bytes())
    }

    /// Sessions open.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn render(&mut self, conversation: &Conversation) -> Result<Vec<TokenId>, SandboxError> {
        let conversation = conversation.to_guest();
        self.refusable(|guest, store| guest.call_render(store, &conversation))
    }

    pub(super) fn tokenize_prompt(&mut self, text: &str) -> Result<Vec<TokenId>, SandboxError> {
        self.call(|guest, store| guest.call_tokenize_prompt(store, text))
    }

    pub(super) fn tokenize(&mut self, text: &str) -> Result<Vec<TokenId>, SandboxError> {
        self.call(|guest, store| guest.call_tokenize(store, text))
    }

    pub(super) fn detokenize(&mut self, ids: &[TokenId]) -> Result<Vec<u8>, SandboxError> {
        self.refusable(|guest, store| guest.call_detokenize(store, ids))
    }

    pub(super) fn open(
        &mut self,
        number: SessionNumber,
        sampling: &Sampling,
        answer_start: u32,
    ) -> Result<(), SandboxError> {
        let sampling = drafting::Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            seed: sampling.seed,
            choice: sampling.choice,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            logit_bias: sampling.logit_bias.to_vec(),
        };
        let session = self.call(|guest, store| guest.session().call_constructor(store, &sampling, answer_start))?;
        self.sessions.insert(number, session);
        Ok(())
    }

    pub(super) fn close(&mut self, number: SessionNumber) -> Result<(), SandboxError> {
        let Some(session) = self.sessions.remove(&number) else {
            return Ok(());
        };
        self.call(|_, store| session.resource_drop(store))
    }

    pub(super) fn feed(&mut self, number: SessionNumber, ids: &[TokenId]) -> Result<(), SandboxError> {
        let session = self.session(number)?;
        self.refusable(|guest, store| guest.session().call_feed(store, session, ids))
    }

    pub(super) fn truncate(&mut self, number: SessionNumber, length: u32) -> Result<(), SandboxError> {
        let session = self.session(number)?;
        self.refusable(|guest, store| guest.session().call_truncate(store, session, length))
    }

    pub(super) fn length(&mut self, number: SessionNumber) -> Result<u32, SandboxError> {
        let session = self.session(number)?;
        self.call(|guest, store| guest.session().call_length(store, session))
    }

    pub(super) fn logits(&mut self, number: SessionNumber) -> Result<Vec<f32>, SandboxError> {
        let session = self.session(number)?;
        let bits = self.refusable(|guest, store| guest.session().call_logits(store, session))?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    /// Advances all the sessions in one call. Names must be distinct.
    pub(super) fn draft(&mut self, numbers: &[SessionNumber], window: u32) -> Result<Vec<Vec<TokenId>>, SandboxError> {
        let sessions = numbers.iter().map(|number| self.session(*number)).collect::<Result<Vec<_>, _>>()?;
        let drafts = self.refusable(|guest, store| guest.call_draft(store, &sessions, window))?;
        let within = |draft: &Vec<TokenId>| draft.len() <= window as usize;
        if drafts.len() != numbers.len() || !drafts.iter().all(within) {
            return Err(SandboxError::Contract {
                guest: self.name.clone(),
                rule: "draft returns one list for each session, none longer than the window",
            });
        }
        Ok(drafts)
    }

    /// Advances one session and scores every token.
    pub(super) fn draft_scored(
        &mut self,
        number: SessionNumber,
        window: u32,
        alternatives: u8,
    ) -> Result<Vec<ScoredToken>, SandboxError> {
        let session = self.session(number)?;
        let asked = u32::from(alternatives);
        let scored = self.refusable(|guest, store| guest.session().call_draft_scored(store, session, window, asked))?;
        let within = |scored: &drafting::Scored| {
            let mut candidates = scored.alternatives.iter().chain([&scored.token]);
            scored.alternatives.len() <= usize::from(alternatives)
                && candidates.all(|candidate| candidate.bytes.len() <= MAX_TOKEN_BYTES && !candidate.logprob.is_nan())
        };
        if scored.len() > window as usize || !scored.iter().all(within) {
            return Err(SandboxError::Contract {
                guest: self.name.clone(),
                rule: "draft-scored returns no more tokens and alternatives than asked for, each with a number",
            });
        }
        Ok(scored.into_iter().map(ScoredToken::from).collect())
    }

    fn session(&self, number: SessionNumber) -> Result<ResourceAny, SandboxError> {
        let session = self.sessions.get(&number).copied();
        session.ok_or(SandboxError::SessionLost)
    }

    fn refusable<T>(
        &mut self,
        function: impl FnOnce(&drafting::Guest, &mut Store<State>) -> wasmtime::Result<Result<T, drafting::ModelError>>,
    ) -> Result<T, SandboxError> {
        Ok(self.call(function)?.map_err(refusal)?)
    }

    fn call<T>(
        &mut self,
        function: impl FnOnce(&drafting::Guest, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, SandboxError> {
        let Some(store) = self.store.as_mut() else {
            return Err(SandboxError::SessionLost);
        };
        let guest = self.guest.obsidian_edge_drafting();
        call(&self.name, self.limits, store, |store| function(guest, store))
    }
}

impl From<drafting::Scored> for ScoredToken {
    fn from(scored: drafting::Scored) -> Self {
        let candidate = |candidate: drafting::Candidate| Candidate {
            id: candidate.id,
            logprob: candidate.logprob,
            bytes: candidate.bytes,
        };
        Self { token: candidate(scored.token), alternatives: scored.alternatives.into_iter().map(candidate).collect() }
    }
}

fn refusal(error: drafting::ModelError) -> Refusal {
    match error {
        drafting::ModelError::InvalidModel(reason) => Refusal::InvalidModel(reason),
        drafting::ModelError::ContextFull(length) => Refusal::ContextFull(length),
        drafting::ModelError::InvalidToken(id) => Refusal::InvalidToken(id),
        drafting::ModelError::Template(reason) => Refusal::Template(quoted(reason)),
        drafting::ModelError::InvalidUse(reason) => Refusal::InvalidUse(quoted(reason)),
    }
}
