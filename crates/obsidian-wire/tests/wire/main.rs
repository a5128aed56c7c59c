//! The link end to end: real sockets, real TLS, real HTTP/2; only the verifier behind it is scripted, so
//! that it can also misbehave. The real verifier is tested in `obsidian-hub`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod core;
mod frames;
mod link;
mod models;
mod oci;
mod outbound;
mod registry;
mod sealed;
mod support;
mod telemetry;
mod tls;
