//! Benchmarks: builds `obsidian-bench` with the one profile and lets it measure ours and the peer in one run.

use std::path::PathBuf;

use anyhow::Result;

use crate::{command, parity};

/// Runs the benchmark called `name`; the bench program knows the names and refuses others.
pub(crate) fn run(name: &str) -> Result<()> {
    let mut bench = command::cargo_command();
    bench.args(["run", "--quiet", "--package", "obsidian-bench", "--", name]);
    if name == "decode" {
        // The peer is llama.cpp, which lives in a workspace of its own.
        bench.env("OBSIDIAN_LLAMA_PEER", parity::build_peer()?);
    }
    if name == "gateway" {
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
