//! How many sandboxes one node holds: one live instance for each of ten thousand tenants, every one of which answers.

use std::path::PathBuf;
use std::time::Instant;

use obsidian_sandbox::functions::{FunctionHostOptions, FunctionModule};
use obsidian_types::FunctionLimits;

use super::{ask, engines, host, load, percentile, runtime};
use crate::memory::Memory;
use crate::report::{Report, Row, Spread};

/// Settings of `density`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sandboxes alive at once
    #[arg(long, default_value_t = 10_000)]
    sandboxes: usize,
    /// Where compiled code is kept between runs
    #[arg(long, default_value = super::DIRECTORY)]
    directory: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("density")?;
    std::fs::create_dir_all(&options.directory)?;
    let count = options.sandboxes;
    let instances = u32::try_from(count)? + 64;
    let engines = engines(&options.directory)?;
    let host = host(&engines, &FunctionHostOptions { threads: 2, cores: Vec::new(), instances, running: 64 })?;
    let hello = obsidian_guests::functions_hello()?;
    let runtime = runtime()?;
    // An instance that may be used again stays with its tenant between requests.
    let limits = FunctionLimits { reuse: u32::MAX, ..FunctionLimits::default() };
    // Faults in what all share: code, image, the allocator's own tables.
    let first = load(&host, &hello, "first", limits.clone())?;
    runtime.block_on(ask(&first, "/"))?;
    let before = Memory::now()?;
    let mut functions: Vec<FunctionModule> = Vec::with_capacity(count);
    let began = Instant::now();
    for number in 0..count {
        let function = load(&host, &hello, &format!("tenant-{number}"), limits.clone())?;
        runtime.block_on(ask(&function, "/"))?;
        functions.push(function);
    }
    let filled_seconds = began.elapsed().as_secs_f64();
    // Again, by the same instances, now that all of them are there.
    let (mut answered, mut micros) = (0, Vec::with_capacity(count));
    for function in &functions {
        let began = Instant::now();
        answered += usize::from(runtime.block_on(ask(function, "/")).is_ok());
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let grown = Memory::now()? - before;
    let live: u32 = functions.iter().map(|function| function.statistics().live).sum();
    let warm: u64 = functions.iter().map(|function| function.statistics().warm_starts).sum();
    micros.sort_by(f64::total_cmp);
    let each = |kibibytes: f64| kibibytes / count as f64;
    let mut row = |metric, unit, value| {
        let ours = Spread::of(vec![value]);
        let case = format!("{count} sandboxes");
        report.rows.push(Row { case, metric, unit, ours, peer: None, ratio: None, floor: None });
    };
    row("resident per sandbox", "KiB", each(grown.proportional + grown.page_tables));
    row("of it private pages", "KiB", each(grown.anonymous));
    row("of it page tables", "KiB", each(grown.page_tables));
    row("live", "count", f64::from(live));
    row("answered", "count", answered as f64);
    row("answered by the instance of before", "count", warm as f64);
    row("answer p50", "us", percentile(&micros, 0.5));
    row("answer p99", "us", percentile(&micros, 0.99));
    row("time to fill", "s", filled_seconds);
    row("mappings", "count", std::fs::read_to_string("/proc/self/maps")?.lines().count() as f64);
    Ok(report)
}
