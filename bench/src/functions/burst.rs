//! A thousand requests at once after a minute of silence: how long they take, and how the pool of instances grows and
//! shrinks. Once with a fresh instance for each request, once with instances that are used again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use obsidian_sandbox::functions::{FunctionHostOptions, FunctionModule};
use obsidian_types::FunctionLimits;
use tokio::task::JoinSet;

use super::{ask, engines, host, load, percentile, runtime};
use crate::report::{Report, Row, Spread};

/// Settings of `burst`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Requests at once
    #[arg(long, default_value_t = 1_000)]
    requests: usize,
    /// Silence before, seconds
    #[arg(long, default_value_t = 60)]
    silence: u64,
    /// Where compiled code is kept between runs
    #[arg(long, default_value = super::DIRECTORY)]
    directory: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("burst")?;
    std::fs::create_dir_all(&options.directory)?;
    let engines = engines(&options.directory)?;
    let host =
        host(&engines, &FunctionHostOptions { threads: 2, cores: Vec::new(), instances: 2_048, running: 1_024 })?;
    let hello = obsidian_guests::functions_hello()?;
    let runtime = runtime()?;
    for (name, reuse) in [("fresh instances", 1), ("reused instances", 1_000)] {
        let limits = FunctionLimits { reuse, ..FunctionLimits::default() };
        let function = load(&host, &hello, name, limits)?;
        runtime.block_on(async {
            ask(&function, "/").await?;
            tokio::time::sleep(Duration::from_secs(options.silence)).await;
            let silent = function.statistics();
            let (micros, most) = burst(&function, options.requests).await?;
            let after = function.statistics();
            tokio::time::sleep(Duration::from_secs(20)).await;
            let later = function.statistics();
            let case = format!("{} at once, {name}", options.requests);
            let mut row = |metric, unit, value: f64| {
                let ours = Spread::of(vec![value]);
                report.rows.push(Row { case: case.clone(), metric, unit, ours, peer: None, ratio: None, floor: None });
            };
            row("p50", "us", percentile(&micros, 0.5));
            row("p99", "us", percentile(&micros, 0.99));
            row("last", "us", percentile(&micros, 1.0));
            row("found warm", "count", (after.warm_starts - silent.warm_starts) as f64);
            row("made", "count", (after.cold_starts - silent.cold_starts) as f64);
            row("warm before", "count", f64::from(silent.warm));
            row("live at most", "count", f64::from(most.0));
            row("time until then", "us", most.1);
            row("warm 20 s later", "count", f64::from(later.warm));
            Ok::<_, anyhow::Error>(())
        })?;
    }
    Ok(report)
}

/// Microseconds of each request, ascending, and how many instances were alive at most and when.
async fn burst(function: &FunctionModule, requests: usize) -> anyhow::Result<(Vec<f64>, (u32, f64))> {
    let began = Instant::now();
    let mut asked = JoinSet::new();
    for _ in 0..requests {
        let function = function.clone();
        asked.spawn(async move {
            ask(&function, "/").await?;
            Ok::<_, anyhow::Error>(began.elapsed().as_secs_f64() * 1e6)
        });
    }
    let (mut micros, mut most) = (Vec::new(), (0, 0.0));
    while let Some(answered) = asked.join_next().await {
        micros.push(answered??);
        let live = function.statistics().live;
        if live > most.0 {
            most = (live, began.elapsed().as_secs_f64() * 1e6);
        }
    }
    ensure!(micros.len() == requests, "not every request was answered");
    micros.sort_by(f64::total_cmp);
    Ok((micros, most))
}
