//! End to end: the built binary, real guests, the shipped models, real connections on loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod bad_inputs;
mod command_line;
mod exactness;
mod faults;
mod openai_client;
mod secrecy;
mod signatures;
mod support;
mod surface;
