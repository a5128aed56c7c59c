//! `obsidian:functions/chat`: answers of the node's models, where they were granted.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use obsidian_types::limits::{
    MAX_FUNCTION_CHATS, MAX_MESSAGES, MAX_PROMPT_BYTES, MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_TEMPERATURE,
};
use obsidian_types::{FinishReason, Message, PromptText, Role, Sampling};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::bindings::obsidian::functions::chat;
use super::in_flight::OnItsWay;
use crate::functions::origin::Origin;
use crate::functions::output::{LogBudget, write_line};
use crate::functions::services::{ChatCall, ChatError, ChatPiece, ChatStream, LogLevel};
use crate::functions::state::FunctionState;

/// Seconds after which an instance that has too many answers on their way may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An answer on its way.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Answer {
    /// Until the last piece has come.
    coming: Option<(ChatStream, OnItsWay)>,
    /// Not fetched yet; the last stays.
    arrived: Option<Result<ChatPiece, ChatError>>,
    origin: Arc<Origin>,
    log: Arc<LogBudget>,
}

impl Answer {
    async fn next(&mut self) -> Result<ChatPiece, ChatError> {
        self.ready().await;
        match self.arrived.take() {
            Some(Ok(text @ ChatPiece::Text(_))) => Ok(text),
            last => {
                let last = last.unwrap_or_else(|| Err(over()));
                self.arrived = Some(last.clone());
                last
            }
        }
    }

    /// Ends it, if it has not come to its end.
    fn cancel(&mut self) {
        if self.coming.take().is_some() {
            self.arrived = Some(Err(over()));
        }
    }
}

fn over() -> ChatError {
    ChatError::Failed("the request that asked for this answer is over".to_owned())
}

#[async_trait]
impl Pollable for Answer {
    /// Waits until a piece is there. Dropped while it waits, it loses nothing.
    async fn ready(&mut self) {
        if self.arrived.is_some() {
            return;
        }
        let Some((stream, _)) = &mut self.coming else { return };
        let broken = || Err(ChatError::Failed("the answer broke off".to_owned()));
        let piece = stream.next().await.unwrap_or_else(broken);
        if !matches!(piece, Ok(ChatPiece::Text(_))) {
            self.coming = None;
        }
        if let Err(error) = &piece {
            tell(&self.origin, &self.log, error);
        }
        self.arrived = Some(piece);
    }
}

/// The guest may ignore an error; the function's own log has it. No error quotes a message.
fn tell(origin: &Origin, log: &LogBudget, error: &ChatError) {
    write_line(origin, log, LogLevel::Warn, "obsidian", format!("chat: {error}").as_bytes());
}

impl FunctionState {
    /// Asks the service, if the model was granted and there is room.
    fn begin_chat(
        &self,
        model: String,
        messages: Vec<chat::Message>,
        options: chat::Options,
    ) -> Result<Answer, chat::Error> {
        if !self.origin.grants.models.contains(&model) {
            let shown: String = model.chars().take(64).collect();
            return Err(chat::Error::NotGranted(self.deny(&format!("model `{shown}`"))));
        }
        let asked = call(&self.origin, model, messages, options).and_then(|call| {
            let place = self.chats.enter(MAX_FUNCTION_CHATS).ok_or_else(|| ChatError::Busy {
                reason: format!("{MAX_FUNCTION_CHATS} answers are on their way already: read or drop one first"),
                retry_after: RETRY_AFTER_SECONDS,
            })?;
            Ok((self.origin.services.chat.ask(call)?, place))
        });
        let coming = asked.map_err(|error| {
            tell(&self.origin, &self.log, &error);
            told(error)
        })?;
        Ok(Answer { coming: Some(coming), arrived: None, origin: self.origin.clone(), log: self.log.clone() })
    }

    /// Ends the answers that a request has left behind: an instance that is used again takes none along.
    pub(in crate::functions) fn end_chats(&mut self) {
        if self.chats.is_none() {
            return;
        }
        for entry in self.table.iter_mut() {
            let entry: &mut dyn Any = entry;
            if let Some(answer) = entry.downcast_mut::<Answer>() {
                answer.cancel();
            }
        }
    }
}

/// The question as a service takes it: bounded before anybody else looks at it.
fn call(
    origin: &Origin,
    model: String,
    messages: Vec<chat::Message>,
    options: chat::Options,
) -> Result<ChatCall, ChatError> {
    if messages.is_empty() {
        return Err(ChatError::Invalid("a question has at least one message".to_owned()));
    }
    let texts = messages.iter().map(|message| &message.content).chain(&options.stop);
    let bytes: usize = texts.map(String::len).sum();
    if messages.len() > MAX_MESSAGES || bytes > MAX_PROMPT_BYTES {
        let count = messages.len();
        return Err(ChatError::TooLong(format!(
            "{count} messages with {bytes} bytes are more than {MAX_MESSAGES} messages or {MAX_PROMPT_BYTES} bytes: \
             send less history"
        )));
    }
    let wrong = |reason: String| Err(ChatError::Invalid(reason));
    let stop_fits = |stop: &String| (1..=MAX_STOP_BYTES).contains(&stop.len());
    if options.stop.len() > MAX_STOP_STRINGS || !options.stop.iter().all(stop_fits) {
        return wrong(format!("`stop` has at most {MAX_STOP_STRINGS} texts of 1 to {MAX_STOP_BYTES} bytes"));
    }
    if options.max_tokens == Some(0) {
        return wrong("`max-tokens` is at least 1".to_owned());
    }
    let usual = Sampling::default();
    let temperature = options.temperature.unwrap_or(usual.temperature);
    let top_p = options.top_p.unwrap_or(usual.top_p);
    for (name, value, most) in [("temperature", temperature, MAX_TEMPERATURE), ("top-p", top_p, 1.0)] {
        if !(0.0..=most).contains(&value) {
            return wrong(format!("`{name}` is {value}, outside 0 to {most}"));
        }
    }
    Ok(ChatCall {
        function: origin.id.clone(),
        model,
        messages: messages.into_iter().map(|message| Message::new(role(message.role), message.content)).collect(),
        max_tokens: options.max_tokens,
        temperature,
        top_p,
        seed: options.seed.map(i64::cast_unsigned),
        stop: options.stop.into_iter().map(PromptText::from).collect(),
    })
}

fn role(role: chat::Role) -> Role {
    match role {
        chat::Role::System => Role::System,
        chat::Role::User => Role::User,
        chat::Role::Assistant => Role::Assistant,
    }
}

fn told(error: ChatError) -> chat::Error {
    let words = error.to_string();
    match error {
        ChatError::UnknownModel(_) => chat::Error::UnknownModel(words),
        ChatError::Invalid(_) => chat::Error::Invalid(words),
        ChatError::TooLong(_) => chat::Error::TooLong(words),
        ChatError::Busy { retry_after, .. } => chat::Error::Busy(chat::Wait { reason: words, seconds: retry_after }),
        ChatError::Failed(_) => chat::Error::Failed(words),
    }
}

fn piece(piece: ChatPiece) -> chat::Piece {
    let end = match piece {
        ChatPiece::Text(text) => return chat::Piece::Text(text.into_inner()),
        ChatPiece::End(end) => end,
    };
    chat::Piece::End(chat::Summary {
        reason: match end.reason {
            // Nobody offered tools here.
            FinishReason::Stop | FinishReason::ToolCalls => chat::FinishReason::Stop,
            FinishReason::Length => chat::FinishReason::Length,
            FinishReason::ContentFilter => chat::FinishReason::ContentFilter,
        },
        usage: chat::Usage { prompt_tokens: end.usage.prompt_tokens, completion_tokens: end.usage.completion_tokens },
        model: end.model,
    })
}

impl chat::Host for FunctionState {
    async fn ask(
        &mut self,
        model: String,
        messages: Vec<chat::Message>,
        options: chat::Options,
    ) -> wasmtime::Result<Result<Resource<Answer>, chat::Error>> {
        match self.begin_chat(model, messages, options) {
            Ok(answer) => Ok(Ok(self.table.push(answer)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl chat::HostAnswer for FunctionState {
    async fn next(&mut self, answer: Resource<Answer>) -> wasmtime::Result<Result<chat::Piece, chat::Error>> {
        Ok(self.table.get_mut(&answer)?.next().await.map(piece).map_err(told))
    }

    async fn subscribe(&mut self, answer: Resource<Answer>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, answer)
    }

    async fn drop(&mut self, answer: Resource<Answer>) -> wasmtime::Result<()> {
        self.table.delete(answer)?;
        Ok(())
    }
}
