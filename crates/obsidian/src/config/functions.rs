//! `[functions]` of a POP: whose modules run, what they are granted, how much they may use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use obsidian_edge::functions::{AdminTcp, EnvironmentValue, FunctionSettings, Grant, Granted, NodePolicy, generous};
use obsidian_types::{FunctionLimits, OutboundGrant, TenantId};
use schemars::JsonSchema;
use serde::Deserialize;

/// Functions of tenants: WebAssembly components that answer HTTP. Without this section the POP runs none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FunctionsSection {
    /// Whose signatures count, and how many must agree; the data directory's own development key if absent.
    pub(crate) trust_policy: Option<PathBuf>,
    /// The administration's Unix socket; `admin.sock` in the data directory if absent.
    admin_socket: Option<PathBuf>,
    /// The administration over TCP too, on a loopback address; needs `admin_token_file`.
    admin_listen: Option<SocketAddr>,
    /// File whose only line is the token that requests to `admin_listen` must carry.
    admin_token_file: Option<PathBuf>,
    /// Host names that lead to functions: `"shop.example.net" = "shop"` for a public one, `"TENANT/shop"` for any.
    hosts: BTreeMap<String, String>,
    /// Threads on which functions run; as many as there are processors if absent.
    threads: Option<usize>,
    /// Processors to pin those threads to, in turn.
    cores: Vec<usize>,
    /// Instances alive at once, over all functions; 1000 if absent.
    instances: Option<u32>,
    /// Requests that run at once, over all functions; 256 if absent.
    running: Option<u32>,
    /// Requests of one tenant that run and wait at once, 256 if absent; beyond it 429.
    tenant_concurrency: Option<u32>,
    /// Bytes that one tenant's key-value stores may hold, 64 MiB if absent.
    tenant_store_bytes: Option<u64>,
    /// Certificates that functions' requests outwards believe beside the system's, PEM.
    ca_file: Option<PathBuf>,
    /// The highest limits that a function may have.
    ceilings: CeilingsSection,
    /// What is granted to whom; several that apply add up. A function gets what its signed manifest asks for and a
    /// grant allows.
    #[serde(rename = "grant")]
    grants: Vec<GrantSection>,
}

/// The highest limits that a function may have; what its manifest asks for beyond them is lowered.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CeilingsSection {
    /// Linear memory of one instance, bytes; 256 MiB if absent.
    memory_bytes: Option<u64>,
    /// Whether memory may grow after the start; true if absent.
    memory_growth: Option<bool>,
    /// Elements over all tables of one instance, 100000 if absent.
    table_elements: Option<u32>,
    /// Requests of one function that run at once, 1024 if absent.
    concurrency: Option<u32>,
    /// Requests of one function that wait for a place, 4096 if absent; beyond it 429.
    queue: Option<u32>,
    /// Wall time of one request, milliseconds; 300000 if absent. Then 504.
    wall_ms: Option<u64>,
    /// Processor time of one request, milliseconds; 30000 if absent. Then 504.
    cpu_ms: Option<u64>,
    /// Instructions of one request, counted for every function if set, which costs speed. Then 504.
    fuel: Option<u64>,
    /// Longest request body, bytes; 1 GiB if absent. Then 413.
    request_body_bytes: Option<u64>,
    /// Longest response body, bytes; 1 GiB if absent.
    response_body_bytes: Option<u64>,
    /// Outbound requests in flight in one instance, 64 if absent.
    outbound_connections: Option<u32>,
    /// Requests that one instance may answer before it is thrown away, 10000 if absent; 1 gives every request a fresh
    /// one.
    reuse: Option<u32>,
}

impl CeilingsSection {
    fn limits(&self) -> FunctionLimits {
        let base = generous();
        FunctionLimits {
            memory_bytes: self.memory_bytes.unwrap_or(base.memory_bytes),
            memory_growth: self.memory_growth.unwrap_or(base.memory_growth),
            table_elements: self.table_elements.unwrap_or(base.table_elements),
            concurrency: self.concurrency.unwrap_or(base.concurrency),
            queue: self.queue.unwrap_or(base.queue),
            wall_ms: self.wall_ms.unwrap_or(base.wall_ms),
            cpu_ms: self.cpu_ms.unwrap_or(base.cpu_ms),
            fuel: self.fuel.or(base.fuel),
            request_body_bytes: self.request_body_bytes.unwrap_or(base.request_body_bytes),
            response_body_bytes: self.response_body_bytes.unwrap_or(base.response_body_bytes),
            outbound_connections: self.outbound_connections.unwrap_or(base.outbound_connections),
            reuse: self.reuse.unwrap_or(base.reuse),
        }
    }
}

/// Some grants to some functions.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GrantSection {
    /// Only this tenant's functions; all tenants' if absent.
    tenant: Option<String>,
    /// Only modules signed under this name; all if absent.
    module: Option<String>,
    /// Hosts with public addresses, `HOST` or `HOST:PORT`; `"*"` grants whichever a module asks for.
    outbound: Vec<String>,
    /// Hosts that may have private, loopback or link-local addresses, each by name.
    private: Vec<String>,
    /// Key-value stores; `"*"` grants whichever a module asks for.
    stores: Vec<String>,
    /// Models; `"*"` grants whichever a module asks for.
    models: Vec<String>,
    /// Environment and configuration values.
    environment: BTreeMap<String, String>,
    /// The same from files, for secrets; read at each deployment.
    environment_files: BTreeMap<String, PathBuf>,
}

impl GrantSection {
    fn grant(&self) -> Result<Grant, String> {
        let host = |text: &String| text.parse::<OutboundGrant>().map_err(|error| format!("functions.grant: {error}"));
        if self.private.iter().any(|host| host == "*") {
            return Err(
                "functions.grant.private names hosts one by one: \"*\" would open this whole network".to_owned()
            );
        }
        let mut environment: BTreeMap<_, _> =
            self.environment.iter().map(|(key, text)| (key.clone(), EnvironmentValue::Text(text.clone()))).collect();
        for (key, path) in &self.environment_files {
            if environment.insert(key.clone(), EnvironmentValue::File(path.clone())).is_some() {
                return Err(format!("functions.grant gives the environment value {key} twice"));
            }
        }
        Ok(Grant {
            tenant: self.tenant.as_deref().map(TenantId::new),
            module: self.module.clone(),
            outbound: names(&self.outbound, host)?,
            private: self.private.iter().map(host).collect::<Result<_, _>>()?,
            stores: names(&self.stores, |name| Ok(name.clone()))?,
            models: names(&self.models, |name| Ok(name.clone()))?,
            environment,
        })
    }
}

fn names<T>(list: &[String], read: impl Fn(&String) -> Result<T, String>) -> Result<Granted<T>, String> {
    if list.iter().any(|name| name == "*") {
        return Ok(Granted::All);
    }
    Ok(Granted::Some(list.iter().map(read).collect::<Result<_, _>>()?))
}

impl FunctionsSection {
    /// Cores that functions stay on.
    pub(crate) fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// The section of a file of its own, as `obsidian up --functions-file` takes it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    /// Where the administration listens, beside its socket.
    pub(crate) fn admin_listen(&self) -> Option<SocketAddr> {
        self.admin_listen
    }

    /// As the POP takes it; `data` is its data directory.
    pub(crate) fn settings(&self, data: &Path) -> Result<FunctionSettings, String> {
        let mut settings = FunctionSettings::new(data);
        if let Some(path) = &self.trust_policy {
            settings.trust_policy.clone_from(path);
        }
        if let Some(path) = &self.admin_socket {
            settings.admin_socket.clone_from(path);
        }
        settings.admin_tcp = match (self.admin_listen, &self.admin_token_file) {
            (None, None) => None,
            (Some(listen), Some(file)) => Some(AdminTcp { listen, token_file: file.clone() }),
            _ => return Err("functions.admin_listen and functions.admin_token_file go together".to_owned()),
        };
        settings.hosts.clone_from(&self.hosts);
        settings.threads = self.threads.unwrap_or(settings.threads);
        settings.cores.clone_from(&self.cores);
        settings.instances = self.instances.unwrap_or(settings.instances);
        settings.running = self.running.unwrap_or(settings.running);
        settings.tenant_concurrency = self.tenant_concurrency.unwrap_or(settings.tenant_concurrency);
        settings.tenant_store_bytes = self.tenant_store_bytes.unwrap_or(settings.tenant_store_bytes);
        settings.authorities.clone_from(&self.ca_file);
        let grants = self.grants.iter().map(GrantSection::grant).collect::<Result<_, _>>()?;
        settings.policy = NodePolicy { ceilings: self.ceilings.limits(), grants };
        settings.check().map_err(|error| error.to_string())?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::FunctionsSection;

    fn settings(text: &str) -> Result<obsidian_edge::functions::FunctionSettings, String> {
        toml::from_str::<FunctionsSection>(text).map_err(|error| error.to_string())?.settings(Path::new("/data"))
    }

    #[test]
    fn a_section_becomes_settings() {
        let text = "trust_policy = \"/etc/trust.toml\"\nhosts = { \"shop.example.net\" = \"shop\" }\nrunning = 7\n\
                    [ceilings]\nmemory_bytes = 1000\n[[grant]]\nmodule = \"shop\"\noutbound = [\"api.example.net\"]\n\
                    stores = [\"*\"]\nenvironment = { A = \"1\" }\n";
        let settings = settings(text).unwrap();
        assert_eq!(settings.trust_policy, Path::new("/etc/trust.toml"));
        assert_eq!((settings.running, settings.policy.ceilings.memory_bytes), (7, 1000));
        assert_eq!(settings.admin_socket, Path::new("/data/admin.sock"));
        assert_eq!(settings.policy.grants.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, told) in [
            ("[[grant]]\noutbound = [\"https://a\"]\n", "names no host"),
            ("[[grant]]\nprivate = [\"*\"]\n", "one by one"),
            ("admin_listen = \"127.0.0.1:1\"\n", "go together"),
            ("admin_listen = \"10.0.0.1:1\"\nadmin_token_file = \"t\"\n", "loopback"),
            ("running = 0\n", "outside 1 to"),
            ("hosts = { \"A:80\" = \"x\" }\n", "no host name"),
            ("[[grant]]\nenvironment = { A = \"1\" }\nenvironment_files = { A = \"f\" }\n", "twice"),
            ("colour = 1\n", "colour"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
