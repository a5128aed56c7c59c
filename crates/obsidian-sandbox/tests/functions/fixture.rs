//! One host of functions for all tests of a process, and short words for calling it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use obsidian_registry::{Artifact, Digest, Verified};
use obsidian_sandbox::functions::{
    BodyError, FunctionBody, FunctionError, FunctionHost, FunctionHostOptions, FunctionModule, FunctionServices,
    LogLine, empty, full,
};
use obsidian_sandbox::{EngineOptions, Engines, SandboxError};
use obsidian_types::{FunctionGrants, FunctionLimits, TenantId};

use crate::services::{Client, Lines, Models, Stores};

/// Compiled code shared by all tests and runs.
fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aot")
}

/// A node's host of functions and what it writes to.
pub(crate) struct Node {
    pub(crate) host: FunctionHost,
    lines: Arc<Lines>,
    pub(crate) models: Arc<Models>,
}

impl Node {
    pub(crate) fn new(options: &FunctionHostOptions) -> Self {
        let engines = Engines::new(&EngineOptions { function_instances: 4, ..EngineOptions::new(cache()) });
        let lines = Arc::new(Lines::default());
        let models = Arc::new(Models::default());
        let services = FunctionServices {
            key_value: Arc::new(Stores::default()),
            outbound: Arc::new(Client::default()),
            chat: models.clone(),
            log: lines.clone(),
        };
        let host = FunctionHost::new(&engines.expect("engines start"), options, services).expect("the host starts");
        Self { host, lines, models }
    }

    /// Loads a function for a tenant.
    pub(crate) fn load(&self, artifact: &Verified<Artifact>, tenant: &str, grants: FunctionGrants) -> FunctionModule {
        self.try_load(artifact, tenant, grants).expect("the function loads")
    }

    pub(crate) fn try_load(
        &self,
        artifact: &Verified<Artifact>,
        tenant: &str,
        grants: FunctionGrants,
    ) -> Result<FunctionModule, SandboxError> {
        self.host.load(artifact, &tenant_id(tenant), grants)
    }

    /// The tenant's log so far.
    pub(crate) fn log(&self, tenant: &str) -> Vec<LogLine> {
        self.lines.of(tenant)
    }

    /// Waits until the tenant's log has a line that contains `text`.
    pub(crate) async fn logged(&self, tenant: &str, text: &str) -> LogLine {
        let mut found = None;
        eventually("the log line", || {
            found = self.log(tenant).into_iter().find(|line| line.text.contains(text));
            found.is_some()
        })
        .await;
        found.expect("it was found")
    }
}

pub(crate) fn tenant_id(tenant: &str) -> TenantId {
    TenantId::new(tenant)
}

/// Room for a few dozen instances on two threads.
pub(crate) fn small() -> FunctionHostOptions {
    FunctionHostOptions { threads: 2, cores: Vec::new(), instances: 64, running: 32 }
}

pub(crate) fn node() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| Node::new(&small()))
}

/// The function that uses every host interface.
pub(crate) fn conformance(tenant: &str, grants: FunctionGrants) -> FunctionModule {
    let artifact = obsidian_guests::functions_conformance().expect("the embedded bytes are the pinned ones");
    node().load(&artifact, tenant, grants)
}

/// The function that misbehaves.
pub(crate) fn hostile(tenant: &str, limits: FunctionLimits) -> FunctionModule {
    let artifact = obsidian_guests::hostile_function().expect("the embedded bytes are the pinned ones");
    node().load(&artifact, tenant, FunctionGrants { limits, ..FunctionGrants::default() })
}

/// Limits that a test reaches in a moment; the wall time leaves room for a machine that is busy with something else.
pub(crate) fn short() -> FunctionLimits {
    FunctionLimits { cpu_ms: 100, wall_ms: 60_000, ..FunctionLimits::default() }
}

/// An artifact of bytes made here.
pub(crate) fn artifact(name: &str, bytes: Vec<u8>) -> Verified<Artifact> {
    let bytes: &'static [u8] = bytes.leak();
    Verified::embedded(name, bytes, Digest::of(bytes)).expect("the digest is theirs")
}

/// The same component in bytes that nobody has compiled yet.
pub(crate) fn fresh(component: &Verified<Artifact>) -> Verified<Artifact> {
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let (name, content) = (b"moment", moment.to_le_bytes());
    let mut bytes = component.bytes.to_vec();
    // A custom section at the end: identifier, length, length of the name, name, content.
    bytes.extend([0, (1 + name.len() + content.len()) as u8, name.len() as u8]);
    bytes.extend(name.iter().chain(&content));
    artifact(&component.name, bytes)
}

pub(crate) fn request(method: &str, path: &str, body: FunctionBody) -> Request<FunctionBody> {
    let builder = Request::builder().method(method).uri(path).header("host", "function.example");
    builder.body(body).expect("a request")
}

pub(crate) async fn get(module: &FunctionModule, path: &str) -> Result<Response<FunctionBody>, FunctionError> {
    module.call(request("GET", path, empty())).await
}

/// A GET with headers.
pub(crate) async fn get_with(
    module: &FunctionModule,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Response<FunctionBody>, FunctionError> {
    let mut call = request("GET", path, empty());
    for (name, value) in headers {
        call.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    module.call(call).await
}

pub(crate) async fn post(
    module: &FunctionModule,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<Response<FunctionBody>, FunctionError> {
    module.call(request("POST", path, full(body))).await
}

/// The whole body as text. A body that breaks off fails the test.
pub(crate) async fn text(response: Response<FunctionBody>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Status and whole body of a GET.
pub(crate) async fn answer(module: &FunctionModule, path: &str) -> (StatusCode, String) {
    let response = get(module, path).await.expect("an answer");
    (response.status(), text(response).await)
}

/// What a body held before it ended, and why it broke off, if it did.
pub(crate) async fn drained(response: Response<FunctionBody>) -> (Vec<u8>, Option<BodyError>) {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(_)) => (),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

/// A request body that is fed piece by piece.
pub(crate) struct Feed(mpsc::Sender<Result<Frame<Bytes>, BodyError>>);

impl Feed {
    pub(crate) fn new() -> (Self, FunctionBody) {
        let (sender, receiver) = mpsc::channel(0);
        (Self(sender), StreamBody::new(receiver.boxed()).boxed_unsync())
    }

    pub(crate) async fn data(&mut self, bytes: impl Into<Bytes>) {
        self.0.send(Ok(Frame::data(bytes.into()))).await.expect("the function still reads");
    }

    pub(crate) async fn trailers(&mut self, trailers: HeaderMap) {
        self.0.send(Ok(Frame::trailers(trailers))).await.expect("the function still reads");
    }

    pub(crate) async fn break_off(&mut self) {
        let error = BodyError::BrokenOff("the client left".to_owned());
        self.0.send(Err(error)).await.expect("the function still reads");
    }
}

/// Waits until something holds, which it must within ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
