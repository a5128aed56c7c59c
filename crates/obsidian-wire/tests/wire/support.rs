//! A scripted hub and a prompt to send it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use obsidian_shield::{Masked, Prompt, TokenIds, Vault};
use obsidian_types::{Sampling, Speculation};
use obsidian_wire::proto::verifier_server::Verifier;
use obsidian_wire::proto::{DescribeReply, DescribeRequest, Down, Opened, Up, Verdict, down, up};
use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkOptions, OpenOptions, ServerTls, Serving, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

/// How the scripted hub answers one message; `None` ends the stream.
pub(crate) type Script = fn(up::Kind) -> Option<Vec<Result<down::Kind, Status>>>;

pub(crate) struct Scripted {
    script: Script,
    versions: Vec<u32>,
}

#[tonic::async_trait]
impl Verifier for Scripted {
    type VerifyStream = BoxStream<'static, Result<Down, Status>>;

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        let reply = DescribeReply {
            versions: self.versions.clone(),
            model: "scripted".to_owned(),
            model_digest: vec![5; 32],
            vocabulary_digest: vec![6; 32],
            ..DescribeReply::default()
        };
        Ok(Response::new(reply))
    }

    async fn verify(&self, request: Request<Streaming<Up>>) -> Result<Response<Self::VerifyStream>, Status> {
        let script = self.script;
        let answers = request
            .into_inner()
            .map(move |up| script(up.unwrap().kind.unwrap()))
            .take_while(|answers| std::future::ready(answers.is_some()))
            .flat_map(|answers| futures::stream::iter(answers.unwrap_or_default()))
            .map(|answer| answer.map(Down::from));
        Ok(Response::new(answers.boxed()))
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) control: watch::Sender<Serving>,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(tls: ServerTls, script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tls, script, vec![1]).await
    }

    pub(crate) async fn start_at(address: SocketAddr, tls: ServerTls, script: Script, versions: Vec<u32>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (control, told) = watch::channel(Serving::Running);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, tls, Scripted { script, versions }, told));
        Self { address, control, tasks }
    }

    pub(crate) async fn stop(mut self, how: Serving) {
        self.control.send_replace(how);
        while self.tasks.join_next().await.is_some() {}
    }
}

pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) authority: Arc<DevelopmentCa>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Arc::new(DevelopmentCa::create_or_open(&directory.path().join("ca")).unwrap());
        Self { directory, authority }
    }

    pub(crate) fn server_tls(&self) -> ServerTls {
        ServerTls::new(&self.authority.issue("hub").unwrap()).unwrap()
    }

    pub(crate) fn client_tls(&self) -> ClientTls {
        ClientTls::new(&self.authority.issue("pop").unwrap()).unwrap()
    }

    pub(crate) async fn link(&self, server: &Server) -> HubLink {
        let link = HubLink::new(&server.address.to_string(), self.client_tls(), quick()).unwrap();
        link.ready(PATIENCE).await.unwrap();
        link
    }
}

/// Far longer than anything here takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn quick() -> LinkOptions {
    LinkOptions { longest_backoff: Duration::from_millis(100), ..LinkOptions::default() }
}

pub(crate) fn options(speculation: Speculation) -> OpenOptions {
    OpenOptions {
        model: String::new(),
        vocabulary_digest: "06".repeat(32),
        numerics_id: None,
        sampling: Sampling { temperature: 0.8, seed: 42, ..Sampling::default() },
        answer_start: 0,
        speculation,
        max_tokens: 64,
        end_ids: vec![2],
        tenant_salt: [3; 16],
    }
}

pub(crate) fn masked(ids: impl IntoIterator<Item = u32>) -> Masked<TokenIds> {
    let vault = Vault::default();
    let prompt = vault.seal(Prompt::default()).unwrap();
    prompt.tokens(ids.into_iter().collect(), b"", &vault).unwrap()
}

/// Opens anything, and accepts every drafted id.
pub(crate) fn agreeable(message: up::Kind) -> Option<Vec<Result<down::Kind, Status>>> {
    match message {
        up::Kind::Open(open) => {
            let opened = Opened { version: 1, prompt_tokens: open.suffix.len() as u32, ..Opened::default() };
            Some(vec![Ok(down::Kind::Opened(opened))])
        }
        up::Kind::Draft(draft) => {
            let accepted = draft.ids.len() as u32;
            let verdict = Verdict { position: draft.position, accepted, next: vec![9], ..Verdict::default() };
            Some(vec![Ok(down::Kind::Verdict(verdict))])
        }
        up::Kind::Append(_) | up::Kind::Read(_) => Some(Vec::new()),
        up::Kind::Close(_) => None,
    }
}

/// Waits for a condition that must come true by itself.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("never reached: {what}"));
}
