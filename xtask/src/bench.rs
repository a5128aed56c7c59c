//! Benchmarks: builds `obsidian-bench` with the one profile and lets it measure ours and the peer in one run.

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
    command::run(&mut bench)
}
