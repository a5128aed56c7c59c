//! Benchmarks: builds `obsidian-bench` with the one profile and lets it measure ours and the peer in one run.

use anyhow::Result;

use crate::command;

/// Runs the benchmark called `name`; the bench program knows the names and refuses others.
pub(crate) fn run(name: &str) -> Result<()> {
    command::cargo(["run", "--quiet", "--package", "obsidian-bench", "--", name])
}
