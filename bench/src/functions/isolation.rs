//! What neighbours feel of a hostile tenant: the answer times of a quiet function alone, and beside each attack.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use obsidian_sandbox::functions::{FunctionHost, FunctionHostOptions, FunctionModule};
use obsidian_types::FunctionLimits;

use super::{ask, engines, host, load, percentile, request, runtime};
use crate::report::{Peer, Report, Row, Spread};

/// Niceness of the thread that sends the attacker's requests.
const CLIENT_NICENESS: i32 = 19;
/// Requests of the attacker in flight at once.
const ATTACKERS: usize = 8;

/// What the attacker asks of its function.
const ATTACKS: [&str; 8] = [
    "/loop",
    "/allocate",
    "/recurse",
    "/unreachable",
    "/flood?n=100000",
    "/handles?n=100000",
    "/outbound?n=1000&url=denied.example.net",
    "/hello",
];

/// Settings of `isolation`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Requests of the neighbour in each case
    #[arg(long, default_value_t = 3_000)]
    requests: usize,
    /// Measurements of each case, alone and beside the attack in turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Between two requests, microseconds
    #[arg(long, default_value_t = 1_000)]
    interval_us: u64,
    /// Only attacks whose path contains this, for example `allocate`
    #[arg(long, default_value = "")]
    only: String,
    /// Where compiled code is kept between runs
    #[arg(long, default_value = super::DIRECTORY)]
    directory: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("isolation")?;
    std::fs::create_dir_all(&options.directory)?;
    // As the threads do that take requests in from the network.
    obsidian_sandbox::run_promptly();
    let engines = engines(&options.directory)?;
    let host = host(&engines, &FunctionHostOptions { threads: 2, cores: Vec::new(), instances: 512, running: 256 })?;
    let hello = obsidian_guests::functions_hello()?;
    let neighbour = load(&host, &hello, "neighbour", FunctionLimits::default())?;
    measure(options, &neighbour)?;
    for path in ATTACKS.into_iter().filter(|path| path.contains(&options.only)) {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            alone.push(measure(options, &neighbour)?);
            let attack = Attack::begin(&host, path)?;
            std::thread::sleep(Duration::from_millis(300));
            beside.push(measure(options, &neighbour)?);
            let (answers, refusals) = attack.end();
            eprintln!("{path}: {answers} attacks answered, {refusals} ended with their own error");
        }
        for (metric, share) in [("p50", 0.5), ("p99", 0.99)] {
            let spread = |runs: &[Vec<f64>]| Spread::of(runs.iter().map(|run| percentile(run, share)).collect());
            let (ours, alone) = (spread(&beside), spread(&alone));
            report.rows.push(Row {
                case: format!("beside {path}"),
                metric,
                unit: "us",
                ratio: Some(alone.median / ours.median),
                ours,
                peer: Some(Peer { name: "the same alone", version: "no attack".to_owned(), spread: alone }),
                floor: None,
            });
        }
    }
    Ok(report)
}

/// Microseconds of each request, ascending. Each has its time on a timetable and counts from it.
fn measure(options: &Options, neighbour: &FunctionModule) -> anyhow::Result<Vec<f64>> {
    let interval = Duration::from_micros(options.interval_us);
    let runtime = runtime()?;
    let began = Instant::now();
    let mut micros = Vec::with_capacity(options.requests);
    for number in 0..u32::try_from(options.requests)? {
        let due = began + interval * number;
        let early = due.checked_duration_since(Instant::now());
        early.map(std::thread::sleep).unwrap_or_default();
        // The kernel wakes a sleeper late; who could leave on time counts from when it did.
        let left = if early.is_some() { Instant::now() } else { due };
        runtime.block_on(ask(neighbour, "/"))?;
        micros.push(left.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    Ok(micros)
}

/// A tenant that attacks without a pause.
struct Attack {
    stop: Arc<AtomicBool>,
    counts: Arc<(AtomicU64, AtomicU64)>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Attack {
    fn begin(host: &FunctionHost, path: &'static str) -> anyhow::Result<Self> {
        let hostile = obsidian_guests::hostile_function()?;
        let limits = FunctionLimits { cpu_ms: 200, wall_ms: 1_000, ..FunctionLimits::default() };
        let function = load(host, &hostile, "attacker", limits)?;
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new((AtomicU64::new(0), AtomicU64::new(0))));
        let (ended, counted) = (stop.clone(), counts.clone());
        // One thread that sends them all, behind everything else: the attack is what the sandboxes do, not the clients,
        // which are on other machines.
        let thread = std::thread::spawn(move || {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), CLIENT_NICENESS);
            let Ok(runtime) = runtime() else { return };
            runtime.block_on(async {
                let one = || async {
                    while !ended.load(Ordering::Relaxed) {
                        let Ok(request) = request(path) else { return };
                        let count = match function.call(request).await {
                            Ok(_) => &counted.0,
                            Err(_) => &counted.1,
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                };
                futures::future::join_all((0..ATTACKERS).map(|_| one())).await;
            });
        });
        Ok(Self { stop, counts, threads: vec![thread] })
    }

    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        (self.counts.0.load(Ordering::Relaxed), self.counts.1.load(Ordering::Relaxed))
    }
}
