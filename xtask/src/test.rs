//! Everything CI runs, cheapest first, so that a slip shows before the long builds.

use std::path::PathBuf;

use anyhow::Result;

use crate::{command, parity, tidy};

/// Runs all checks and tests; the first that fails ends the run.
pub(crate) fn run(tests_only: bool) -> Result<()> {
    if !tests_only {
        command::cargo(["fmt", "--all", "--check"])?;
        command::run(command::cargo_command().args(["fmt", "--all", "--check"]).current_dir("guests"))?;
        tidy::run()?;
        command::cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
        check_guests()?;
        if command::is_installed("cargo-deny") {
            command::cargo(["deny", "check"])?;
        }
    }
    run_tests()?;
    parity::test(tests_only)
}

/// The guests are a workspace of their own, for another target; they keep the same lints.
fn check_guests() -> Result<()> {
    let outer = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_dir()?.join("target"),
    };
    command::run(
        command::cargo_command()
            .args(["clippy", "--locked", "--release", "--target", "wasm32-wasip2", "--target-dir"])
            .arg(outer.join("guests-check"))
            .args(["--", "-D", "warnings"])
            // What the build of obsidian-guests sets: without it the kernels for Wasm would not be looked at.
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+simd128,+relaxed-simd")
            .current_dir("guests"),
    )
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
