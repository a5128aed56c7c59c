//! How long it takes to give a sandbox its weights, and what each further sandbox costs.
//!
//! Ours: the real drafter guest on a 256 MB model, the file attached to each sandbox. Peer: what loading means
//! elsewhere, reading the file into memory of one's own. Both with the file in the page cache.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::ensure;
use obsidian_model::synthetic::Synthetic;
use obsidian_sandbox::{Drafter, EngineKind, EngineOptions, Engines, WeightFile, WeightStore};
use obsidian_types::Sampling;

use crate::memory::Memory;
use crate::report::{Peer, Report, Row, Spread};

/// How often the peer is measured.
const PEER_RUNS: usize = 5;

/// Settings of `attach`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sandboxes alive at once; may be repeated
    #[arg(long = "sandboxes", default_values_t = [1, 8, 64])]
    sandboxes: Vec<usize>,
    /// The one core everything runs on
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Where the model and compiled code are kept between runs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    directory: PathBuf,
}

/// What one case of ours measured.
struct Measured {
    attach_us: Vec<f64>,
    start_us: Vec<f64>,
    idle: Memory,
    answered: Memory,
    proportional_with_all: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("attach")?;
    crate::pin(&[options.core])?;
    std::fs::create_dir_all(&options.directory)?;
    let model = options.directory.join("synthetic-256MB.gguf");
    write_model(&model)?;
    let store = WeightStore::open(options.directory.join("weights"))?;
    let weights = store.import(&model, None, &mut |_, _| ())?;
    let engines = Engines::new(&EngineOptions::new(options.directory.join("aot")))?;
    let artifact = obsidian_guests::drafter()?;
    engines.prepare(&[(EngineKind::Model, &artifact)])?;
    // Faults in what every later sandbox shares, the guest's own image included.
    drop(answering(&engines, &weights, 1)?);
    let (peer_time, peer_memory) = read_into_memory(&model)?;
    for &count in &options.sandboxes {
        let measured = measure(&engines, &weights, count)?;
        rows(&mut report, count, &measured, &peer_time, &peer_memory);
    }
    Ok(report)
}

/// A complete model of about 256 MB, made once.
fn write_model(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let model = Synthetic {
        width: 1_024,
        layers: 21,
        heads: 16,
        key_heads: 4,
        feed_width: 2_880,
        context: 256,
        ..Synthetic::default()
    };
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, model.file())?;
    std::fs::rename(&unfinished, path)?;
    Ok(())
}

/// Sandboxes that have each computed one token, so that every weight was read.
fn answering(engines: &Engines, weights: &WeightFile, count: usize) -> anyhow::Result<Vec<Drafter>> {
    let artifact = obsidian_guests::drafter()?;
    let mut drafters = Vec::new();
    for _ in 0..count {
        drafters.push(Drafter::start(engines, &artifact, weights.clone())?);
    }
    drafters.iter().try_for_each(answer)?;
    Ok(drafters)
}

fn answer(drafter: &Drafter) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let mut session = drafter.open(greedy, 0).await?;
        session.feed(&[100]).await?;
        ensure!(session.draft(1).await?.len() == 1, "the sandbox drafts no token");
        Ok(())
    })
}

fn measure(engines: &Engines, weights: &WeightFile, count: usize) -> anyhow::Result<Measured> {
    let artifact = obsidian_guests::drafter()?;
    let before = Memory::now()?;
    let mut drafters = Vec::new();
    for _ in 0..count {
        drafters.push(Drafter::start(engines, &artifact, weights.clone())?);
    }
    let idle = Memory::now()? - before;
    drafters.iter().try_for_each(answer)?;
    let answered = Memory::now()? - before;
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    Ok(Measured {
        attach_us: drafters.iter().map(|drafter| micros(drafter.startup().attach)).collect(),
        start_us: drafters.iter().map(|drafter| micros(drafter.startup().total)).collect(),
        idle,
        answered,
        proportional_with_all: answered.proportional - answered.anonymous,
    })
}

/// Reads the whole file into fresh memory; the time and the memory of one copy.
fn read_into_memory(path: &Path) -> anyhow::Result<(Peer, Peer)> {
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..PEER_RUNS {
        let before = Memory::now()?;
        let start = Instant::now();
        let bytes = std::hint::black_box(std::fs::read(path)?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
        sizes.push((Memory::now()? - before).anonymous);
        drop(bytes);
    }
    let peer = |samples| Peer {
        name: "read the file into memory",
        version: "std::fs::read".to_owned(),
        spread: Spread::of(samples),
    };
    Ok((peer(times), peer(sizes)))
}

fn rows(report: &mut Report, count: usize, measured: &Measured, peer_time: &Peer, peer_memory: &Peer) {
    let case = format!("256MB x {count} sandbox{}", if count == 1 { "" } else { "es" });
    let mut row = |metric, unit, samples, peer: Option<&Peer>| {
        let ours = Spread::of(samples);
        let ratio = peer.map(|peer| peer.spread.median / ours.median);
        report.rows.push(Row { case: case.clone(), metric, unit, ours, peer: peer.cloned(), ratio, floor: None });
    };
    let each = |total: f64| vec![total / count as f64];
    row("time", "us", measured.attach_us.clone(), Some(peer_time));
    row("start of the whole sandbox", "us", measured.start_us.clone(), Some(peer_time));
    row("private per sandbox", "KiB", each(measured.idle.anonymous), Some(peer_memory));
    row("private per sandbox after a token", "KiB", each(measured.answered.anonymous), Some(peer_memory));
    row("page tables per sandbox after a token", "KiB", each(measured.answered.page_tables), None);
    row("shared by all", "KiB", vec![measured.proportional_with_all], None);
}
