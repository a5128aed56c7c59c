//! Functions: what starting, answering, keeping and swapping them costs. Each file is one benchmark; this one has what
//! they share: a host of functions without stores, logs or network, and one way to ask.

pub(crate) mod burst;
pub(crate) mod density;
pub(crate) mod http;
pub(crate) mod instantiate;
pub(crate) mod isolation;
mod load;
mod peer;
mod server;
pub(crate) mod swap;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use http_body_util::BodyExt as _;
use obsidian_registry::{Artifact, Verified};
use obsidian_sandbox::functions::{
    Chat, ChatCall, ChatError, ChatStream, FunctionBody, FunctionHost, FunctionHostOptions, FunctionLog,
    FunctionModule, FunctionServices, KeyPage, KeyValue, KeyValueError, LogLine, Outbound, OutboundCall, StoreName,
    empty,
};
use obsidian_sandbox::{EngineOptions, Engines};
use obsidian_types::{FunctionGrants, FunctionLimits, OutboundError, TenantId};

/// Where compiled code and downloads are kept between runs unless told otherwise.
pub(crate) const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench");

/// A function's surroundings where it uses none: whatever it asks is refused.
struct Nothing;

const NOTHING: &str = "this benchmark has no stores";

#[async_trait]
impl KeyValue for Nothing {
    async fn get(&self, _: &StoreName, _: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
    async fn set(&self, _: &StoreName, _: &str, _: Vec<u8>) -> Result<(), KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
    async fn delete(&self, _: &StoreName, _: &str) -> Result<(), KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
    async fn exists(&self, _: &StoreName, _: &str) -> Result<bool, KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
    async fn list(&self, _: &StoreName, _: Option<&str>) -> Result<KeyPage, KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
    async fn increment(&self, _: &StoreName, _: &str, _: i64) -> Result<i64, KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
    async fn compare_and_swap(
        &self,
        _: &StoreName,
        _: &str,
        _: Option<Vec<u8>>,
        _: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, KeyValueError> {
        Err(KeyValueError::Failed(NOTHING.to_owned()))
    }
}

#[async_trait]
impl Outbound for Nothing {
    async fn send(&self, call: OutboundCall) -> Result<::http::Response<FunctionBody>, OutboundError> {
        let host = call.request.uri().host().unwrap_or_default().to_owned();
        Err(OutboundError::Resolve { host, reason: "this benchmark has no network".to_owned() })
    }
}

impl Chat for Nothing {
    fn ask(&self, call: ChatCall) -> Result<ChatStream, ChatError> {
        Err(ChatError::UnknownModel(call.model))
    }
}

impl FunctionLog for Nothing {
    fn write(&self, _: LogLine) {}
}

fn engines(directory: &Path) -> anyhow::Result<Engines> {
    Ok(Engines::new(&EngineOptions { function_instances: 8, ..EngineOptions::new(directory.join("aot")) })?)
}

fn host(engines: &Engines, options: &FunctionHostOptions) -> anyhow::Result<FunctionHost> {
    let nothing = Arc::new(Nothing);
    let services =
        FunctionServices { key_value: nothing.clone(), outbound: nothing.clone(), chat: nothing.clone(), log: nothing };
    Ok(FunctionHost::new(engines, options, services)?)
}

fn grants(limits: FunctionLimits) -> FunctionGrants {
    FunctionGrants { limits, ..FunctionGrants::default() }
}

fn load(
    host: &FunctionHost,
    artifact: &Verified<Artifact>,
    tenant: &str,
    limits: FunctionLimits,
) -> anyhow::Result<FunctionModule> {
    Ok(host.load(artifact, &TenantId::new(tenant), grants(limits))?)
}

fn request(path: &str) -> anyhow::Result<::http::Request<FunctionBody>> {
    Ok(::http::Request::get(path).header("host", "bench").body(empty())?)
}

/// One request, answered to its last byte.
async fn ask(function: &FunctionModule, path: &str) -> anyhow::Result<()> {
    let response = function.call(request(path)?).await?;
    ensure!(response.status() == 200, "the function answered {}", response.status());
    response.into_body().collect().await.context("the answer broke off")?;
    Ok(())
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[index - 1]
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
