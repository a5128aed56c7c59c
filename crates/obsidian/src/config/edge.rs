//! `obsidian edge --config FILE`.

use std::net::SocketAddr;
use std::path::PathBuf;

use obsidian_types::Residency;
use obsidian_wire::core::{CoreOptions, Upstream};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CorePeer, CoreRoute, RoleFile, TelemetrySection};

/// Configuration of a POP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "obsidian edge")]
pub(crate) struct EdgeFile {
    /// Name of this POP, shown in `x-obsidian-pop`.
    #[serde(default = "default_pop_name")]
    pub(crate) name: String,
    /// Where clients connect.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// Where keys, compiled guests and models are kept.
    pub(crate) data_dir: PathBuf,
    /// The draft model: a name from `obsidian model list` or a GGUF file; the shipped one if absent.
    pub(crate) draft_model: Option<PathBuf>,
    /// The router's weights: a JSON file; the shipped ones if absent.
    pub(crate) router_weights: Option<PathBuf>,
    /// One `TENANT KEY` pair a line; without it any bearer token is accepted, on loopback only.
    pub(crate) api_keys_file: Option<PathBuf>,
    /// How far masked data may travel.
    #[serde(default)]
    #[schemars(schema_with = "residency")]
    pub(crate) residency: Residency,
    /// The regional hub; without it this POP answers alone.
    pub(crate) hub: Option<HubPeer>,
    /// Upstreams of the core route; without them there is none.
    #[serde(default)]
    pub(crate) core: Vec<CorePeer>,
    /// How patient the core route is with its upstreams.
    pub(crate) core_route: Option<CoreRoute>,
    /// Traces and metrics for an OpenTelemetry collector; off without an endpoint.
    pub(crate) telemetry: Option<TelemetrySection>,
}

impl EdgeFile {
    /// The core route's settings, if there is one.
    pub(crate) fn core(&self) -> Result<Option<(Vec<Upstream>, CoreOptions)>, String> {
        if self.core.is_empty() {
            return match self.core_route {
                None => Ok(None),
                Some(_) => Err("core_route is set, but there is no upstream: add a [[core]] section".to_owned()),
            };
        }
        let upstreams = self.core.iter().map(CorePeer::upstream).collect::<Result<_, _>>()?;
        Ok(Some((upstreams, self.core_route.clone().unwrap_or_default().options())))
    }
}

/// How a POP reaches its hub.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubPeer {
    /// `HOST:PORT`, for example `hub.example.net:7443`.
    pub(crate) address: String,
    /// Folder with the authority that both sides trust; `data_dir/authority` if absent.
    pub(crate) authority_dir: Option<PathBuf>,
}

impl RoleFile for EdgeFile {
    const ROLE: &'static str = "edge";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.api_keys_file.is_none() && !self.listen.ip().is_loopback() {
            problems.push(format!(
                "listen = \"{}\" without api_keys_file would let anybody on the network in: name a keys file, or \
                 listen on 127.0.0.1",
                self.listen
            ));
        }
        if let Some(path) = &self.api_keys_file
            && let Err(error) = obsidian_edge::KeyTable::read(path)
        {
            problems.push(format!("api_keys_file: {error}"));
        }
        if let Some(path) = &self.router_weights
            && let Err(error) = crate::node::router_weights(Some(path))
        {
            problems.push(format!("router_weights: {error:#}"));
        }
        if let Some(hub) = &self.hub
            && hub.address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err())
        {
            problems.push(format!("hub.address = \"{}\" is not HOST:PORT", hub.address));
        }
        match self.core() {
            Err(problem) => problems.push(problem),
            Ok(Some((upstreams, options))) => {
                problems.extend(obsidian_wire::core::check(upstreams, &options).err().map(|error| error.to_string()));
            }
            Ok(None) => {}
        }
        if let Err(error) = self.telemetry.clone().unwrap_or_default().options("edge", &self.name) {
            problems.push(format!("{error:#}"));
        }
        problems
    }
}

fn default_pop_name() -> String {
    "pop".to_owned()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn residency(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["edge", "region", "anywhere"] })
}
