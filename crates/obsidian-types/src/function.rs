//! What a function may use: its limits and the hosts it may call. Plain data that the module manifest asks for, the
//! node's policy grants and the sandbox enforces.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits;

/// Limits of one deployed function. Every one of them has an error and a metric of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FunctionLimits {
    /// Linear memory of one instance, bytes.
    pub memory_bytes: u64,
    /// Whether memory may grow after the start. Without growth an instance has what its module declares.
    pub memory_growth: bool,
    /// Elements over all tables of one instance.
    pub table_elements: u32,
    /// Requests that run at once; each has an instance.
    pub concurrency: u32,
    /// Requests that wait for a place; the next is refused.
    pub queue: u32,
    /// Wall time of one request, milliseconds, until the last byte of its answer.
    pub wall_ms: u64,
    /// Time of one request on the processor, milliseconds.
    pub cpu_ms: u64,
    /// Instructions of one request; counting them costs speed, so that none are counted unless this is set.
    pub fuel: Option<u64>,
    /// Longest request body, bytes.
    pub request_body_bytes: u64,
    /// Longest response body, bytes.
    pub response_body_bytes: u64,
    /// Outbound requests in flight in one instance.
    pub outbound_connections: u32,
    /// Requests that one instance answers before it is thrown away; 1 gives every request a fresh one. More is only
    /// safe for a module that keeps nothing of one request that another must not see.
    pub reuse: u32,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            memory_bytes: limits::DEFAULT_FUNCTION_MEMORY_BYTES,
            memory_growth: true,
            table_elements: limits::DEFAULT_FUNCTION_TABLE_ELEMENTS,
            concurrency: limits::DEFAULT_FUNCTION_CONCURRENCY,
            queue: limits::DEFAULT_FUNCTION_QUEUE,
            wall_ms: limits::DEFAULT_FUNCTION_WALL_MS,
            cpu_ms: limits::DEFAULT_FUNCTION_CPU_MS,
            fuel: None,
            request_body_bytes: limits::DEFAULT_FUNCTION_BODY_BYTES,
            response_body_bytes: limits::DEFAULT_FUNCTION_BODY_BYTES,
            outbound_connections: limits::DEFAULT_FUNCTION_OUTBOUND,
            reuse: 1,
        }
    }
}

/// A limit outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit {name} is {value}: set it between {lowest} and {highest}")]
pub struct LimitError {
    /// Which, as files spell it.
    pub name: &'static str,
    /// What it is.
    pub value: u64,
    /// The least it may be.
    pub lowest: u64,
    /// The most it may be.
    pub highest: u64,
}

impl FunctionLimits {
    /// Refuses values that no function could work with, or that no node could keep.
    ///
    /// # Errors
    /// [`LimitError`] for the first one outside its range.
    pub fn check(&self) -> Result<(), LimitError> {
        let ranges = [
            ("memory_bytes", self.memory_bytes, limits::WASM_PAGE_BYTES, limits::MAX_GRANTED_MEMORY_BYTES),
            ("table_elements", self.table_elements.into(), 1, limits::MAX_FUNCTION_TABLE_ELEMENTS),
            ("concurrency", self.concurrency.into(), 1, limits::MAX_RUNNING_FUNCTIONS.into()),
            ("queue", self.queue.into(), 0, limits::MAX_FUNCTION_QUEUE),
            ("wall_ms", self.wall_ms, 1, limits::MAX_REQUEST_MS),
            ("cpu_ms", self.cpu_ms, 1, limits::MAX_REQUEST_MS),
            ("fuel", self.fuel.unwrap_or(1), 1, u64::MAX),
            ("request_body_bytes", self.request_body_bytes, 0, limits::MAX_FUNCTION_BODY_BYTES),
            ("response_body_bytes", self.response_body_bytes, 0, limits::MAX_FUNCTION_BODY_BYTES),
            ("outbound_connections", self.outbound_connections.into(), 0, limits::MAX_FUNCTION_OUTBOUND),
            ("reuse", self.reuse.into(), 1, limits::MAX_FUNCTION_REUSE),
        ];
        match ranges.into_iter().find(|(_, value, lowest, highest)| !(lowest..=highest).contains(&value)) {
            Some((name, value, lowest, highest)) => Err(LimitError { name, value, lowest, highest }),
            None => Ok(()),
        }
    }
}

/// What a deployed function was granted. Everything else is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionGrants {
    /// Where it may send requests.
    pub outbound: Vec<OutboundGrant>,
    /// Key-value stores by name; each belongs to the tenant.
    pub stores: BTreeSet<String>,
    /// Models by name.
    pub models: BTreeSet<String>,
    /// Environment variables and configuration values (`wasi:cli/environment`, `wasi:config`).
    pub environment: BTreeMap<String, String>,
    /// Its limits.
    pub limits: FunctionLimits,
}

/// A host that may be called, spelled `HOST` or `HOST:PORT`; without a port, 80 and 443.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboundGrant {
    /// A name or an address, lower case.
    pub host: String,
    /// The port, if it is not one of HTTP's own two.
    pub port: Option<u16>,
    /// Whether the host may have a private, loopback or link-local address: the node's policy says so by name.
    pub private: bool,
}

/// In files a grant is a string.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for OutboundGrant {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OutboundGrant".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`HOST` or `HOST:PORT`; without a port, 80 and 443.",
            "type": "string",
            "pattern": r"^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"
        })
    }
}

/// Text that names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no host: write HOST or HOST:PORT, without scheme, path or wildcard")]
pub struct OutboundGrantError(pub String);

impl OutboundGrant {
    /// Whether it covers `host` (lower case) and `port`.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port.map_or(port == 80 || port == 443, |granted| granted == port)
    }
}

impl FromStr for OutboundGrant {
    type Err = OutboundGrantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || OutboundGrantError(text.chars().take(64).collect());
        let (host, port) = match text.rsplit_once(':') {
            // A bare IPv6 address has colons of its own and stands in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().map_err(|_| wrong())?)),
            _ => (text, None),
        };
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let named = |name: &str| {
            !name.is_empty()
                && name.len() <= 253
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let fits = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => named(host),
        };
        if !fits || port == Some(0) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, private: false })
    }
}

impl fmt::Display for OutboundGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(formatter, "{}:{port}", self.host),
            None => formatter.write_str(&self.host),
        }
    }
}

impl Serialize for OutboundGrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OutboundGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{FunctionLimits, OutboundGrant};

    #[test]
    fn limits_have_ranges() {
        assert_eq!(FunctionLimits::default().check(), Ok(()));
        let refused = |limits: FunctionLimits| limits.check().unwrap_err().to_string();
        let none = refused(FunctionLimits { concurrency: 0, ..FunctionLimits::default() });
        assert_eq!(none, "the limit concurrency is 0: set it between 1 and 1024");
        let much = refused(FunctionLimits { memory_bytes: 2 << 30, ..FunctionLimits::default() });
        assert!(much.contains("memory_bytes is 2147483648"), "{much}");
        assert!(refused(FunctionLimits { fuel: Some(0), ..FunctionLimits::default() }).contains("fuel"));
    }

    #[test]
    fn hosts_are_read_and_covered_exactly() {
        let grant: OutboundGrant = "API.example.net".parse().unwrap();
        assert!(grant.covers("api.example.net", 443) && grant.covers("api.example.net", 80));
        assert!(!grant.covers("api.example.net", 8080) && !grant.covers("example.net", 443));
        let grant: OutboundGrant = "[::1]:8080".parse().unwrap();
        assert!(grant.covers("[::1]", 8080) && !grant.covers("[::1]", 443));
        assert_eq!(grant.to_string(), "[::1]:8080");
        for wrong in ["", "*", "https://a", "a/b", "a b", "a:", "a:0", "a:70000", "[::1", "::1", "a@b"] {
            assert!(wrong.parse::<OutboundGrant>().is_err(), "{wrong}");
        }
    }
}
