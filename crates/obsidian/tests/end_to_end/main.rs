//! End to end: the built binary, real guests, the shipped models, real connections on loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod bad_inputs;
mod command_line;
mod core_route;
mod cross;
#[path = "../../../obsidian-wire/tests/wire/oci/process.rs"]
mod docker_registry;
mod doctor;
mod exactness;
mod examples;
mod faults;
mod functions;
mod load;
mod models;
mod module_build;
mod module_registry;
mod module_run;
mod openai_client;
#[path = "../../../obsidian-wire/tests/wire/registry.rs"]
#[expect(dead_code, reason = "shared with the tests of the registry client, which use more of it")]
mod registry;
mod secrecy;
mod signatures;
#[path = "../../../obsidian-edge/tests/edge/signing.rs"]
mod signing;
mod support;
mod surface;
mod swap;
mod telemetry;
