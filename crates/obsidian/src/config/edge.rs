//! `obsidian edge --config FILE`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use obsidian_registry::TrustPolicy;
use obsidian_types::Residency;
use obsidian_wire::core::{CoreOptions, Upstream};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ingress::{CorsSection, ProxiesSection, TlsSection};
use super::limits::LimitsSection;
use super::node::{CoresSection, ModelsSection};
use super::{CorePeer, CoreRoute, FunctionsSection, RoleFile, TelemetrySection};
use crate::node::Ingress;

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
    /// Models beside the draft model.
    #[serde(default)]
    pub(crate) models: ModelsSection,
    /// Cores that threads stay on.
    #[serde(default)]
    pub(crate) cores: CoresSection,
    /// The router's weights: a JSON file; the shipped ones if absent.
    pub(crate) router_weights: Option<PathBuf>,
    /// `TENANT KEY` lines, or a TOML table a tenant with keys and limits; without it any bearer token is accepted, on
    /// loopback only. Read again when it changes.
    pub(crate) api_keys_file: Option<PathBuf>,
    /// How far masked data may travel.
    #[serde(default)]
    #[schemars(schema_with = "residency")]
    pub(crate) residency: Residency,
    /// Lets a listener that is not loopback speak plain HTTP, because a proxy in front of it speaks TLS.
    #[serde(default)]
    pub(crate) allow_plaintext: bool,
    /// The certificate that clients see; without it the POP speaks plain HTTP, on loopback only.
    pub(crate) tls: Option<TlsSection>,
    /// Web pages that may use the POP from a browser.
    #[serde(default)]
    pub(crate) cors: CorsSection,
    /// Proxies in front of the POP.
    #[serde(default)]
    pub(crate) proxies: ProxiesSection,
    /// How much the ingress takes.
    #[serde(default)]
    pub(crate) limits: LimitsSection,
    /// The regional hub; without it this POP answers alone.
    pub(crate) hub: Option<HubPeer>,
    /// Upstreams of the core route; without them there is none.
    #[serde(default)]
    pub(crate) core: Vec<CorePeer>,
    /// How patient the core route is with its upstreams.
    pub(crate) core_route: Option<CoreRoute>,
    /// Functions of tenants; none without this section, which may be empty.
    pub(crate) functions: Option<FunctionsSection>,
    /// Traces and metrics for an OpenTelemetry collector; off without an endpoint.
    pub(crate) telemetry: Option<TelemetrySection>,
}

impl EdgeFile {
    /// How clients reach the POP.
    pub(crate) fn ingress(&self) -> Result<Ingress, String> {
        Ok(Ingress {
            api_keys_file: self.api_keys_file.clone(),
            tls: self.tls.as_ref().map(TlsSection::files),
            allow_plaintext: self.allow_plaintext,
            cors: self.cors.cors(),
            proxies: self.proxies.proxies()?,
            limits: self.limits.limits(),
        })
    }

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
        if let Err(error) = self.limits.limits().check() {
            problems.push(error.to_string());
        }
        if self.tls.is_none() && !self.allow_plaintext && !self.listen.ip().is_loopback() {
            problems.push(format!(
                "listen = \"{}\" without [tls] would send keys and prompts in the clear: configure a certificate, or \
                 set allow_plaintext = true behind a proxy that speaks TLS",
                self.listen
            ));
        }
        problems.extend(self.cors.cors().check(self.api_keys_file.is_some()).err().map(|error| error.to_string()));
        problems.extend(self.proxies.proxies().err());
        if let Some(tls) = &self.tls {
            problems.extend(obsidian_edge::check_certificate(&tls.files()).err().map(|error| error.to_string()));
        }
        problems.extend(self.models.problems());
        let functions = self.functions.as_ref().map(FunctionsSection::cores).unwrap_or_default();
        problems.extend(self.cores.problems(functions));
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
        if let Some(functions) = &self.functions {
            problems.extend(functions.settings(&self.data_dir).err());
            problems.extend(functions.trust_policy.as_deref().and_then(unusable_policy));
        }
        if let Err(error) = self.telemetry.clone().unwrap_or_default().options("edge", &self.name) {
            problems.push(format!("{error:#}"));
        }
        problems
    }
}

/// What keeps a trust policy from being used.
fn unusable_policy(path: &Path) -> Option<String> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Err(error) => Some(format!("functions.trust_policy: cannot read {shown}: {error}")),
        Ok(text) => TrustPolicy::parse(&text).err().map(|error| format!("functions.trust_policy: {shown}: {error}")),
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
