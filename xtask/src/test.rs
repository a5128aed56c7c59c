//! Everything CI runs, cheapest first, so that a slip shows before the long builds.

use anyhow::Result;

use crate::{command, tidy};

/// Runs all checks and tests; the first that fails ends the run.
pub(crate) fn run(tests_only: bool) -> Result<()> {
    if !tests_only {
        command::cargo(["fmt", "--all", "--check"])?;
        command::run(command::cargo_command().args(["fmt", "--all", "--check"]).current_dir("guests"))?;
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
    if command::is_installed("cargo-nextest") {
        command::cargo(["nextest", "run", "--workspace", "--no-fail-fast"])?;
        command::cargo(["test", "--workspace", "--doc", "--quiet"])
    } else {
        command::cargo(["test", "--workspace", "--no-fail-fast"])
    }
}
