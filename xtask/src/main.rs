//! Development tasks. `cargo xtask help` lists them; README tells which two a newcomer needs.
//!
//! Each task is one file. This one only parses the command line and sets up what every task needs:
//! the repository root as working directory and, where guests get compiled, the wasm target.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod bench;
mod codegen;
mod command;
mod demo;
mod parity;
mod soak;
mod test;
mod tidy;
mod wasm_target;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, shows, tests and measures Obsidian")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything, start a hub and a POP on loopback, send real requests and show what happened
    Demo {
        /// Stop after the requests; exit 0 only if every one of them was right
        #[arg(long)]
        once: bool,
    },
    /// Everything CI runs: format, lints, tidy, unit, integration and end-to-end tests, parity with llama.cpp
    Test {
        /// Skip format, lints and tidy; run the tests only
        #[arg(long)]
        tests_only: bool,
    },
    /// Give the toolchain the wasm32-wasip2 target if it is missing, then build the guests
    Guests,
    /// Run one benchmark beside its peer and write bench/results/NAME.json
    Bench {
        /// Which benchmark, for example `attach`
        name: String,
    },
    /// Load a POP and a hub with mixed and hostile requests, and watch their memory
    Soak {
        /// How long
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// Clients at once, each sending one request after the other
        #[arg(long, default_value_t = 24)]
        streams: usize,
    },
    /// Write the generated files again: JSON Schemas and the configuration reference
    Codegen,
    /// Check what no compiler checks: sizes, crate arrows, forgotten tests and guests, outward connections
    Tidy,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = repository_root()?;
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter the repository at {}", root.display()))?;
    match task {
        Task::Demo { once } => {
            wasm_target::ensure()?;
            demo::run(once)
        }
        Task::Test { tests_only } => {
            wasm_target::ensure()?;
            test::run(tests_only)
        }
        Task::Guests => {
            wasm_target::ensure()?;
            command::cargo(["build", "--package", "obsidian-guests"])
        }
        Task::Bench { name } => {
            wasm_target::ensure()?;
            if name == "load" { soak::bench() } else { bench::run(&name) }
        }
        Task::Soak { minutes, streams } => {
            wasm_target::ensure()?;
            soak::run(minutes, streams)
        }
        Task::Codegen => {
            wasm_target::ensure()?;
            codegen::run()
        }
        Task::Tidy => tidy::run(),
    }
}

/// xtask's own manifest lies one folder below the root.
fn repository_root() -> Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask has no parent folder")?;
    Ok(root.to_path_buf())
}
