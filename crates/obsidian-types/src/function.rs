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
    use super::OutboundGrant;

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
