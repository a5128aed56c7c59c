//! The package that compares with llama.cpp: a workspace of its own, so that nobody compiles llama.cpp who does
//! not compare with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

const FOLDER: &str = "parity";

/// Checks and tests the package. Where the tools that llama.cpp is built with are missing, that is an error on CI
/// and said aloud elsewhere.
pub(crate) fn test(tests_only: bool) -> Result<()> {
    if let Some(missing) = missing_tools() {
        let advice = format!("{missing} is missing (Debian: apt-get install cmake clang libclang-dev)");
        if std::env::var_os("CI").is_some() {
            bail!("cannot compare with llama.cpp: {advice}");
        }
        eprintln!("SKIPPED: the comparison with llama.cpp, because {advice}");
        return Ok(());
    }
    if !tests_only {
        command::run(command::cargo_command().args(["fmt", "--check"]).current_dir(FOLDER))?;
        command::run(cargo("clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    }
    command::run(&mut cargo("test"))
}

/// Builds the program that measures llama.cpp for benchmarks, and returns its path.
pub(crate) fn build_peer() -> Result<PathBuf> {
    if let Some(missing) = missing_tools() {
        bail!("cannot build llama.cpp: {missing} is missing (Debian: apt-get install cmake clang libclang-dev)");
    }
    command::run(cargo("build").args(["--bin", "llama-bench-peer"]))?;
    Ok(target_folder().join("debug/llama-bench-peer"))
}

/// A cargo command in the package's folder, whose configuration asks for this machine's own instructions.
fn cargo(task: &str) -> Command {
    let mut command = command::cargo_command();
    command.args([task, "--locked", "--target-dir"]).arg(target_folder()).current_dir(FOLDER);
    // Flags from outside would take the place of the configuration's.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Under the outer target folder, named after the processor: what was compiled for one may not run on another.
fn target_folder() -> PathBuf {
    let outer = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let outer = std::path::absolute(&outer).unwrap_or(outer);
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default().hash(&mut hasher);
    outer.join(format!("parity-{:08x}", hasher.finish() as u32))
}

/// The first tool that is not there.
fn missing_tools() -> Option<&'static str> {
    ["cmake", "clang", "c++"]
        .into_iter()
        .find(|tool| !command::is_installed(tool))
        .or_else(|| (!has_libclang()).then_some("libclang"))
}

/// The library that reads C headers, where Debian puts it or where the environment says.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("lib")).any(|folder| {
        let mut files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.any(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libclang") && !name.starts_with("libclang-cpp") && name.contains(".so")
        })
    })
}
