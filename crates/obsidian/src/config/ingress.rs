//! `[tls]`, `[cors]` and `[proxies]` of a POP: how clients reach it.

use std::path::PathBuf;

use obsidian_edge::{Cors, ForwardedHeader, Network, TlsFiles, TrustedProxies};
use schemars::JsonSchema;
use serde::Deserialize;

/// The certificate that clients see. Read again when a file changes, and on SIGHUP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// PEM file: the certificate, then those that lead to its authority.
    certificate: PathBuf,
    /// PEM file: the private key, which not everybody may read.
    key: PathBuf,
}

impl TlsSection {
    /// The files.
    pub(crate) fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.certificate.clone(), key: self.key.clone() }
    }
}

/// Web pages that may use the POP from a browser.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorsSection {
    /// Origins such as `https://app.example.com`; `*` for all, which needs API keys. None if empty.
    #[serde(default)]
    origins: Vec<String>,
    /// Whether browsers may send cookies and client certificates along; not with `*`.
    #[serde(default)]
    credentials: bool,
}

impl CorsSection {
    /// As the POP takes it.
    pub(crate) fn cors(&self) -> Cors {
        Cors { origins: self.origins.clone(), credentials: self.credentials }
    }
}

/// Proxies in front of the POP that are believed about a client's address.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxiesSection {
    /// Blocks of addresses such as `10.0.0.0/8`.
    #[serde(default)]
    trusted: Vec<String>,
    /// The header they write; the other one is the client's own word and not read.
    #[serde(default)]
    header: HeaderName,
}

/// Which header proxies write.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum HeaderName {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client` (RFC 7239).
    Forwarded,
}

impl ProxiesSection {
    /// As the POP takes it.
    pub(crate) fn proxies(&self) -> Result<TrustedProxies, String> {
        let networks = self.trusted.iter().map(|text| text.parse::<Network>());
        let networks = networks.collect::<Result<_, _>>().map_err(|error| format!("proxies.trusted: {error}"))?;
        let header = match self.header {
            HeaderName::XForwardedFor => ForwardedHeader::XForwardedFor,
            HeaderName::Forwarded => ForwardedHeader::Forwarded,
        };
        Ok(TrustedProxies { networks, header })
    }
}
