//! The administration's routes: JSON in, JSON out, errors as `{"error": {"code", "message"}}`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use futures::stream::{self, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use obsidian_registry::{Digest, Envelope};
use obsidian_types::TenantId;
use obsidian_types::limits::{MAX_ADMIN_BODY_BYTES, MAX_COMPONENT_BYTES};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::super::changes::{Changed, Deploy, ShadowStart, Signature};
use super::super::logs::{Entry, Following};
use super::super::{ChangeError, Functions};

/// Lines of a log that are told when nobody says how many.
const DEFAULT_LINES: usize = 100;

pub(super) fn routes(functions: Functions) -> Router {
    Router::new()
        .route("/v1/functions", get(list).post(deploy))
        .route("/v1/functions/{tenant}/{name}", get(one).delete(remove))
        .route("/v1/functions/{tenant}/{name}/rollback", post(roll_back))
        .route("/v1/functions/{tenant}/{name}/logs", get(logs))
        .route("/v1/functions/{tenant}/{name}/shadow", put(start_shadow).get(shadow).delete(stop_shadow))
        .route("/v1/artifacts/{digest}", put(upload).head(has))
        .fallback(no_such_path)
        .with_state(functions)
}

/// An error of the administration.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    answer(status, &json!({ "error": { "code": code, "message": message } }))
}

pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text + "\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn refused(change: &ChangeError) -> Response {
    let (status, code) = change.kind();
    error(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), code, &change.to_string())
}

fn told<T: Serialize>(done: Result<T, ChangeError>) -> Response {
    match done {
        Ok(done) => answer(StatusCode::OK, &done),
        Err(change) => refused(&change),
    }
}

async fn no_such_path() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "The administration has no such path.")
}

/// A component by digest, with the envelope's text as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedShape {
    pub(super) digest: Digest,
    pub(super) envelope: Value,
}

impl SignedShape {
    pub(super) fn read(self) -> Result<Signature, ChangeError> {
        let text = self.envelope.to_string();
        let envelope = Envelope::parse(text.as_bytes()).map_err(obsidian_registry::Refusal::from)?;
        Ok(Signature { digest: self.digest, envelope })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployShape {
    #[serde(default = "default_tenant")]
    tenant: String,
    name: Option<String>,
    root: Option<SignedShape>,
    #[serde(default)]
    parts: BTreeMap<String, Option<SignedShape>>,
    public: Option<bool>,
    hosts: Option<BTreeSet<String>>,
    #[serde(default)]
    allow_older: bool,
    #[serde(default)]
    quick: bool,
}

fn default_tenant() -> String {
    "default".to_owned()
}

impl DeployShape {
    fn read(self) -> Result<Deploy, ChangeError> {
        let parts = self.parts.into_iter().map(|(name, part)| Ok((name, part.map(SignedShape::read).transpose()?)));
        Ok(Deploy {
            tenant: tenant(&self.tenant)?,
            name: self.name,
            root: self.root.map(SignedShape::read).transpose()?,
            parts: parts.collect::<Result<_, ChangeError>>()?,
            public: self.public,
            hosts: self.hosts,
            allow_older: self.allow_older,
            quick: self.quick,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShadowShape {
    root: SignedShape,
    #[serde(default = "all")]
    percent: u8,
    #[serde(default)]
    outbound: bool,
}

fn all() -> u8 {
    100
}

#[derive(Serialize)]
struct ChangedShape {
    tenant: TenantId,
    name: String,
    path: String,
    version: String,
    digest: String,
    previous: Option<String>,
    denied: Vec<String>,
    quick: bool,
    load_us: u64,
    warm_us: u64,
    switch_us: u64,
}

impl From<Changed> for ChangedShape {
    fn from(changed: Changed) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            path: format!("/fn/{}/", changed.name),
            tenant: changed.tenant,
            name: changed.name,
            version: changed.version,
            digest: changed.digest.to_string(),
            previous: changed.previous,
            denied: changed.denied,
            quick: changed.quick,
            load_us: micros(changed.load),
            warm_us: micros(changed.warm),
            switch_us: micros(changed.switch),
        }
    }
}

fn tenant(name: &str) -> Result<TenantId, ChangeError> {
    crate::keys::tenant_name(name).map_err(ChangeError::Invalid)
}

/// A JSON body of bounded length.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ChangeError> {
    let bytes = axum::body::to_bytes(body, MAX_ADMIN_BODY_BYTES).await;
    let bytes = bytes.map_err(|error| ChangeError::Invalid(format!("the body cannot be read: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ChangeError::Invalid(format!("the body is not as it must be: {error}")))
}

async fn list(State(functions): State<Functions>) -> Response {
    answer(StatusCode::OK, &json!({ "functions": functions.list() }))
}

async fn one(State(functions): State<Functions>, Path((owner, name)): Path<(String, String)>) -> Response {
    told(tenant(&owner).and_then(|owner| functions.view(&owner, &name)))
}

async fn deploy(State(functions): State<Functions>, body: Body) -> Response {
    let change = async { functions.deploy(read::<DeployShape>(body).await?.read()?).await };
    told(change.await.map(ChangedShape::from))
}

async fn roll_back(State(functions): State<Functions>, Path((owner, name)): Path<(String, String)>) -> Response {
    let change = async { functions.roll_back(&tenant(&owner)?, &name).await };
    told(change.await.map(ChangedShape::from))
}

async fn remove(State(functions): State<Functions>, Path((owner, name)): Path<(String, String)>) -> Response {
    let change = async { functions.remove(&tenant(&owner)?, &name).await };
    told(change.await.map(|()| json!({ "removed": name })))
}

async fn start_shadow(
    State(functions): State<Functions>,
    Path((owner, name)): Path<(String, String)>,
    body: Body,
) -> Response {
    let change = async {
        let shape: ShadowShape = read(body).await?;
        let (percent, outbound) = (shape.percent, shape.outbound);
        let start = ShadowStart { root: shape.root.read()?, percent, outbound };
        let owner = tenant(&owner)?;
        functions.start_shadow(&owner, &name, start).await?;
        functions.shadow_report(&owner, &name)
    };
    told(change.await)
}

async fn shadow(State(functions): State<Functions>, Path((owner, name)): Path<(String, String)>) -> Response {
    told(tenant(&owner).and_then(|owner| functions.shadow_report(&owner, &name)))
}

async fn stop_shadow(State(functions): State<Functions>, Path((owner, name)): Path<(String, String)>) -> Response {
    let change = async { functions.stop_shadow(&tenant(&owner)?, &name).await };
    told(change.await)
}

fn digest(text: &str) -> Result<Digest, ChangeError> {
    text.parse().map_err(|error| ChangeError::Invalid(format!("{error}")))
}

async fn has(State(functions): State<Functions>, Path(name): Path<String>) -> StatusCode {
    match digest(&name) {
        Ok(digest) if functions.has(digest) => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    }
}

async fn upload(State(functions): State<Functions>, Path(name): Path<String>, body: Body) -> Response {
    let change = async {
        let digest = digest(&name)?;
        let bytes = axum::body::to_bytes(body, MAX_COMPONENT_BYTES).await.map_err(|error| {
            ChangeError::Invalid(format!("the component cannot be read (at most {MAX_COMPONENT_BYTES} bytes): {error}"))
        })?;
        functions.upload(digest, bytes.into()).await
    };
    told(change.await.map(|()| json!({ "uploaded": name })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
}

async fn logs(
    State(functions): State<Functions>,
    Path((owner, name)): Path<(String, String)>,
    Query(query): Query<LogsQuery>,
) -> Response {
    let lines = query.lines.unwrap_or(DEFAULT_LINES);
    let following = tenant(&owner).and_then(|owner| functions.logs(&owner, &name, lines));
    let Following { kept, coming } = match following {
        Ok(following) => following,
        Err(change) => return refused(&change),
    };
    let kept = stream::iter(kept).map(|entry| line(&entry));
    let body = if query.follow {
        let coming = stream::unfold(coming, |mut coming| async move {
            match coming.recv().await {
                Ok(entry) => Some((line(&entry), coming)),
                Err(RecvError::Lagged(count)) => Some((missed(count), coming)),
                Err(RecvError::Closed) => None,
            }
        });
        Body::from_stream(kept.chain(coming))
    } else {
        Body::from_stream(kept)
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn line(entry: &Arc<Entry>) -> Result<Bytes, std::convert::Infallible> {
    Ok(Bytes::from(serde_json::to_string(&**entry).unwrap_or_default() + "\n"))
}

/// A reader that was too slow is told what it missed.
fn missed(count: u64) -> Result<Bytes, std::convert::Infallible> {
    Ok(Bytes::from(json!({ "missed": count }).to_string() + "\n"))
}
