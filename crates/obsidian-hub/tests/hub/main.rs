//! The hub as a POP meets it: real models, real TLS, real streams.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod distribution;
mod exactness;
mod lifecycle;
mod sessions;
mod support;
