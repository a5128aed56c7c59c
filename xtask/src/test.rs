//! Everything CI runs, cheapest first, so that a slip shows before the long builds.

use std::process::Command;

use anyhow::Result;

use crate::{command, tidy};

/// Runs all checks and tests; the first that fails ends the run.
pub(crate) fn run(tests_only: bool) -> Result<()> {
    if !tests_only {
        command::cargo(["fmt", "--all", "--check"])?;
        command::run(Command::new(command::cargo_program()).args(["fmt", "--all", "--check"]).current_dir("guests"))?;
        tidy::run()?;
        command::cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
        if command::is_installed("cargo-deny") {
            command::cargo(["deny", "check"])?;
        }
    }
    run_tests()
}

/// nextest runs a process per test and shows the slow ones; plain cargo does where it is not installed.
fn run_tests() -> Result<()> {
    // The binary that the end-to-end tests start, built before any of them is timed out waiting for it.
    command::cargo(["build", "--package", "obsidian"])?;
    if command::is_installed("cargo-nextest") {
        command::cargo(["nextest", "run", "--workspace", "--no-fail-fast"])?;
        command::cargo(["test", "--workspace", "--doc", "--quiet"])
    } else {
        command::cargo(["test", "--workspace", "--no-fail-fast"])
    }
}
