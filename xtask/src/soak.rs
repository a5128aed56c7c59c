//! `cargo xtask soak` and `cargo xtask bench load`: build the binary, start a fabric, load it, judge it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use xtask::fabric::{Fabric, Settings};
use xtask::load::{self, saturation, soak};

use crate::command;

/// Streams at once in `bench load`.
const STREAMS: usize = 200;
/// Refusals must be this quick.
const REFUSAL_BAR: Duration = Duration::from_millis(50);

/// Small enough that bursts overflow it: what is to be seen is how a POP refuses.
const TIGHT: &str = "[limits]\ninflight = 48\nqueue = 128\nqueue_per_tenant = 32\nconnections_per_address = 2048\n";
const WIDE: &str = "[limits]\nconnections_per_address = 2048\n";

/// Loads a POP and a hub for `minutes`; an error if memory grew or anything unexpected happened.
pub(crate) fn run(minutes: u64, clients: usize) -> Result<()> {
    let fabric = fabric(TIGHT)?;
    let options = soak::Options {
        lasts: Duration::from_secs(minutes * 60),
        clients,
        burst: 250,
        burst_every: Duration::from_secs(20),
        prints: true,
    };
    println!("soak: {minutes} min, {clients} clients, bursts of {} every {:?}", options.burst, options.burst_every);
    let mut report = runtime()?.block_on(soak::run(&fabric, options))?;
    println!("{}", report.table());
    report.judge()
}

/// 200 streams at once, fairness between tenants, and refusals under pressure. Writes bench/results/load.json.
pub(crate) fn bench() -> Result<()> {
    let runtime = runtime()?;
    let wide = fabric(WIDE)?;
    let mut streams = runtime.block_on(saturation::streams(&wide, STREAMS, 64))?;
    drop(wide);
    println!("{}", streams.table());
    let tight = fabric(TIGHT)?;
    let pressure = saturation::Pressure { lasts: Duration::from_secs(40), greedy: 160, modest: 40, probes: 1_000 };
    let mut busy = runtime.block_on(saturation::saturate(&tight, pressure))?;
    println!("{}", busy.table());
    let worst = busy.refusals.iter().max().copied().unwrap_or_default();
    write(&streams, &busy)?;
    if !streams.errors.is_empty() || !busy.errors.is_empty() {
        bail!("errors: {:?} {:?}", streams.errors, busy.errors);
    }
    if busy.refusals.is_empty() || worst > REFUSAL_BAR {
        bail!("the slowest of {} refusals took {worst:?}, more than {REFUSAL_BAR:?}", busy.refusals.len());
    }
    Ok(())
}

fn write(streams: &saturation::Streams, busy: &saturation::Busy) -> Result<()> {
    let one = |case: &str, metric: &str, unit: &str, value: f64| {
        json!({ "case": case, "metric": metric, "unit": unit, "peer": null, "ratio": null, "floor": null,
                "ours": { "median": value, "min": value, "max": value, "n": 1 } })
    };
    let spread = |case: &str, times: &[Duration]| {
        // Sorted by the table that was printed before.
        let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied().unwrap_or_default();
        let [min, median, most, max] = [0, 50, 99, 100].map(|part| at(part).as_secs_f64() * 1e3);
        let row = |metric: &str, value: f64| {
            json!({ "case": case, "metric": metric, "unit": "ms", "peer": null, "ratio": null, "floor": null,
                    "ours": { "median": value, "min": min, "max": max, "n": times.len() } })
        };
        [row("p50", median), row("p99", most)]
    };
    let many = format!("{STREAMS} streams");
    let mut rows = vec![
        one(&many, "errors", "count", streams.errors.len() as f64),
        one(&many, "throughput", "tokens/s", streams.tokens_per_second),
        one(&many, "fairness of streams", "Jain", streams.fair_streams),
        one(&many, "fairness of tenants", "Jain", streams.fair_tenants),
        one("saturated", "fairness of tenants", "Jain", busy.fair_tenants),
    ];
    rows.extend(streams.memory.iter().map(|(name, _, most)| one(&many, &format!("{name} memory"), "MiB", *most)));
    rows.extend(spread("time to refusal while saturated", &busy.refusals));
    rows.extend(spread("/healthz while saturated", &busy.health));
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let commit = command::output(std::process::Command::new("git").args(["rev-parse", "HEAD"])).unwrap_or_default();
    let report = json!({
        "name": "load",
        "commit": commit.trim(),
        "machine": {
            "cpu": cpu.map_or("unknown", |(_, name)| name),
            "cores": std::thread::available_parallelism()?.get(),
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
        },
        "rows": rows,
    });
    let path = "bench/results/load.json";
    std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("cannot write {path}"))?;
    println!("{path}");
    Ok(())
}

fn fabric(sections: &str) -> Result<Fabric> {
    let binary = match std::env::var_os("OBSIDIAN_BINARY") {
        Some(path) => PathBuf::from(path),
        None => built()?,
    };
    let settings =
        Settings { edge_lines: sections.to_owned(), hub_lines: String::new(), keys: Some(load::keys_file()) };
    Fabric::start_as(&binary, &settings)
}

fn built() -> Result<PathBuf> {
    command::cargo(["build", "--quiet", "--package", "obsidian"])?;
    // Beside this task's own: both come from the same target directory and profile.
    let own = std::env::current_exe()?;
    Ok(own.parent().context("xtask lies in no folder")?.join("obsidian"))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
