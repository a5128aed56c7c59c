//! Questions of functions to this node's models: the sandbox's contract on one side, the pipeline on the other.
//!
//! A question is a request of the function's tenant like any client's: the same names, the same admission by the tenant's
//! terms, then [`crate::pipeline`], in which the shield comes before every model. What this module must not do: give a
//! message to anything else.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;

use futures::StreamExt as _;
use http::StatusCode;
use metrics::counter;
use obsidian_sandbox::functions::{Chat, ChatCall, ChatEnd, ChatError, ChatPiece, ChatStream, FunctionId};
use obsidian_types::limits::{DEFAULT_MAX_TOKENS, MAX_STREAM_CHUNKS};
use obsidian_types::{
    ChatRequest, FinishReason, Input, ModelName, RequestId, Residency, Sampling, Speculation, TenantId, ToolChoice,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::loading::owner;
use crate::fault::Fault;
use crate::fresh::Fresh;
use crate::http::Seat;
use crate::openai::error::ApiError;
use crate::outcome::{Event, Outcome, Part};
use crate::pipeline;
use crate::pop::{Pop, unix_seconds};

/// The models of a POP, for its functions. There are none before the POP has started.
#[derive(Default)]
pub(super) struct Models(RwLock<Option<Serving>>);

/// The POP that answers, and the runtime on which its requests run: functions have threads of their own.
#[derive(Clone)]
struct Serving {
    /// The POP has its functions, and they have it only while it is there.
    pop: Weak<Pop>,
    runtime: Handle,
}

impl Models {
    /// The models of `pop` answer from now on; called in its runtime.
    pub(super) fn serve(&self, pop: &Arc<Pop>) {
        let serving = Serving { pop: Arc::downgrade(pop), runtime: Handle::current() };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(serving);
    }

    /// Lets a question in and starts its pipeline.
    fn begin(&self, call: ChatCall) -> Result<(mpsc::Receiver<Event>, Task), ChatError> {
        let serving = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let serving = serving.and_then(|serving| Some((serving.pop.upgrade()?, serving.runtime)));
        let Some((pop, runtime)) = serving else {
            return Err(ChatError::Failed("this node's models do not answer yet, or no more".to_owned()));
        };
        if !pop.model_names().contains(&call.model) {
            return Err(ChatError::UnknownModel(call.model));
        }
        // A node that drains lets functions finish what they began, and a question is part of that.
        let tenant = owner(&call.function.tenant);
        let terms = pop.tenants.keys().limits(&tenant);
        if terms.expires.is_some_and(|expires| unix_seconds() >= expires) {
            return Err(ChatError::Failed("the time of this function's tenant on this node is over".to_owned()));
        }
        let arrival = pop.admission.arrive(&tenant, &terms).map_err(|away| refused(away.to_api()))?;
        let bytes = call.messages.iter().map(|message| message.content.len()).sum();
        let charge = pop.bodies.take(bytes, pop.limits().body_budget_bytes).map_err(refused)?;
        let request = request(&pop, tenant, call).map_err(|fault| faulted(&fault))?;
        let began = Instant::now();
        // A function that reads slowly holds back its own pipeline and nothing else, as a client does.
        let (events, arriving) = mpsc::channel(MAX_STREAM_CHUNKS);
        let worker = pop.clone();
        let running = async move {
            let requests = std::slice::from_ref(&request);
            let seat = Seat::wait(&worker, arrival, charge, bytes, requests).await.map_err(refused)?;
            let outcome = pipeline::serve(&worker, request, began, events).await.map_err(|fault| faulted(&fault))?;
            seat.spent(u64::from(outcome.usage.prompt_tokens) + u64::from(outcome.usage.completion_tokens));
            Ok(outcome)
        };
        Ok((arriving, AbortOnDropHandle::new(pop.tasks.spawn_on(running, &runtime))))
    }
}

impl Chat for Models {
    fn ask(&self, call: ChatCall) -> Result<ChatStream, ChatError> {
        let tally = Tally { function: call.function.clone(), outcome: "cancelled" };
        let (arriving, task) = match self.begin(call) {
            Ok(begun) => begun,
            Err(error) => {
                tally.end(error.kind());
                return Err(error);
            }
        };
        let coming = Coming { arriving, task, model: String::new(), reason: FinishReason::Stop, tally: Some(tally) };
        let pieces = futures::stream::unfold(coming, |mut coming| async move {
            let piece = coming.next().await?;
            Some((piece, coming))
        });
        Ok(pieces.boxed())
    }
}

/// The question as the pipeline takes it.
fn request(pop: &Pop, tenant: TenantId, call: ChatCall) -> Result<ChatRequest, Fault> {
    let fresh = Fresh::draw()?;
    let default = DEFAULT_MAX_TOKENS.min(pop.limits().answer_tokens.unwrap_or(u32::MAX));
    Ok(ChatRequest {
        // The audit line shows whose question it was.
        id: RequestId::new(format!("{}-{}", call.function.module, fresh.id)),
        conversation: pop.tenants.conversation(&tenant, None, &call.messages),
        tenant,
        client: None,
        model: ModelName::new(call.model),
        input: Input::Chat(call.messages),
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: None,
        sampling: Sampling {
            temperature: call.temperature,
            top_p: call.top_p,
            seed: call.seed.unwrap_or(fresh.seed),
            ..Sampling::default()
        },
        choices: 1,
        logprobs: None,
        max_tokens: call.max_tokens.unwrap_or(default),
        stop: call.stop,
        speculation: Speculation::Auto,
        residency: Residency::Anywhere,
        user: None,
        metadata: Vec::new(),
        trace: None,
    })
}

type Task = AbortOnDropHandle<Result<Outcome, ChatError>>;

/// An answer on its way: dropping it ends its pipeline.
struct Coming {
    arriving: mpsc::Receiver<Event>,
    task: Task,
    model: String,
    reason: FinishReason,
    /// None once the last piece has come.
    tally: Option<Tally>,
}

impl Coming {
    async fn next(&mut self) -> Option<Result<ChatPiece, ChatError>> {
        self.tally.as_ref()?;
        while let Some(event) = self.arriving.recv().await {
            match event {
                Event::Delta { part: Part::Text { text, .. }, .. } => return Some(Ok(ChatPiece::Text(text))),
                // What a model thinks is no part of its answer, and no tools were offered.
                Event::Delta { part: Part::Reasoning(_) | Part::ToolCall { .. }, .. } => {}
                Event::Start(start) => self.model = start.model,
                Event::Finished { reason, .. } => self.reason = reason,
            }
        }
        // A panic or an abort: the task has logged it.
        let ended = (&mut self.task).await.unwrap_or_else(|_| Err(faulted(&Fault::Internal)));
        if let Some(tally) = self.tally.take() {
            tally.end(ended.as_ref().map_or_else(ChatError::kind, |_| "answered"));
        }
        let end = |outcome: Outcome| {
            ChatPiece::End(ChatEnd { reason: self.reason, usage: outcome.usage, model: self.model.clone() })
        };
        Some(ended.map(end))
    }
}

/// Counts one question, whatever becomes of it.
struct Tally {
    function: FunctionId,
    outcome: &'static str,
}

impl Tally {
    fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let FunctionId { tenant, module, .. } = &self.function;
        counter!("obsidian_function_chat_total", "tenant" => tenant.as_str().to_owned(), "module" => module.clone(),
            "outcome" => self.outcome)
        .increment(1);
    }
}

/// What a function is told of a fault: without an upstream's own words, because its log has the message too.
fn faulted(fault: &Fault) -> ChatError {
    refused(ApiError { message: fault.to_string(), ..fault.to_api() })
}

/// What a function is told where a client would be told `error`.
fn refused(error: ApiError) -> ChatError {
    let reason = error.message;
    match (error.status, error.code) {
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _) => {
            ChatError::Busy { reason, retry_after: error.retry_after.unwrap_or(1) }
        }
        (_, Some("context_length_exceeded" | "string_above_max_length" | "shield_limit_exceeded")) => {
            ChatError::TooLong(reason)
        }
        (StatusCode::BAD_REQUEST, _) => ChatError::Invalid(reason),
        _ => ChatError::Failed(reason),
    }
}
