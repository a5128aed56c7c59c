//! One answer being generated at the hub.

use std::sync::Arc;
use std::time::{Duration, Instant};

use obsidian_types::limits::{MAX_DRAFT_WINDOW, MAX_HUB_AHEAD_IDS};
use obsidian_types::trace::TRACEPARENT;
use obsidian_types::{FinishReason, TokenId};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::connection::{Live, Occupied, Shared, Slot};
use super::lock;
use crate::error::LinkError;
use crate::prefix::{BLOCK_TOKENS, PrefixChain};
use crate::proto::{self, down, up};
use crate::telemetry;
use crate::wan::{Account, WanBytes};

/// Length prefix and flag of a gRPC message.
const GRPC_FRAME_BYTES: usize = 5;
/// Messages waiting to be sent; the protocol is lock-step, so it never holds more than two.
const OUTGOING: usize = 4;

/// Ids handed on between two words to the hub about it: often enough that a reader never makes it pause.
const READ_STEP: usize = MAX_HUB_AHEAD_IDS / 4;

/// The hub's answer to one draft window. `Debug` does not show the id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How many of the drafted ids the hub emitted, from the first on.
    pub accepted: u32,
    /// The id the hub emitted after them; `None` when the answer ended with an accepted one.
    pub next: Option<TokenId>,
    /// Set when the answer is over; an end id then is the last id emitted.
    pub finish: Option<FinishReason>,
}

impl Verdict {
    /// All ids that this verdict adds to the answer.
    pub fn emitted<'a>(&self, drafts: &'a [TokenId]) -> impl Iterator<Item = TokenId> + use<'a> {
        drafts.iter().copied().take(self.accepted as usize).chain(self.next)
    }
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = usize::from(self.next.is_some());
        write!(formatter, "Verdict({} accepted, {more} more, finish {:?})", self.accepted, self.finish)
    }
}

/// Ids that the hub decoded alone. `Debug` shows how many.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// In order; empty only with `finish`.
    pub ids: Vec<TokenId>,
    /// Set when the answer is over.
    pub finish: Option<FinishReason>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Batch({} ids, finish {:?})", self.ids.len(), self.finish)
    }
}

/// What [`super::HubLink::open`] hands over.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) live: Live,
    pub(crate) ids: Vec<TokenId>,
    pub(crate) chain: Option<PrefixChain>,
}

/// A stream that the hub has taken and not opened yet.
pub(crate) struct Asked {
    pub(crate) shared: Arc<Shared>,
    pub(crate) account: Account,
    pub(crate) occupied: Occupied,
    pub(crate) mode: proto::Mode,
    /// Blocks of the prompt that were named instead of sent.
    pub(crate) named_blocks: usize,
    pub(crate) ids: Vec<TokenId>,
    pub(crate) chain: Option<PrefixChain>,
}

/// One answer being generated. Dropping it tells the hub to stop.
pub struct VerifyStream {
    shared: Arc<Shared>,
    account: Account,
    _occupied: Occupied,
    up: mpsc::Sender<proto::Up>,
    down: Streaming<proto::Down>,
    opened: proto::Opened,
    mode: proto::Mode,
    epoch: u32,
    /// Prompt and answer so far.
    ids: Vec<TokenId>,
    /// Up to where the hub knows that ids were handed on.
    told: usize,
    chain: Option<PrefixChain>,
    finish: Option<FinishReason>,
    failed: bool,
}

impl VerifyStream {
    pub(crate) async fn open(parts: Parts, open: proto::Open, mode: proto::Mode) -> Result<Self, LinkError> {
        let Parts { shared, slot, live, ids, chain } = parts;
        let patience = shared.options.request_timeout;
        let (account, occupied) = (live.ledger.open(), slot.occupy());
        let (up, outgoing) = mpsc::channel(OUTGOING);
        let named_blocks = open.prefix.as_ref().map_or(0, |prefix| prefix.blocks as usize);
        let first = proto::Up::from(up::Kind::Open(open));
        account.sent(first.encoded_len() + GRPC_FRAME_BYTES);
        up.try_send(first).map_err(|_| LinkError::WrongUse("the stream is full before it began"))?;
        let mut client = live.client;
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        // Ids only, so that the hub's spans hang under this one.
        if let Some(trace) = telemetry::context(&tracing::Span::current())
            && let Ok(value) = trace.to_string().parse()
        {
            request.metadata_mut().insert(TRACEPARENT, value);
        }
        let call = client.verify(request);
        let response = tokio::time::timeout(patience, call)
            .await
            .map_err(|_| late("open", patience))?
            .map_err(|status| LinkError::from_status(&status))?;
        let asked = Asked { shared, account, occupied, mode, named_blocks, ids, chain };
        Self::begin(asked, up, response.into_inner()).await
    }

    /// Waits until the hub opens the stream.
    pub(crate) async fn begin(
        asked: Asked,
        up: mpsc::Sender<proto::Up>,
        down: Streaming<proto::Down>,
    ) -> Result<Self, LinkError> {
        let Asked { shared, account, occupied, mode, named_blocks, ids, chain } = asked;
        let mut stream = Self {
            shared,
            account,
            _occupied: occupied,
            up,
            down,
            opened: proto::Opened::default(),
            mode,
            epoch: 0,
            told: ids.len(),
            ids,
            chain,
            finish: None,
            failed: false,
        };
        stream.opened = stream.handshake(named_blocks).await?;
        Ok(stream)
    }

    /// Waits for `opened`, and sends the prefix if the hub turns out not to hold it.
    async fn handshake(&mut self, named_blocks: usize) -> Result<proto::Opened, LinkError> {
        match self.receive("open").await? {
            down::Kind::Opened(opened) => return Ok(opened),
            down::Kind::NeedPrefix(need) => {
                let named = named_blocks * BLOCK_TOKENS;
                let from = need.from as usize;
                if from >= named {
                    return Err(LinkError::Protocol("a prefix was asked for that was sent"));
                }
                if let Some(chain) = &self.chain {
                    lock(&self.shared.known).forget(&chain.links()[from / BLOCK_TOKENS..]);
                }
                let ids = self.ids[from..named].to_vec();
                self.send(up::Kind::Append(proto::Append { position: need.from, ids })).await?;
            }
            down::Kind::Verdict(_) => return Err(LinkError::Protocol("a verdict before the stream was open")),
        }
        match self.receive("open").await? {
            down::Kind::Opened(opened) => Ok(opened),
            _ => Err(LinkError::Protocol("the stream was not opened after the prefix was sent")),
        }
    }

    /// Protocol version, model and numerics the hub answers with, and how much of the prompt it still held.
    pub fn opened(&self) -> &proto::Opened {
        &self.opened
    }

    /// Sends a window of drafted ids (at most [`MAX_DRAFT_WINDOW`]; none lets the hub decode one by itself)
    /// and waits for the verdict. For streams opened with speculation.
    ///
    /// # Errors
    /// Any [`LinkError`]; what was emitted before stands.
    pub async fn verify(&mut self, drafts: &[TokenId]) -> Result<Verdict, LinkError> {
        if self.mode != proto::Mode::Sync {
            return Err(LinkError::WrongUse("verify on a stream opened without speculation"));
        }
        if drafts.len() > MAX_DRAFT_WINDOW as usize {
            return Err(LinkError::WrongUse("the draft window is too long"));
        }
        self.usable()?;
        let position = self.ids.len() as u32;
        let draft = proto::Draft { epoch: self.epoch, position, ids: drafts.to_vec() };
        let sent = Instant::now();
        self.send(up::Kind::Draft(draft)).await?;
        let verdict = self.receive_verdict().await?;
        self.shared.measured(sent.elapsed());
        if verdict.accepted as usize > drafts.len() || verdict.next.len() > 1 {
            return self.broken("a verdict on more ids than were drafted");
        }
        let verdict_for_caller = Verdict {
            accepted: verdict.accepted,
            next: verdict.next.first().copied(),
            finish: finish_reason(&verdict),
        };
        if verdict_for_caller.next.is_none() && verdict_for_caller.finish.is_none() {
            return self.broken("a verdict without a next id");
        }
        self.ids.extend(verdict_for_caller.emitted(drafts));
        self.finish = verdict_for_caller.finish;
        Ok(verdict_for_caller)
    }

    /// The next ids of a stream opened with speculation off; `None` after the batch with `finish`.
    ///
    /// # Errors
    /// Any [`LinkError`]; what was emitted before stands.
    pub async fn next(&mut self) -> Result<Option<Batch>, LinkError> {
        if self.mode != proto::Mode::Off {
            return Err(LinkError::WrongUse("next on a stream opened with speculation"));
        }
        if self.finish.is_some() {
            return Ok(None);
        }
        self.usable()?;
        // Who asks for more has handed on what came before.
        if self.ids.len() - self.told >= READ_STEP {
            self.tell_handed_on();
        }
        let verdict = self.receive_verdict().await?;
        let finish = finish_reason(&verdict);
        if verdict.next.is_empty() && finish.is_none() {
            return self.broken("an empty batch");
        }
        self.ids.extend(&verdict.next);
        self.finish = finish;
        Ok(Some(Batch { ids: verdict.next, finish }))
    }

    /// Bytes of TLS records this stream caused so far; how they are counted is told in [`crate::wan`].
    pub fn wan_bytes(&self) -> WanBytes {
        self.account.read()
    }

    /// Ends the stream in good order and returns its bytes. One round trip if the answer is not finished;
    /// who is in a hurry reads [`VerifyStream::wan_bytes`] and drops the stream: the hub stops as well.
    pub async fn close(mut self) -> WanBytes {
        if self.usable().is_ok() && self.send(up::Kind::Close(proto::Close {})).await.is_err() {
            return self.wan_bytes();
        }
        // Verdicts that were under way are dropped; then the hub ends the stream.
        while !self.failed && self.receive("close").await.is_ok() {}
        self.wan_bytes()
    }

    fn usable(&self) -> Result<(), LinkError> {
        match (self.failed, self.finish) {
            (true, _) => Err(LinkError::WrongUse("the stream has failed before")),
            (_, Some(_)) => Err(LinkError::WrongUse("the answer is finished")),
            _ => Ok(()),
        }
    }

    /// No failure: a hub that is done no longer listens, while its last ids are still on their way; and if the
    /// queue is full, the next batch tells.
    fn tell_handed_on(&mut self) {
        let position = self.ids.len();
        let message = proto::Up::from(up::Kind::Read(proto::Read { position: position as u32 }));
        let bytes = message.encoded_len() + GRPC_FRAME_BYTES;
        if self.up.try_send(message).is_ok() {
            self.account.sent(bytes);
            self.told = position;
        }
    }

    async fn send(&mut self, kind: up::Kind) -> Result<(), LinkError> {
        let message = proto::Up::from(kind);
        self.account.sent(message.encoded_len() + GRPC_FRAME_BYTES);
        let patience = self.shared.options.request_timeout;
        let sent = tokio::time::timeout(patience, self.up.send(message)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            // The reason is on its way down: a refusal, or the end of the connection.
            Ok(Err(_closed)) => {
                let reason = self.receive("send").await.err();
                self.failed = true;
                Err(reason.unwrap_or(LinkError::Protocol("the hub ended the stream before its turn")))
            }
            Err(_) => {
                self.failed = true;
                Err(late("send", patience))
            }
        }
    }

    async fn receive_verdict(&mut self) -> Result<proto::Verdict, LinkError> {
        let down::Kind::Verdict(verdict) = self.receive("verify").await? else {
            return self.broken("not a verdict where one was due");
        };
        if verdict.position as usize != self.ids.len() || verdict.epoch < self.epoch {
            return self.broken("a verdict for another position");
        }
        self.epoch = verdict.epoch;
        Ok(verdict)
    }

    async fn receive(&mut self, what: &'static str) -> Result<down::Kind, LinkError> {
        let patience = self.shared.options.request_timeout;
        let received = tokio::time::timeout(patience, self.down.message()).await;
        let error = match received {
            Ok(Ok(Some(message))) => {
                self.account.received(message.encoded_len() + GRPC_FRAME_BYTES);
                if let Some(kind) = message.kind {
                    return Ok(kind);
                }
                LinkError::Protocol("a message of a kind this version does not know")
            }
            Ok(Ok(None)) => LinkError::Lost { reason: "the hub ended the stream".to_owned() },
            Ok(Err(status)) => LinkError::from_status(&status),
            Err(_) => late(what, patience),
        };
        self.failed = true;
        Err(error)
    }

    fn broken<T>(&mut self, what: &'static str) -> Result<T, LinkError> {
        self.failed = true;
        Err(LinkError::Protocol(what))
    }
}

impl Drop for VerifyStream {
    fn drop(&mut self) {
        // The hub keeps what it computed, except the last id, for the next turn of the conversation.
        let Some(chain) = self.chain.as_mut().filter(|_| !self.failed || self.finish.is_some()) else {
            return;
        };
        chain.extend_to(&self.ids[..self.ids.len().saturating_sub(1)]);
        lock(&self.shared.known).remember(chain.links());
    }
}

impl std::fmt::Debug for VerifyStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "VerifyStream({} ids, epoch {})", self.ids.len(), self.epoch)
    }
}

fn finish_reason(verdict: &proto::Verdict) -> Option<FinishReason> {
    match verdict.finish() {
        proto::Finish::None => None,
        proto::Finish::End => Some(FinishReason::Stop),
        proto::Finish::Length => Some(FinishReason::Length),
    }
}

pub(crate) fn late(what: &'static str, patience: Duration) -> LinkError {
    LinkError::Timeout { what, after_ms: patience.as_millis() as u64 }
}
