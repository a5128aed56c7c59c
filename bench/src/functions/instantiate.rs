//! What it costs until a function runs: a fresh instance of a loaded one, and the first answer of one that lies on the
//! disk as compiled code. The peer does the same by wasmtime's own API, without verification, limits or threads.

use std::path::{Path, PathBuf};
use std::time::Instant;

use obsidian_registry::{Artifact, Verified};
use obsidian_sandbox::functions::FunctionHostOptions;
use obsidian_types::FunctionLimits;

use super::{ask, engines, host, load, percentile, runtime};
use crate::functions::peer::Bare;
use crate::report::{Peer, Report, Row, Spread};

/// Settings of `instantiate`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Instances per measurement
    #[arg(long, default_value_t = 2_000)]
    instances: usize,
    /// First answers per measurement
    #[arg(long, default_value_t = 300)]
    loads: usize,
    /// Measurements of each case
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The core everything runs on
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Where compiled code is kept between runs
    #[arg(long, default_value = super::DIRECTORY)]
    directory: PathBuf,
}

/// p50 and p99 of each round.
#[derive(Default)]
struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, mut micros: Vec<f64>) {
        micros.sort_by(f64::total_cmp);
        self.p50.push(percentile(&micros, 0.5));
        self.p99.push(percentile(&micros, 0.99));
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("instantiate")?;
    crate::pin(&[options.core])?;
    std::fs::create_dir_all(&options.directory)?;
    let hello = obsidian_guests::functions_hello()?;
    let std_hello = obsidian_guests::functions_hello_std()?;
    let bare = Bare::new()?;
    let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
    for _ in 0..options.rounds {
        ours.add(warm(options, &hello)?);
        theirs.add(bare.instantiate(&hello.bytes, options.instances)?);
    }
    rows(&mut report, "warm component".to_owned(), ours, theirs);
    for (name, artifact) in [("100KB", &hello), ("std hello", &std_hello)] {
        let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
        let file = options.directory.join(format!("{}.cwasm", artifact.name));
        bare.compile(&artifact.bytes, &file)?;
        for _ in 0..options.rounds {
            ours.add(cold(&options.directory, options.loads, artifact)?);
            theirs.add(bare.first_answers(&file, options.loads)?);
        }
        eprintln!(
            "cold aot {name}: component {} bytes, compiled {} bytes",
            artifact.bytes.len(),
            std::fs::metadata(&file)?.len()
        );
        rows(&mut report, format!("cold aot {name}"), ours, theirs);
    }
    Ok(report)
}

fn few() -> FunctionHostOptions {
    FunctionHostOptions { threads: 1, cores: Vec::new(), instances: 64, running: 16 }
}

fn warm(options: &Options, artifact: &Verified<Artifact>) -> anyhow::Result<Vec<f64>> {
    let engines = engines(&options.directory)?;
    let host = host(&engines, &few())?;
    let function = load(&host, artifact, "bench", FunctionLimits::default())?;
    let times = runtime()?.block_on(async {
        function.time_starts(100).await?;
        function.time_starts(options.instances).await
    })?;
    Ok(times.iter().map(|time| time.as_secs_f64() * 1e6).collect())
}

/// From a verified artifact whose compiled code is a file to the last byte of its first answer, through the module's
/// queue and threads. Nothing of it is loaded before; the file is in the page cache.
fn cold(directory: &Path, loads: usize, artifact: &Verified<Artifact>) -> anyhow::Result<Vec<f64>> {
    let engines = engines(directory)?;
    let host = host(&engines, &few())?;
    let runtime = runtime()?;
    let mut micros = Vec::new();
    for number in 0..=loads {
        let began = Instant::now();
        let function = load(&host, artifact, "bench", FunctionLimits::default())?;
        runtime.block_on(ask(&function, "/"))?;
        // The first may have compiled.
        if number > 0 {
            micros.push(began.elapsed().as_secs_f64() * 1e6);
        }
        runtime.block_on(function.drain(std::time::Duration::from_secs(1)));
    }
    Ok(micros)
}

fn rows(report: &mut Report, case: String, ours: Rounds, theirs: Rounds) {
    for (metric, ours, theirs) in [("p50", ours.p50, theirs.p50), ("p99", ours.p99, theirs.p99)] {
        let ours = Spread::of(ours);
        let peer = Peer { name: "wasmtime's API in a loop", version: "48.0.8".to_owned(), spread: Spread::of(theirs) };
        let ratio = Some(peer.spread.median / ours.median);
        report.rows.push(Row { case: case.clone(), metric, unit: "us", ours, peer: Some(peer), ratio, floor: None });
    }
}
