//! A body for fuzzers: what POPs send, as bytes on several streams at once, against the whole hub. CI runs it under
//! proptest.
//!
//! Everything is real but the network: gRPC, the checks of `service.rs`, the scheduler with its prefixes and budget, and
//! a small random model. The scheduler runs on the caller's thread, a turn or two after each piece, so that an input
//! does the same every time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker;
use obsidian_model::Model;
use obsidian_model::synthetic::Synthetic;
use obsidian_types::limits::MAX_HUB_QUEUE;
use obsidian_wire::fuzzing::{Piece, Received, STREAMS, Upload, piece, pieces};
use obsidian_wire::prefix::{BLOCK_TOKENS, ChainKey, PrefixChain};
use obsidian_wire::proto::verifier_server::VerifierServer;
use obsidian_wire::proto::{Append, Close, Down, Draft, Finish, Mode, Open, Prefix, Read, Sampling, Up, down, up};
use tokio::sync::mpsc::Sender;
use tonic::body::Body;
use tonic::codegen::{Body as _, BoxFuture, Bytes, Service as _, http};

use crate::engine::{Engine, EngineInfo, NativeEngine};
use crate::scheduler::{Command, Load, Scheduler};
use crate::service::Service;

/// What the scheduler may compute between two pieces.
const TURNS: usize = 3;
/// Turns within which every stream ends whose POP has hung up.
const LAST_TURNS: usize = 16;
const SALT: [u8; 16] = [3; 16];
const MODEL_DIGEST: [u8; 32] = [1; 32];

/// POPs that say what [`pieces`] make of `data`, on up to four streams at once. The hub answers them in the protocol's
/// order, emits ids of its vocabulary only, keeps to its budget, never fails, and in the end holds no stream.
pub fn pop_streams(data: &[u8]) {
    let mut site = Site::new();
    for piece in pieces(data) {
        site.hear(piece);
        site.work(TURNS);
    }
    site.end();
}

struct Site {
    scheduler: Scheduler,
    commands: SyncSender<Command>,
    server: VerifierServer<Service>,
    vocabulary_size: u32,
    streams: [Stream; STREAMS],
}

fn engine() -> NativeEngine {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    let model = Model::from_bytes(FILE.get_or_init(|| Synthetic::default().file()).clone());
    #[expect(clippy::expect_used, reason = "our own file, which is always the same")]
    NativeEngine::new(model.expect("a synthetic model"), MODEL_DIGEST)
}

impl Site {
    fn new() -> Self {
        let engine = engine();
        let info = engine.info().clone();
        // Room for a few short answers: long ones are refused, and finished ones are evicted.
        let (kv_budget_bytes, max_sessions) = (4 * engine.cache_bytes(64), 3);
        let load = Arc::new(Load::default());
        let (commands, inbox) = sync_channel(MAX_HUB_QUEUE);
        let vocabulary_size = info.vocabulary_size;
        let service = Service {
            info,
            commands: commands.clone(),
            load: load.clone(),
            max_sessions,
            kv_budget_bytes,
            next_session: 1.into(),
        };
        let scheduler = Scheduler {
            engine: Box::new(engine),
            commands: inbox,
            sessions: Vec::new(),
            waiting: Default::default(),
            prefixes: Default::default(),
            kv_budget_bytes,
            max_sessions,
            patience: Duration::from_secs(3_600),
            load,
            pass: 0,
        };
        let server = obsidian_wire::server::service(service);
        Self { scheduler, commands, server, vocabulary_size, streams: Default::default() }
    }

    /// Gives a piece to its stream; one that is over begins anew.
    fn hear(&mut self, piece: Piece) {
        let stream = &mut self.streams[piece.stream];
        if matches!(stream.state, State::Over) {
            *stream = Stream::begin(&mut self.server);
        }
        if let Some(up) = &stream.up {
            // A full one is a POP that its network holds back.
            let _ = up.try_send(piece.bytes);
        }
        if piece.last {
            stream.up = None;
        }
    }

    fn work(&mut self, turns: usize) {
        for _ in 0..turns {
            self.poll();
            // Whatever else is there, the scheduler need not wait.
            let _ = self.commands.try_send(Command::Wake);
            assert!(self.scheduler.turn().is_continue(), "the scheduler stopped");
            let held = self.scheduler.load.kv_bytes.load(std::sync::atomic::Ordering::Relaxed);
            assert!(held <= self.scheduler.kv_budget_bytes, "{held} bytes of keys and values");
        }
        self.poll();
    }

    fn poll(&mut self) {
        for stream in &mut self.streams {
            stream.poll(self.vocabulary_size);
        }
    }

    fn end(mut self) {
        for stream in &mut self.streams {
            stream.up = None;
        }
        self.work(LAST_TURNS);
        assert!(self.streams.iter().all(|stream| matches!(stream.state, State::Over)), "a stream did not end");
        assert!(self.scheduler.sessions.is_empty() && self.scheduler.waiting.is_empty(), "a stream is still held");
    }
}

#[derive(Default)]
struct Stream {
    up: Option<Sender<Bytes>>,
    state: State,
    received: Received,
    heard: Heard,
}

#[derive(Default)]
enum State {
    Asked(BoxFuture<http::Response<Body>, Infallible>),
    Answered(Body),
    #[default]
    Over,
}

impl Stream {
    fn begin(server: &mut VerifierServer<Service>) -> Self {
        let (up, upload) = Upload::new();
        let mut request = http::Request::new(upload);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static("/obsidian.verify.v1.Verifier/Verify");
        request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
        let state = State::Asked(server.call(request));
        Self { up: Some(up), state, ..Self::default() }
    }

    fn poll(&mut self, vocabulary_size: u32) {
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        loop {
            let next = match &mut self.state {
                State::Over => return,
                State::Asked(call) => match call.as_mut().poll(&mut context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(response)) => {
                        refused_with_a_reason(response.headers());
                        State::Answered(response.into_body())
                    }
                    Poll::Ready(Err(never)) => match never {},
                },
                State::Answered(body) => match Pin::new(body).poll_frame(&mut context) {
                    Poll::Pending => return,
                    Poll::Ready(Some(Ok(frame))) => {
                        frame.trailers_ref().into_iter().for_each(refused_with_a_reason);
                        for message in frame.data_ref().map(|bytes| self.received.add(bytes)).unwrap_or_default() {
                            self.heard.take(message, vocabulary_size);
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(_)) | None) => State::Over,
                },
            };
            self.state = next;
        }
    }
}

/// One stream's failure is never the engine's: that would be the failure of all streams in the pass.
fn refused_with_a_reason(headers: &http::HeaderMap) {
    let code = headers.get("obsidian-code").and_then(|code| code.to_str().ok());
    assert_ne!(code, Some("engine_failed"), "a POP's messages broke the engine");
}

/// What a POP knows of its answer.
#[derive(Default)]
struct Heard {
    asked_for_prefix: bool,
    length: Option<u32>,
    epoch: u32,
    finished: bool,
}

impl Heard {
    fn take(&mut self, message: Down, vocabulary_size: u32) {
        assert!(!self.finished, "a message after the end");
        match (message.kind, self.length) {
            (Some(down::Kind::NeedPrefix(need)), None) => {
                assert!(need.from == 0 && !self.asked_for_prefix, "a prefix is asked for once");
                self.asked_for_prefix = true;
            }
            (Some(down::Kind::Opened(opened)), None) => {
                assert!(opened.reused_tokens < opened.prompt_tokens, "the last token is always computed");
                self.length = Some(opened.prompt_tokens);
            }
            (Some(down::Kind::Verdict(verdict)), Some(length)) => {
                assert_eq!(verdict.position, length, "a verdict on another position");
                assert!(verdict.epoch >= self.epoch && verdict.next.iter().all(|id| *id < vocabulary_size));
                let emitted = verdict.accepted + verdict.next.len() as u32;
                assert!(emitted > 0, "a verdict that emits nothing");
                self.length = Some(length + emitted);
                self.epoch = verdict.epoch;
                self.finished = verdict.finish() != Finish::None;
            }
            (kind, length) => assert_eq!(kind, None, "out of turn after {length:?}"),
        }
    }
}

/// `open` of a prompt of `ids`, whose first `blocks` blocks are named instead of sent.
fn open(mode: Mode, blocks: usize, ids: &[u32]) -> up::Kind {
    static INFO: OnceLock<EngineInfo> = OnceLock::new();
    let (named, suffix) = ids.split_at(blocks * BLOCK_TOKENS);
    let chain = PrefixChain::of(ChainKey { salt: SALT, model_digest: MODEL_DIGEST }, named);
    up::Kind::Open(Open {
        versions: vec![1, 2],
        vocabulary_digest: INFO.get_or_init(|| engine().info().clone()).vocabulary_digest.to_vec(),
        sampling: Some(Sampling { temperature: 0.5, top_p: 1.0, seed: 7, ..Sampling::default() }),
        mode: mode.into(),
        max_tokens: 12,
        end_ids: vec![2],
        tenant_salt: SALT.to_vec(),
        prefix: chain.tip().map(|tip| Prefix { blocks: blocks as u32, tip: tip.to_vec() }),
        suffix: suffix.to_vec(),
        ..Open::default()
    })
}

fn say(stream: usize, kind: up::Kind) -> Vec<u8> {
    piece(stream, &Up::from(kind))
}

/// Conversations as they should be, and one that is not, to mutate.
pub fn pop_stream_seeds() -> Vec<Vec<u8>> {
    let ids = |length: usize| -> Vec<u32> { (0..length as u32).map(|id| 3 + id % 250).collect() };
    let draft = |epoch, position, ids: &[u32]| say(0, up::Kind::Draft(Draft { epoch, position, ids: ids.to_vec() }));
    let close = |stream| say(stream, up::Kind::Close(Close {}));
    let append = |ids: Vec<u32>| say(0, up::Kind::Append(Append { position: 0, ids }));
    let read = |position| say(1, up::Kind::Read(Read { position }));
    let speculated = [
        say(0, open(Mode::Sync, 0, &ids(20))),
        draft(0, 20, &[]),
        draft(0, 21, &[5, 6]),
        draft(1, 22, &[]),
        close(0),
        say(0, open(Mode::Sync, 1, &ids(21))),
        draft(0, 21, &[9]),
    ];
    let side_by_side = [
        say(1, open(Mode::Off, 0, &ids(40))),
        say(2, open(Mode::Sync, 0, &ids(5))),
        read(41),
        say(0, open(Mode::Off, 0, &ids(17))),
        read(44),
        close(2),
    ];
    let sent_later = [say(0, open(Mode::Sync, 2, &ids(36))), append(ids(32)), draft(0, 36, &[]), close(0)];
    // What is named may be anything; what is sent for it must be ids of the vocabulary all the same.
    let foreign = vec![1_000_000; BLOCK_TOKENS];
    let prompt = [foreign.as_slice(), &[3]].concat();
    let hostile =
        [say(1, open(Mode::Off, 0, &ids(8))), say(0, open(Mode::Sync, 1, &prompt)), append(foreign), draft(0, 17, &[])];
    vec![speculated.concat(), side_by_side.concat(), sent_later.concat(), hostile.concat()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the seeds are for: that mutations begin where streams go well.
    #[test]
    fn seeds_are_conversations() {
        let mut emitted = Vec::new();
        for seed in pop_stream_seeds() {
            let mut site = Site::new();
            let mut most = 0;
            for piece in pieces(&seed) {
                site.hear(piece);
                site.work(20);
                most = most.max(site.streams.iter().filter_map(|stream| stream.heard.length).max().unwrap_or_default());
            }
            emitted.push(most);
            site.end();
        }
        assert_eq!(emitted, [23, 52, 37, 20]);
    }

    fn said() -> impl Strategy<Value = up::Kind> {
        let ids = || prop::collection::vec(prop_oneof![9 => 0u32..288, 1 => any::<u32>()], 0..40);
        let modes = prop::sample::select(vec![Mode::Unspecified, Mode::Off, Mode::Sync]);
        let position = || prop_oneof![9 => 0u32..60, 1 => any::<u32>()];
        prop_oneof![
            (modes, 0usize..3, ids()).prop_map(|(mode, blocks, ids)| {
                let blocks = blocks.min(ids.len() / BLOCK_TOKENS);
                open(mode, blocks, &ids)
            }),
            ids().prop_map(|ids| up::Kind::Append(Append { position: 0, ids })),
            (0u32..3, position(), ids()).prop_map(|(epoch, position, ids)| up::Kind::Draft(Draft {
                epoch,
                position,
                ids
            })),
            position().prop_map(|position| up::Kind::Read(Read { position })),
            Just(up::Kind::Close(Close {})),
        ]
    }

    proptest! {
        #[test]
        fn no_messages_break_the_hub(said in prop::collection::vec((0usize..STREAMS, said()), 0..24)) {
            let data: Vec<Vec<u8>> = said.into_iter().map(|(stream, kind)| say(stream, kind)).collect();
            pop_streams(&data.concat());
        }

        #[test]
        fn no_bytes_break_the_hub(seed in 0usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
            let mut data = pop_stream_seeds().swap_remove(seed);
            for (at, byte) in changes {
                let at = at.index(data.len());
                data[at] = byte;
            }
            pop_streams(&data);
        }
    }
}
