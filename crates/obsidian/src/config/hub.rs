//! `obsidian hub --config FILE`.

use std::net::SocketAddr;
use std::path::PathBuf;

use obsidian_types::limits::MAX_ENGINE_THREADS;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RoleFile, TelemetrySection};

/// Configuration of a hub.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "obsidian hub")]
pub(crate) struct HubFile {
    /// Where POPs connect.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// Where keys and models are kept.
    pub(crate) data_dir: PathBuf,
    /// The target model: a name from `obsidian model list` or a GGUF file; the shipped one if absent.
    pub(crate) target_model: Option<PathBuf>,
    /// Threads that compute the model; all processors but one if absent. The answers do not depend on it.
    pub(crate) threads: Option<usize>,
    /// Memory for keys and values of all sessions, MiB.
    #[serde(default = "default_kv_budget_mib")]
    pub(crate) kv_budget_mib: u64,
    /// Names and addresses that POPs connect to, for the hub's certificate; the listener's address if empty.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Where Prometheus finds the hub's metrics; not served if absent.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Folder with the authority that both sides trust; `data_dir/authority` if absent.
    pub(crate) authority_dir: Option<PathBuf>,
    /// Traces and metrics for an OpenTelemetry collector; off without an endpoint.
    pub(crate) telemetry: Option<TelemetrySection>,
}

impl RoleFile for HubFile {
    const ROLE: &'static str = "hub";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.kv_budget_mib == 0 {
            problems.push("kv_budget_mib = 0 leaves no memory for any session: set at least 16".to_owned());
        }
        if self.threads.is_some_and(|threads| !(1..=MAX_ENGINE_THREADS).contains(&threads)) {
            problems.push(format!("threads: set 1 to {MAX_ENGINE_THREADS}, or leave it out"));
        }
        if self.listen.ip().is_unspecified() && self.names.is_empty() {
            problems.push(format!(
                "listen = \"{}\" takes every address, so the certificate needs the names POPs connect to: set names",
                self.listen
            ));
        }
        if self.metrics_listen.is_some_and(|metrics| metrics == self.listen && metrics.port() != 0) {
            problems.push("metrics_listen is the same address as listen: take another port".to_owned());
        }
        if let Err(error) = self.telemetry.clone().unwrap_or_default().options("hub", "hub") {
            problems.push(format!("{error:#}"));
        }
        problems
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7443))
}

/// 256 MiB holds about 100 conversations of the shipped target model at full length.
pub(crate) fn default_kv_budget_mib() -> u64 {
    256
}
