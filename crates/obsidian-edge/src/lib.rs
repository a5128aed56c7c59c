//! The POP: OpenAI-compatible ingress and the request pipeline.
//!
//! [`Edge::start`] takes settings ([`EdgeConfig`]) and loaded parts ([`EdgeParts`]) and serves HTTP until
//! [`EdgeHandle::shutdown`]. To read the code, start at `pipeline.rs`: it is the whole data path in one
//! function. `openai/` holds OpenAI's shapes, `http/` the routes, `runs/` the tiers.
//!
//! What this crate must not do: open connections outwards (only `obsidian-wire` does), know wasmtime
//! (only `obsidian-sandbox` does), or let unsealed text past the shield.

mod account;
mod admission;
mod answer;
mod capability;
mod certificate;
mod config;
mod edge;
mod fault;
mod fresh;
pub mod functions;
mod guests;
mod http;
mod keys;
mod limits;
mod local;
mod openai;
mod outcome;
mod pipeline;
mod pop;
mod proxies;
mod rendering;
mod routing;
mod runs;
mod sanitise;
mod shielding;
mod spans;
mod telemetry;
mod tenants;
mod text_gate;
mod watch;

#[cfg(test)]
mod fixtures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

pub use certificate::{CertificateError, Standing, TlsFiles, Validity, check_certificate};
pub use config::{EdgeConfig, EdgeParts, RouterWeights, StartError};
pub use config::{ReloadError, ReloadSettings};
pub use edge::{Edge, EdgeHandle};
pub use guests::{GuestKind, GuestReport, SwapError, Swapped, VersionReport};
pub use http::{Cors, CorsError};
pub use keys::{ApiKey, KeyFileError, KeyTable, TenantLimits};
pub use limits::{IngressLimits, LimitError};
pub use proxies::{ForwardedHeader, Network, NetworkError, TrustedProxies};
pub use telemetry::metric_buckets;
pub use tenants::TenantSecret;
