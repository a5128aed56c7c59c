//! A whole POP on loopback: real guests in real sandboxes, the shipped draft model, plain HTTP from outside.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking, in its helpers too"
)]

mod core;
mod endpoints;
mod errors;
mod faults;
mod functions;
mod http;
mod http2;
mod hub;
mod ingress;
mod lifecycle;
mod models;
mod sampling;
mod signing;
mod standin;
mod streaming;
mod support;
mod swap;
mod upstream;
