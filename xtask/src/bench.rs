//! Benchmarks: builds `obsidian-bench` and lets it measure ours and the peer in one run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{command, parity};

/// Benchmarks whose figures are microseconds of our own code: it is measured as users run it. The others' time passes
/// in crates that the one profile optimises anyway.
const RELEASE: [&str; 7] = ["burst", "density", "gateway", "http", "instantiate", "isolation", "swap"];

/// Runs the benchmark called `name`; the bench program knows the names and refuses others.
pub(crate) fn run(name: &str) -> Result<()> {
    if RELEASE.contains(&name) {
        let release = optimised()?;
        let mut bench = Command::new(release.join("obsidian-bench"));
        return command::run(bench.arg(name).env("OBSIDIAN_BINARY", release.join("obsidian")));
    }
    let mut bench = command::cargo_command();
    bench.args(["run", "--quiet", "--package", "obsidian-bench", "--", name]);
    if name == "decode" {
        // The peer is llama.cpp, which lives in a workspace of its own.
        bench.env("OBSIDIAN_LLAMA_PEER", parity::build_peer()?);
    }
    command::run(&mut bench)
}

/// Builds the program and its benchmarks with the release profile, both at once, so that what they share is built once;
/// says where they are.
fn optimised() -> Result<PathBuf> {
    command::cargo(["build", "--release", "--package", "obsidian", "--package", "obsidian-bench"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(std::path::absolute(target)?.join("release"))
}
