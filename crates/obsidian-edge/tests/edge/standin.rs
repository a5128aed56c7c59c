//! A stand-in for the hub: the real protocol over real TLS, with a "model" that always says the same.
//! (The real hub lives above this crate; the two meet in the end-to-end tests of the binary.)

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use obsidian_sandbox::Drafter;
use obsidian_wire::proto::verifier_server::Verifier;
use obsidian_wire::proto::{
    DescribeReply, DescribeRequest, Down, Finish, Mode, NeedPrefix, Open, Opened, Up, Verdict, down, up,
};
use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkOptions, ServerTls, Serving, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

/// What the stand-in says, whatever it is asked.
pub(crate) const ANSWER: &str = "The order 12 was sent on Monday, and it arrives on Friday.";

/// Ids from here on are control tokens of the shipped models.
const FIRST_CONTROL_TOKEN: u32 = 2_045;

/// A hub that says [`ANSWER`].
#[derive(Clone)]
struct StandIn {
    answer: Arc<[u32]>,
    end: u32,
    vocabulary: Vec<u8>,
    manner: Manner,
    streams: Arc<AtomicUsize>,
    prompts: Arc<Mutex<Vec<u32>>>,
}

/// How the stand-in behaves.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Breaks each stream after so many ids.
    pub(crate) break_after: usize,
    /// Says the prompt again (its control tokens left out) instead of [`ANSWER`].
    pub(crate) echo: bool,
    /// Thinks so long about each message.
    pub(crate) pause: Duration,
}

/// A hub that does its work.
pub(crate) const WELL: Manner = Manner { break_after: usize::MAX, echo: false, pause: Duration::ZERO };

/// One stream: prompt and answer so far.
struct Lane {
    ids: Vec<u32>,
    suffix: Vec<u32>,
    answer: Arc<[u32]>,
    emitted: usize,
    max_tokens: usize,
    mode: Mode,
}

impl StandIn {
    /// The next id after `ids`: what follows the longest beginning of the answer they end with.
    fn next(&self, lane: &Lane) -> u32 {
        let said = (0..=lane.answer.len()).rev().find(|&said| lane.ids.ends_with(&lane.answer[..said])).unwrap_or(0);
        lane.answer.get(if self.manner.echo { lane.emitted } else { said }).copied().unwrap_or(self.end)
    }

    fn answer(&self, lane: &mut Lane, message: up::Kind) -> Vec<Result<down::Kind, Status>> {
        match message {
            up::Kind::Open(open) => self.open(lane, open),
            up::Kind::Append(append) => {
                lane.ids.extend(append.ids);
                lane.ids.append(&mut lane.suffix);
                self.opened(lane)
            }
            up::Kind::Draft(draft) => vec![self.verdict(lane, &draft.ids)],
            _ => Vec::new(),
        }
    }

    fn open(&self, lane: &mut Lane, open: Open) -> Vec<Result<down::Kind, Status>> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        lane.mode = open.mode();
        lane.max_tokens = open.max_tokens as usize;
        lane.suffix = open.suffix;
        if open.prefix.is_some() {
            // It keeps nothing between streams.
            return vec![Ok(down::Kind::NeedPrefix(NeedPrefix { from: 0 }))];
        }
        lane.ids.append(&mut lane.suffix);
        self.opened(lane)
    }

    fn opened(&self, lane: &mut Lane) -> Vec<Result<down::Kind, Status>> {
        let prompt_tokens = lane.ids.len() as u32;
        self.prompts.lock().expect("no test panicked here").extend(&lane.ids);
        if self.manner.echo {
            lane.answer = lane.ids.iter().copied().filter(|&id| id < FIRST_CONTROL_TOKEN).collect();
        }
        let mut sent = vec![Ok(down::Kind::Opened(Opened { version: 1, prompt_tokens, ..Opened::default() }))];
        while lane.mode == Mode::Off {
            let verdict = self.verdict(lane, &[]);
            let over = match &verdict {
                Ok(down::Kind::Verdict(verdict)) => verdict.finish() != Finish::None,
                _ => true,
            };
            sent.push(verdict);
            if over {
                break;
            }
        }
        sent
    }

    fn verdict(&self, lane: &mut Lane, drafts: &[u32]) -> Result<down::Kind, Status> {
        let position = lane.ids.len() as u32;
        let mut verdict = Verdict { position, ..Verdict::default() };
        for draft in drafts.iter().map(Some).chain([None]) {
            let next = self.next(lane);
            lane.ids.push(next);
            lane.emitted += 1;
            let accepted = draft == Some(&next);
            match accepted {
                true => verdict.accepted += 1,
                false => verdict.next.push(next),
            }
            if next == self.end {
                verdict.set_finish(Finish::End);
            } else if lane.emitted == lane.max_tokens {
                verdict.set_finish(Finish::Length);
            }
            if !accepted || verdict.finish() != Finish::None {
                break;
            }
        }
        if lane.emitted > self.manner.break_after {
            return Err(Status::unavailable("the stand-in breaks here"));
        }
        Ok(down::Kind::Verdict(verdict))
    }
}

#[tonic::async_trait]
impl Verifier for StandIn {
    type VerifyStream = BoxStream<'static, Result<Down, Status>>;

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        Ok(Response::new(DescribeReply {
            versions: vec![1],
            model: "stand-in".to_owned(),
            model_digest: vec![5; 32],
            vocabulary_digest: self.vocabulary.clone(),
            context_length: 1_024,
            end_ids: vec![self.end],
            ..DescribeReply::default()
        }))
    }

    async fn verify(&self, request: Request<Streaming<Up>>) -> Result<Response<Self::VerifyStream>, Status> {
        let hub = self.clone();
        let pause = hub.manner.pause;
        let mut lane = Lane {
            ids: Vec::new(),
            suffix: Vec::new(),
            answer: hub.answer.clone(),
            emitted: 0,
            max_tokens: 0,
            mode: Mode::Unspecified,
        };
        let answers = request
            .into_inner()
            .take_while(|message| std::future::ready(message.is_ok()))
            .then(move |message| async move {
                tokio::time::sleep(pause).await;
                message
            })
            .flat_map(move |message| {
                let kind = message.ok().and_then(|message| message.kind);
                futures::stream::iter(kind.map(|kind| hub.answer(&mut lane, kind)).unwrap_or_default())
            })
            .map(|answer| answer.map(Down::from));
        Ok(Response::new(answers.boxed()))
    }
}

/// A running stand-in with its own authority.
pub(crate) struct Site {
    directory: TempDir,
    hub: StandIn,
    address: SocketAddr,
    control: watch::Sender<Serving>,
    tasks: JoinSet<()>,
}

impl Site {
    /// Starts a hub.
    pub(crate) async fn start(drafter: &Drafter, manner: Manner) -> Self {
        let info = drafter.info();
        let digits = info.vocabulary_digest.as_bytes().chunks(2);
        let hub = StandIn {
            answer: drafter.tokenize(ANSWER).await.expect("tokens").into(),
            end: info.end_ids[0],
            vocabulary: digits
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex"))
                .collect(),
            manner,
            streams: Arc::default(),
            prompts: Arc::default(),
        };
        let directory = TempDir::new().expect("a directory");
        let (control, _) = watch::channel(Serving::Running);
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut site = Self { directory, hub, address, control, tasks: JoinSet::new() };
        site.listen().await;
        site
    }

    /// Listens, again if it was killed, where it listened before.
    pub(crate) async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the address is free");
        self.address = listener.local_addr().expect("an address");
        self.control.send_replace(Serving::Running);
        let identity = self.authority().issue("hub").expect("a certificate");
        let tls = ServerTls::new(&identity).expect("TLS");
        self.tasks.spawn(serve(listener, tls, self.hub.clone(), self.control.subscribe()));
    }

    /// Ends every connection at once, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.control.send_replace(Serving::Aborted);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Streams opened so far.
    pub(crate) fn streams(&self) -> usize {
        self.hub.streams.load(Ordering::SeqCst)
    }

    /// Every token of every prompt so far.
    pub(crate) fn prompts(&self) -> Vec<u32> {
        self.hub.prompts.lock().expect("no test panicked here").clone()
    }

    /// A link to it that stands.
    pub(crate) async fn link(&self) -> HubLink {
        let tls = ClientTls::new(&self.authority().issue("pop").expect("a certificate")).expect("TLS");
        let options = LinkOptions { longest_backoff: Duration::from_millis(100), ..LinkOptions::default() };
        let link = HubLink::new(&self.address.to_string(), tls, options).expect("a link");
        link.ready(crate::http::PATIENCE).await.expect("the hub answers");
        link
    }

    fn authority(&self) -> DevelopmentCa {
        DevelopmentCa::create_or_open(&self.directory.path().join("authority")).expect("an authority")
    }
}
