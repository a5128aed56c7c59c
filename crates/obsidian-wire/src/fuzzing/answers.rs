//! A hub that says anything, against the POP's side of the link.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use obsidian_types::limits::MAX_DRAFT_WINDOW;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{MAX_PIECES, Piece, piece, pieces};
use crate::client::{Asked, Description, LinkOptions, Shared, Slot, VerifyStream};
use crate::error::{Code, LinkError, Refusal};
use crate::prefix::{BLOCK_TOKENS, ChainKey, PrefixChain};
use crate::proto::verifier_client::VerifierClient;
use crate::proto::{self, DescribeReply, Down, Finish, NeedPrefix, Opened, Up, Verdict, down};
use crate::tls::{ClientTls, DevelopmentCa};
use crate::version::{VERSIONS, negotiate};
use crate::wan::Ledger;

/// Ids after the blocks that were named.
const REST: usize = 3;

/// One conversation. The first byte says whether the POP drafts and how many blocks it named instead of sending them,
/// the second how many ids it drafts; the rest are [`pieces`], of which those of stream 3 are trailers.
pub fn hub_answers(data: &[u8]) {
    let Some((&[how, window], rest)) = data.split_first_chunk::<2>() else { return };
    if let Ok(reply) = DescribeReply::decode(rest) {
        let description = Description::from(reply);
        let _ = negotiate(VERSIONS, &description.versions);
    }
    let pieces = pieces(rest);
    let most_batches = pieces.len();
    let mode = if how & 1 == 0 { proto::Mode::Sync } else { proto::Mode::Off };
    let named_blocks = usize::from(how >> 1 & 3);
    let window = usize::from(window).min(MAX_DRAFT_WINDOW as usize);
    let conversation = async {
        let mut stream = open(pieces, mode, named_blocks).await?;
        let drafts: Vec<u32> = (100..).take(window).collect();
        for _ in 0..=most_batches {
            let finish = if mode == proto::Mode::Sync {
                let verdict = stream.verify(&drafts).await?;
                let emitted = verdict.emitted(&drafts).count();
                assert!(emitted <= drafts.len() + 1 && (emitted > 0 || verdict.finish.is_some()), "{emitted} emitted");
                verdict.finish
            } else {
                let batch = stream.next().await?;
                assert!(batch.as_ref().is_some_and(|batch| !batch.ids.is_empty() || batch.finish.is_some()));
                batch.and_then(|batch| batch.finish)
            };
            if finish.is_some() {
                stream.close().await;
                return Ok(());
            }
        }
        // Every message needs a piece, so no answer is longer than that.
        Err(LinkError::Protocol("more messages than were sent"))
    };
    if let Err(error) = RUNTIME.with(|runtime| runtime.block_on(conversation)) {
        assert!(!matches!(error, LinkError::WrongUse(_) | LinkError::Timeout { .. }), "{error}");
        assert_ne!(error, LinkError::Protocol("more messages than were sent"));
        // A hub's reason goes into the POP's log and metrics.
        assert!(error.to_string().len() < 64 << 10 && !error.name().is_empty());
    }
}

thread_local! {
    /// For the timeouts, none of which can strike: whatever the hub says is there from the beginning.
    static RUNTIME: tokio::runtime::Runtime = runtime();
}

#[expect(clippy::expect_used, reason = "a machine without timers fuzzes nothing")]
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("no runtime")
}

async fn open(pieces: Vec<Piece>, mode: proto::Mode, named_blocks: usize) -> Result<VerifyStream, LinkError> {
    let ids: Vec<u32> = (0..).take(named_blocks * BLOCK_TOKENS + REST).collect();
    let chain = PrefixChain::of(ChainKey { salt: [1; 16], model_digest: [2; 32] }, &ids);
    let (up, outgoing) = mpsc::channel::<Up>(MAX_PIECES);
    let hub = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let answer = Answer { frames: pieces.iter().map(frame).collect(), asked: request.into_body() };
        async move { Ok::<_, Infallible>(http::Response::new(answer)) }
    });
    let called = VerifierClient::new(hub).verify(tonic::Request::new(ReceiverStream::new(outgoing))).await;
    let down = called.map_err(|status| LinkError::from_status(&status))?.into_inner();
    let asked = Asked {
        shared: shared(),
        account: Ledger::new(Arc::default()).open(),
        occupied: Arc::new(Slot::default()).occupy(),
        mode,
        named_blocks,
        ids,
        chain: Some(chain),
    };
    VerifyStream::begin(asked, up, down).await
}

/// What all streams of a link share. The files of its identity are made once and left to the system's tidying.
#[expect(clippy::expect_used, reason = "a machine without a temporary folder fuzzes nothing")]
fn shared() -> Arc<Shared> {
    static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
    let make = || {
        let folder = std::env::temp_dir().join(format!("obsidian-fuzzing-{}", std::process::id()));
        let identity = DevelopmentCa::create_or_open(&folder).and_then(|authority| authority.issue("pop"));
        let _ = std::fs::remove_dir_all(&folder);
        let tls = identity.and_then(|identity| ClientTls::new(&identity)).expect("no identity");
        let options = LinkOptions { request_timeout: Duration::from_secs(3_600), ..LinkOptions::default() };
        Arc::new(Shared::new("localhost:1", tls, options).expect("a host and a port"))
    };
    SHARED.get_or_init(make).clone()
}

/// The hub's side of the stream: listens to everything, and says what it was going to say anyway.
struct Answer {
    frames: VecDeque<Frame<Bytes>>,
    asked: tonic::body::Body,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut self.asked).poll_frame(context) {}
        Poll::Ready(self.frames.pop_front().map(Ok))
    }
}

fn frame(piece: &Piece) -> Frame<Bytes> {
    if piece.stream < 3 { Frame::data(piece.bytes.clone()) } else { Frame::trailers(trailers(&piece.bytes)) }
}

/// A status, and a refusal beside it whose code and delay may be nonsense.
fn trailers(bytes: &[u8]) -> http::HeaderMap {
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let text = |from: usize| http::HeaderValue::from_bytes(bytes.get(from..).unwrap_or_default()).ok();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from(u16::from(at(5) % 20)));
    let code = Code::ALL.get(usize::from(at(6))).map(|code| http::HeaderValue::from_static(code.as_str()));
    for (name, value) in [("obsidian-code", code.or_else(|| text(7))), ("grpc-message", text(7))] {
        trailers.extend(value.map(|value| (http::HeaderName::from_static(name), value)));
    }
    trailers.insert("obsidian-retry-after-ms", http::HeaderValue::from(u64::from(at(7)) << at(8).min(63)));
    trailers
}

/// Conversations as they should be, to mutate.
pub fn hub_answer_seeds() -> Vec<Vec<u8>> {
    let say = |kind: down::Kind| piece(0, &Down::from(kind));
    let opened = || say(down::Kind::Opened(Opened { version: 2, prompt_tokens: 3, ..Opened::default() }));
    let verdict = |epoch, position, accepted, next: &[u32], finish: Finish| {
        say(down::Kind::Verdict(Verdict { epoch, position, accepted, next: next.to_vec(), finish: finish.into() }))
    };
    let refusal = Refusal::new(Code::Overloaded, "full").message.into_bytes();
    let refused = [&[0b0111, refusal.len() as u8 + 7, 0, 0, 0, 0, 0, 0, 8, 5], refusal.as_slice()].concat();
    let speculated = [
        opened(),
        verdict(0, 3, 4, &[7], Finish::None),
        verdict(1, 8, 1, &[9], Finish::None),
        verdict(1, 10, 2, &[], Finish::End),
    ];
    let alone = [opened(), verdict(0, 3, 0, &[1, 2, 3], Finish::None), verdict(0, 6, 0, &[4], Finish::Length)];
    let prefix = [
        say(down::Kind::NeedPrefix(NeedPrefix { from: 16 })),
        opened(),
        verdict(0, 35, 0, &[5], Finish::None),
        refused.clone(),
    ];
    let seed = |how: u8, window: u8, pieces: &[Vec<u8>]| [&[how, window], pieces.concat().as_slice()].concat();
    vec![seed(0, 4, &speculated), seed(1, 0, &alone), seed(4, 2, &prefix), seed(0, 0, &[refused])]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LinkError, RUNTIME, hub_answer_seeds, hub_answers, open, pieces};
    use crate::proto::{Down, Mode, NeedPrefix, Opened, Verdict, down};

    /// What the seeds are for: that mutations begin where conversations go well.
    #[test]
    fn seeds_are_conversations() {
        let seeds = hub_answer_seeds();
        let converse = |seed: &[u8], mode, blocks, drafts: &'static [u32]| {
            let pieces = pieces(&seed[2..]);
            RUNTIME.with(|runtime| {
                runtime.block_on(async move {
                    let mut stream = open(pieces, mode, blocks).await?;
                    let mut emitted = 0;
                    loop {
                        let finish = if mode == Mode::Sync {
                            let verdict = stream.verify(drafts).await?;
                            emitted += verdict.emitted(drafts).count();
                            verdict.finish
                        } else {
                            let batch = stream.next().await?.unwrap();
                            emitted += batch.ids.len();
                            batch.finish
                        };
                        if finish.is_some() {
                            return Ok::<_, LinkError>(emitted);
                        }
                    }
                })
            })
        };
        assert_eq!(converse(&seeds[0], Mode::Sync, 0, &[1, 2, 3, 4]), Ok(9));
        assert_eq!(converse(&seeds[1], Mode::Off, 0, &[]), Ok(4));
        let refused = converse(&seeds[2], Mode::Sync, 2, &[1, 2]);
        assert!(matches!(&refused, Err(LinkError::Refused(refusal)) if refusal.message == "full"), "{refused:?}");
        let at_once = converse(&seeds[3], Mode::Sync, 0, &[]);
        assert!(matches!(&at_once, Err(LinkError::Refused(_))), "{at_once:?}");
    }

    fn said() -> impl Strategy<Value = down::Kind> {
        let verdict = (0u32..3, 0u32..60, 0u32..6, prop::collection::vec(any::<u32>(), 0..4), -1i32..4);
        prop_oneof![
            any::<u32>().prop_map(|prompt_tokens| down::Kind::Opened(Opened { prompt_tokens, ..Opened::default() })),
            prop_oneof![0u32..70, any::<u32>()].prop_map(|from| down::Kind::NeedPrefix(NeedPrefix { from })),
            verdict.prop_map(|(epoch, position, accepted, next, finish)| down::Kind::Verdict(Verdict {
                epoch,
                position,
                accepted,
                next,
                finish
            })),
        ]
    }

    proptest! {
        #[test]
        fn no_answer_breaks_a_pop(how: u8, window: u8, said in prop::collection::vec(said(), 0..8)) {
            let pieces: Vec<Vec<u8>> = said.into_iter().map(|kind| super::piece(0, &Down::from(kind))).collect();
            hub_answers(&[&[how, window], pieces.concat().as_slice()].concat());
        }

        #[test]
        fn no_bytes_break_a_pop(seed in 0usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
            let mut data = hub_answer_seeds().swap_remove(seed);
            for (at, byte) in changes {
                let at = at.index(data.len());
                data[at] = byte;
            }
            hub_answers(&data);
        }
    }
}
