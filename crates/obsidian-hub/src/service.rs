//! The gRPC face of the hub: checks what a POP asks, hands it to the scheduler, and streams the answers.
//!
//! No task of its own per stream: the response stream itself listens to both sides, so that it ends with
//! the connection and cannot outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use futures::stream::{BoxStream, StreamExt};
use obsidian_model::Sampling;
use obsidian_types::TraceContext;
use obsidian_types::limits::{MAX_LOGIT_BIAS, MAX_LOGIT_BIAS_ENTRIES, MAX_PENALTY, MAX_TEMPERATURE};
use obsidian_types::trace::TRACEPARENT;
use obsidian_wire::proto::verifier_server::Verifier;
use obsidian_wire::proto::{self, DescribeReply, DescribeRequest, Down, Mode, Open, Up, up};
use obsidian_wire::version::{ADJUSTED_SAMPLING, VERSIONS, negotiate};
use obsidian_wire::{Code, PeerName, Refusal};
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use crate::engine::EngineInfo;
use crate::outbox::{Outbox, Taken};
use crate::scheduler::{Command, Load};
use crate::session::{self, Reply};
use crate::spans::StreamSpan;
use crate::telemetry;

/// Most ids that may end an answer.
const MAX_END_IDS: usize = 64;

/// Shared by all streams.
pub(crate) struct Service {
    pub(crate) info: EngineInfo,
    pub(crate) commands: SyncSender<Command>,
    pub(crate) load: Arc<Load>,
    pub(crate) max_sessions: usize,
    pub(crate) kv_budget_bytes: u64,
    pub(crate) next_session: AtomicU64,
}

#[tonic::async_trait]
impl Verifier for Service {
    type VerifyStream = BoxStream<'static, Result<Down, Status>>;

    async fn describe(&self, _request: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        Ok(Response::new(DescribeReply {
            versions: VERSIONS.to_vec(),
            model: self.info.model.clone(),
            model_digest: self.info.model_digest.to_vec(),
            vocabulary_digest: self.info.vocabulary_digest.to_vec(),
            numerics_id: self.info.numerics_id.clone(),
            vocabulary_size: self.info.vocabulary_size,
            context_length: self.info.context_length,
            end_ids: self.info.end_ids.clone(),
            sessions: self.load.sessions.load(Ordering::Relaxed) as u32,
            max_sessions: self.max_sessions as u32,
            kv_bytes: self.load.kv_bytes.load(Ordering::Relaxed),
            kv_budget_bytes: self.kv_budget_bytes,
        }))
    }

    async fn verify(&self, request: Request<Streaming<Up>>) -> Result<Response<Self::VerifyStream>, Status> {
        let peer = request.extensions().get::<PeerName>().cloned();
        let caller = request.metadata().get(TRACEPARENT).and_then(|value| TraceContext::parse(value.to_str().ok()?));
        let stream = StreamSpan::new(&self.info.model, peer.as_ref(), caller);
        let mut inbound = request.into_inner();
        let Some(Up { kind: Some(up::Kind::Open(open)) }) = inbound.message().await? else {
            return Err(Refusal::new(Code::InvalidMessage, "the first message must be `open`").into());
        };
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        debug!(session, peer = peer.as_ref().map_or("", |peer| &peer.0), "stream opens");
        let outbox = Arc::new(Outbox::default());
        let commands = self.commands.clone();
        let mut conversation = Conversation { session, inbound, outbox, commands, stream, done: false };
        let asked = self
            .check(session, open, Reply::new(conversation.outbox.clone()))
            .and_then(|request| conversation.tell(Command::Open(Box::new(request))));
        if let Err(refusal) = asked {
            telemetry::refusal(refusal.code);
            conversation.stream.failed(refusal.code.as_str());
            return Err(refusal.into());
        }
        let stream = futures::stream::unfold(conversation, |mut conversation| async move {
            let next = conversation.next().await?;
            Some((next, conversation))
        });
        Ok(Response::new(stream.boxed()))
    }
}

impl Service {
    /// Everything about `open` that does not depend on the present load.
    fn check(&self, number: u64, open: Open, reply: Reply) -> Result<session::Request, Refusal> {
        let version = negotiate(&open.versions, VERSIONS)?;
        self.check_model(&open)?;
        let invalid = |what: &str| Refusal::new(Code::InvalidMessage, what);
        let mode = match open.mode() {
            Mode::Unspecified => return Err(invalid("`open` names no mode")),
            mode => mode,
        };
        let sampling = sampling(open.sampling.ok_or_else(|| invalid("`open` has no sampling"))?, version)?;
        let salt = open.tenant_salt.try_into().map_err(|_| invalid("the tenant salt has not 16 bytes"))?;
        let prefix = match open.prefix {
            None => None,
            Some(prefix) if prefix.blocks == 0 => return Err(invalid("a prefix of no blocks")),
            Some(prefix) => {
                let tip = prefix.tip.try_into().map_err(|_| invalid("a prefix tip has not 32 bytes"))?;
                Some((tip, prefix.blocks as usize))
            }
        };
        if open.suffix.is_empty() {
            return Err(invalid("`open` has no ids after the prefix"));
        }
        if open.suffix.iter().any(|id| *id >= self.info.vocabulary_size) {
            return Err(invalid("an id is outside the vocabulary"));
        }
        if open.max_tokens == 0 || open.end_ids.len() > MAX_END_IDS {
            return Err(invalid("no token may be emitted, or there are too many end ids"));
        }
        Ok(session::Request {
            number,
            reply,
            version,
            mode,
            sampling,
            max_tokens: open.max_tokens as usize,
            end_ids: open.end_ids,
            salt,
            prefix,
            suffix: open.suffix,
            answer_start: (version >= ADJUSTED_SAMPLING).then_some(open.answer_start as usize),
        })
    }

    fn check_model(&self, open: &Open) -> Result<(), Refusal> {
        let serves = &self.info;
        if !open.model.is_empty() && open.model != serves.model {
            let reason = format!("the hub serves {:?}, not {:?}", serves.model, open.model);
            return Err(Refusal::new(Code::ModelMismatch, reason));
        }
        if open.vocabulary_digest != serves.vocabulary_digest {
            let reason = format!(
                "the POP's vocabulary ({}…) is not that of {:?} ({}…): both ends need models with one tokenizer",
                short(&open.vocabulary_digest),
                serves.model,
                short(&serves.vocabulary_digest)
            );
            return Err(Refusal::new(Code::ModelMismatch, reason));
        }
        if !open.numerics_id.is_empty() && open.numerics_id != serves.numerics_id {
            let reason =
                format!("the hub computes with {:?}, the POP asked for {:?}", serves.numerics_id, open.numerics_id);
            return Err(Refusal::new(Code::NumericsMismatch, reason));
        }
        Ok(())
    }
}

fn sampling(asked: proto::Sampling, version: u32) -> Result<Sampling, Refusal> {
    let invalid = |what: &str| Err(Refusal::new(Code::InvalidMessage, what));
    let temperature_fits = (0.0..=MAX_TEMPERATURE).contains(&asked.temperature);
    let top_p_fits = asked.top_p > 0.0 && asked.top_p <= 1.0;
    if !temperature_fits || !top_p_fits {
        return invalid("temperature or top_p is out of range");
    }
    let penalty_fits = |penalty: f32| (-MAX_PENALTY..=MAX_PENALTY).contains(&penalty);
    if !penalty_fits(asked.frequency_penalty) || !penalty_fits(asked.presence_penalty) {
        return invalid("a penalty is out of range");
    }
    let bias_fits = |bias: &f32| (-MAX_LOGIT_BIAS..=MAX_LOGIT_BIAS).contains(bias);
    if asked.bias_ids.len() != asked.biases.len()
        || asked.biases.len() > MAX_LOGIT_BIAS_ENTRIES
        || !asked.biases.iter().all(bias_fits)
        || !asked.bias_ids.is_sorted_by(|one, next| one < next)
    {
        return invalid("the logit biases are out of range, too many, not ascending or not one for each id");
    }
    let adjusts = asked.frequency_penalty != 0.0 || asked.presence_penalty != 0.0 || !asked.biases.is_empty();
    if adjusts && version < ADJUSTED_SAMPLING {
        return invalid("penalties and bias need a later version of the protocol");
    }
    Ok(Sampling {
        temperature: asked.temperature,
        top_k: asked.top_k,
        top_p: asked.top_p,
        seed: asked.seed,
        choice: asked.choice,
        frequency_penalty: asked.frequency_penalty,
        presence_penalty: asked.presence_penalty,
        logit_bias: asked.bias_ids.into_iter().zip(asked.biases).collect(),
    })
}

fn short(digest: &[u8]) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// One stream as the network sees it.
struct Conversation {
    session: u64,
    inbound: Streaming<Up>,
    outbox: Arc<Outbox>,
    commands: SyncSender<Command>,
    stream: StreamSpan,
    done: bool,
}

impl Conversation {
    /// The next message down. Meanwhile what comes up is handed to the scheduler.
    async fn next(&mut self) -> Option<Result<Down, Status>> {
        if self.done {
            return None;
        }
        let mut listening = true;
        loop {
            tokio::select! {
                biased;
                taken = self.outbox.take() => match taken {
                    Taken::Message(kind) => {
                        self.stream.said(&kind);
                        return Some(Ok(kind.into()));
                    }
                    Taken::End(how) => {
                        self.done = true;
                        return how.err().map(|refusal| {
                            self.stream.failed(refusal.code.as_str());
                            Err(refusal.into())
                        });
                    }
                },
                message = self.inbound.message(), if listening => {
                    let command = match message {
                        Ok(Some(Up { kind: Some(kind) })) => self.command(kind),
                        // A kind of message that a later version added.
                        Ok(Some(Up { kind: None })) => continue,
                        // The POP ended its side, or the connection is gone.
                        Ok(None) | Err(_) => {
                            listening = false;
                            Ok(Command::Close { session: self.session })
                        }
                    };
                    if let Err(refusal) = command.and_then(|command| self.tell(command)) {
                        self.done = true;
                        self.stream.failed(refusal.code.as_str());
                        return Some(Err(refusal.into()));
                    }
                }
            }
        }
    }

    fn command(&self, kind: up::Kind) -> Result<Command, Refusal> {
        let session = self.session;
        match kind {
            up::Kind::Open(_) => Err(Refusal::new(Code::InvalidMessage, "the stream is open already")),
            up::Kind::Append(append) => Ok(Command::Append { session, position: append.position, ids: append.ids }),
            up::Kind::Draft(draft) => Ok(Command::Draft { session, draft }),
            up::Kind::Read(read) => Ok(Command::Read { session, position: read.position }),
            up::Kind::Close(_) => Ok(Command::Close { session }),
        }
    }

    fn tell(&self, command: Command) -> Result<(), Refusal> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::new(Code::Overloaded, "the hub's command queue is full"),
            TrySendError::Disconnected(_) => Refusal::new(Code::ShuttingDown, "the hub is stopping: use another"),
        })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // The flag reaches the scheduler even if its queue is full now.
        self.outbox.abandon();
        let _ = self.commands.try_send(Command::Wake);
    }
}
