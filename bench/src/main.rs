//! `cargo xtask bench NAME`: runs ours and its peer in one run, prints a table and writes
//! `bench/results/NAME.json`. One module per benchmark; start at [`Bench`].

#![expect(clippy::print_stdout, reason = "the table is for the person who ran the benchmark")]

mod attach;
mod memory;
mod report;

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
}

fn main() -> anyhow::Result<()> {
    let report = match Command::parse().bench {
        Bench::Attach(options) => attach::run(&options)?,
    };
    println!("{}", report.table());
    println!("{}", report.write()?.display());
    Ok(())
}
