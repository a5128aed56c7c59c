//! Why a function's request outwards got no answer: the same words where it is sent and where the function hears of it.

use std::net::IpAddr;

/// Why a request outwards got no answer. Nothing here quotes the request beyond its host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The host has addresses that are private, loopback or otherwise not public, and no grant says that this is meant.
    #[error(
        "{host} has the address {address}, which is not public ({why}): the node's policy must grant it by name as private"
    )]
    NotPublic {
        /// The name that was called.
        host: String,
        /// What it resolved to.
        address: IpAddr,
        /// What kind of address that is.
        why: &'static str,
    },
    /// The URI cannot be called.
    #[error("{host} cannot be called: {reason}")]
    Uri {
        /// The host, as far as there is one.
        host: String,
        /// Why.
        reason: &'static str,
    },
    /// No such name.
    #[error("{host} cannot be resolved: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// Nobody answers there.
    #[error("{host} cannot be connected to: {reason}")]
    Connect {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// TLS failed.
    #[error("{host} cannot be trusted: {reason}")]
    Tls {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("{host} took too long to {step}")]
    Timeout {
        /// The name.
        host: String,
        /// `connect`, `answer` or `send the body`.
        step: &'static str,
    },
    /// What came back is no HTTP, or broke off.
    #[error("{host} does not speak HTTP: {reason}")]
    Protocol {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
}

impl OutboundError {
    /// A short stable name, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotPublic { .. } => "not_public",
            Self::Uri { .. } => "uri",
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Protocol { .. } => "protocol",
        }
    }
}
