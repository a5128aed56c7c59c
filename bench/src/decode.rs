//! Tokens per second of prefill and decoding: natively, in a real drafter sandbox, and llama.cpp on the same file.
//!
//! All on one pinned core with one thread, except where the case says otherwise. In each round every engine has its
//! turn, so that all see the same machine. Ratios are of the best rounds: whatever else runs only slows.

mod engines;
mod models;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use obsidian_guests::drafter;
use obsidian_sandbox::{EngineKind, EngineOptions, Engines, WeightStore};

use crate::report::{Peer, Report, Row, Spread};
use engines::{Llama, Native, Wasm};
use models::ModelFile;

/// Prompt tokens of a prefill.
const PROMPT: u32 = 128;

/// Settings of `decode`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The one core everything runs on
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Only models whose name contains this, for example `500M` or `obsidian`
    #[arg(long, default_value = "")]
    only: String,
    /// Where models and compiled code are kept between runs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    directory: PathBuf,
}

/// Tokens per second.
#[derive(Clone, Copy, Debug)]
struct Speed {
    prefill: f64,
    decode: f64,
}

/// Every round of one engine.
#[derive(Default)]
struct Rounds {
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

impl Rounds {
    fn push(&mut self, speed: Speed) {
        self.prefill.push(speed.prefill);
        self.decode.push(speed.decode);
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    ensure!(options.rounds > 0, "at least one round");
    let mut report = Report::new("decode")?;
    // Asked before anything is pinned, which is what would be counted afterwards.
    let processors = std::thread::available_parallelism()?.get();
    std::fs::create_dir_all(&options.directory)?;
    let bandwidth = on_cores([options.core], bytes_read_per_second)?;
    println!("reading memory: {:.1} GB/s", bandwidth / 1e9);
    for model in models::all().into_iter().filter(|model| model.name.contains(&options.only)) {
        let path = model.file(&options.directory)?;
        measure(&mut report, options, &model, &path, bandwidth)?;
        if model.threads && processors > 1 {
            two_threads(&mut report, options, &model, &path, bandwidth)?;
        }
    }
    Ok(report)
}

fn measure(
    report: &mut Report,
    options: &Options,
    model: &ModelFile,
    path: &Path,
    bandwidth: f64,
) -> anyhow::Result<()> {
    let engines = Engines::new(&EngineOptions::new(options.directory.join("aot")))?;
    engines.prepare(&[(EngineKind::Model, &drafter()?)])?;
    let store = WeightStore::open(options.directory.join("weights"))?;
    let weights = store.import(path, None, &mut |_, _| ())?;
    let core = [options.core];
    let mut native = on_cores(core, || Native::open(path, 1))?;
    // The sandbox's thread keeps the core it was started on.
    let mut wasm = on_cores(core, || Wasm::start(&engines, weights))?;
    let llama = Llama::new(path);
    let mut rounds = [Rounds::default(), Rounds::default(), Rounds::default()];
    let mut version = None;
    for _ in 0..options.rounds {
        rounds[0].push(on_cores(core, || native.measure(model.decoded))?);
        rounds[1].push(on_cores(core, || wasm.measure(model.decoded))?);
        if let Some(llama) = &llama {
            let (speed, name) = on_cores(core, || llama.measure(model.decoded))?;
            rounds[2].push(speed);
            version = Some(name);
        }
    }
    let floor = bandwidth / native.bytes_per_token() as f64;
    let [native_rounds, wasm_rounds, peer_rounds] = rounds;
    let peer = version.map(|version| (version, peer_rounds));
    add_rows(report, &format!("{} native", model.name), native_rounds, peer.as_ref(), floor);
    add_rows(report, &format!("{} wasm", model.name), wasm_rounds, peer.as_ref(), floor);
    Ok(())
}

/// The native engine once more, on the core and its neighbour.
fn two_threads(
    report: &mut Report,
    options: &Options,
    model: &ModelFile,
    path: &Path,
    bandwidth: f64,
) -> anyhow::Result<()> {
    let cores = [options.core, usize::from(options.core == 0)];
    let mut native = on_cores(cores, || Native::open(path, 2))?;
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds {
        rounds.push(on_cores(cores, || native.measure(model.decoded))?);
    }
    let floor = bandwidth / native.bytes_per_token() as f64;
    add_rows(report, &format!("{} native 2 threads", model.name), rounds, None, floor);
    Ok(())
}

fn add_rows(report: &mut Report, case: &str, rounds: Rounds, peer: Option<&(String, Rounds)>, floor: f64) {
    let mut row = |case: String, samples: Vec<f64>, peer: Option<(&String, &Vec<f64>)>, floor| {
        let peer = peer.map(|(version, samples)| Peer {
            name: "llama.cpp, one thread",
            version: version.clone(),
            spread: Spread::of(samples.clone()),
        });
        let ours = Spread::of(samples);
        let ratio = peer.as_ref().map(|peer| ours.max / peer.spread.max);
        report.rows.push(Row { case, metric: "throughput", unit: "tokens/s", ours, peer, ratio, floor });
    };
    row(case.to_owned(), rounds.decode, peer.map(|(version, peer)| (version, &peer.decode)), Some(floor));
    row(format!("prefill {case}"), rounds.prefill, peer.map(|(version, peer)| (version, &peer.prefill)), None);
}

/// Runs `work` with this thread, and those it starts, on `cores` alone.
fn on_cores<T, const COUNT: usize>(
    cores: [usize; COUNT],
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    crate::pin(&cores)?;
    work()
}

/// How fast one core reads memory that is in no cache: what decoding a large model cannot exceed.
#[expect(clippy::unnecessary_wraps, reason = "called like everything else that runs on chosen cores")]
fn bytes_read_per_second() -> anyhow::Result<f64> {
    const BYTES: usize = 256 << 20;
    let (left, right) = (vec![1_u8; BYTES], vec![1_u8; BYTES]);
    let mut best = f64::MAX;
    for _ in 0..7 {
        let start = std::time::Instant::now();
        // The C library compares with the widest loads there are.
        let same = std::hint::black_box(&left) == std::hint::black_box(&right);
        best = best.min(start.elapsed().as_secs_f64());
        std::hint::black_box(same);
    }
    Ok(2.0 * BYTES as f64 / best)
}
