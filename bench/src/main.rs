//! `cargo xtask bench NAME`: runs ours and its peer in one run, prints a table and writes
//! `bench/results/NAME.json`. One module per benchmark; start at [`Bench`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is for the person who ran the benchmark")]

mod attach;
mod decode;
mod functions;
mod gateway;
mod memory;
mod report;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

/// Benchmarks of Obsidian.
#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Weights laid over sandbox memory, against reading the file
    Attach(attach::Options),
    /// Prefill and decoding, native and in a sandbox, against llama.cpp
    Decode(decode::Options),
    /// A function's start: a fresh instance, and the first answer from compiled code on disk
    Instantiate(functions::instantiate::Options),
    /// A hello over HTTP, against `wasmtime serve`
    Http(functions::http::Options),
    /// Ten thousand live sandboxes in one process
    Density(functions::density::Options),
    /// A thousand requests at once after a minute of silence
    Burst(functions::burst::Options),
    /// What neighbours feel of a hostile tenant
    Isolation(functions::isolation::Options),
    /// A function replaced and rolled back under load
    Swap(functions::swap::Options),
    /// What the core route adds to a call upstream, against LiteLLM's proxy
    Gateway(gateway::Options),
}

fn main() -> anyhow::Result<()> {
    let report = match Command::parse().bench {
        Bench::Attach(options) => attach::run(&options)?,
        Bench::Decode(options) => decode::run(&options)?,
        Bench::Instantiate(options) => functions::instantiate::run(&options)?,
        Bench::Http(options) => functions::http::run(&options)?,
        Bench::Density(options) => functions::density::run(&options)?,
        Bench::Burst(options) => functions::burst::run(&options)?,
        Bench::Isolation(options) => functions::isolation::run(&options)?,
        Bench::Swap(options) => functions::swap::run(&options)?,
        Bench::Gateway(options) => gateway::run(&options)?,
    };
    println!("{}", report.table());
    println!("{}", report.write()?.display());
    Ok(())
}

/// Runs this thread, and those it starts from here on, on `cores` alone.
fn pin(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for core in cores {
        ensure!(*core < rustix::thread::CpuSet::MAX_CPU, "core {core} is out of range");
        set.set(*core);
    }
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot pin to cores {cores:?}"))
}
