//! How functions run on a POP, as its operator sets it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use obsidian_types::limits::{
    DEFAULT_TENANT_FUNCTIONS, DEFAULT_TENANT_STORE_BYTES, MAX_FUNCTION_HOSTS, MAX_LIVE_FUNCTIONS, MAX_RUNNING_FUNCTIONS,
};
use obsidian_wire::outbound::Resolver;

use super::deployment::is_host;
use super::error::FunctionsError;
use super::policy::NodePolicy;

/// Longest path of a Unix socket, bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Settings of functions.
#[derive(Clone)]
pub struct FunctionSettings {
    /// Where components, records and stores are kept.
    pub directory: PathBuf,
    /// The administration's socket.
    pub admin_socket: PathBuf,
    /// The administration over TCP, if wanted.
    pub admin_tcp: Option<AdminTcp>,
    /// Whose signatures count; read at every change.
    pub trust_policy: PathBuf,
    /// What is granted to whom.
    pub policy: NodePolicy,
    /// Host names and the functions they lead to: `NAME` of a public one, or `TENANT/NAME`.
    pub hosts: BTreeMap<String, String>,
    /// Threads on which functions run.
    pub threads: usize,
    /// Cores to pin them to.
    pub cores: Vec<usize>,
    /// Instances alive at once.
    pub instances: u32,
    /// Requests that run at once.
    pub running: u32,
    /// Requests of one tenant at once.
    pub tenant_concurrency: u32,
    /// Bytes in all key-value stores of one tenant.
    pub tenant_store_bytes: u64,
    /// Certificates that outbound requests believe beside the system's.
    pub authorities: Option<PathBuf>,
    /// Another way from names to addresses than the system's.
    pub resolver: Option<Arc<dyn Resolver>>,
}

/// The administration over TCP, on this machine only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTcp {
    /// Where it listens.
    pub listen: SocketAddr,
    /// File with the token that requests must carry.
    pub token_file: PathBuf,
}

impl fmt::Debug for FunctionSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FunctionSettings")
            .field("directory", &self.directory)
            .field("admin_socket", &self.admin_socket)
            .field("trust_policy", &self.trust_policy)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl FunctionSettings {
    /// The defaults, below the node's data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        let directory = data.join("functions");
        Self {
            admin_socket: data.join("admin.sock"),
            admin_tcp: None,
            trust_policy: directory.join("trust.toml"),
            directory,
            policy: NodePolicy::default(),
            hosts: BTreeMap::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            cores: Vec::new(),
            instances: 1_000,
            running: 256,
            tenant_concurrency: DEFAULT_TENANT_FUNCTIONS,
            tenant_store_bytes: DEFAULT_TENANT_STORE_BYTES,
            authorities: None,
            resolver: None,
        }
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self) -> Result<(), FunctionsError> {
        let wrong = |key, reason: String| Err(FunctionsError::Setting { key, reason });
        for (key, value, most) in [
            ("threads", self.threads as u64, 1_024),
            ("instances", u64::from(self.instances), u64::from(MAX_LIVE_FUNCTIONS)),
            ("running", u64::from(self.running), u64::from(MAX_RUNNING_FUNCTIONS)),
            ("tenant_concurrency", u64::from(self.tenant_concurrency), u64::from(MAX_RUNNING_FUNCTIONS)),
        ] {
            if !(1..=most).contains(&value) {
                return wrong(key, format!("{value} is outside 1 to {most}"));
            }
        }
        if self.hosts.len() > MAX_FUNCTION_HOSTS {
            return wrong("hosts", format!("more than {MAX_FUNCTION_HOSTS} names"));
        }
        if let Some(host) = self.hosts.keys().find(|host| !is_host(host)) {
            return wrong("hosts", format!("`{host}` is no host name: write it in lower case, without a port"));
        }
        let length = self.admin_socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let reason =
                format!("{length} bytes are too long for a socket's path, {MAX_SOCKET_PATH} fit: name a shorter one");
            return wrong("admin_socket", reason);
        }
        if let Some(tcp) = &self.admin_tcp
            && !tcp.listen.ip().is_loopback()
        {
            let reason = format!("{} is not on this machine: administration listens on loopback only", tcp.listen);
            return wrong("admin_listen", reason);
        }
        Ok(())
    }
}
