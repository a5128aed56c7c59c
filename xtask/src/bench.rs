//! Benchmarks: builds `obsidian-bench` with the one profile and lets it measure ours and the peer in one run.

use std::path::PathBuf;

use anyhow::Result;

use crate::{command, parity};

/// Benchmarks whose figures are microseconds of our own code and of the peer's: both as users run them.
const FUNCTIONS: [&str; 6] = ["burst", "density", "http", "instantiate", "isolation", "swap"];

/// Runs the benchmark called `name`; the bench program knows the names and refuses others.
pub(crate) fn run(name: &str) -> Result<()> {
    let mut bench = command::cargo_command();
    bench.args(["run", "--quiet", "--package", "obsidian-bench"]);
    if FUNCTIONS.contains(&name) {
        bench.arg("--release");
    }
    bench.args(["--", name]);
    if name == "decode" {
        // The peer is llama.cpp, which lives in a workspace of its own.
        bench.env("OBSIDIAN_LLAMA_PEER", parity::build_peer()?);
    }
    if matches!(name, "gateway" | "http" | "swap") {
        bench.env("OBSIDIAN_BINARY", optimised()?);
    }
    command::run(&mut bench)
}

/// Builds the program with the release profile and says where it is.
fn optimised() -> Result<PathBuf> {
    command::cargo(["build", "--release", "--package", "obsidian"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(std::path::absolute(target)?.join("release/obsidian"))
}
