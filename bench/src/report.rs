//! The form every result has, as a table and as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;

/// One benchmark's results on one machine.
#[derive(Serialize)]
pub(crate) struct Report {
    name: &'static str,
    commit: String,
    machine: Machine,
    pub(crate) rows: Vec<Row>,
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
}

/// One case and metric.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours: Spread,
    pub(crate) peer: Option<Peer>,
    /// How many times better ours is.
    pub(crate) ratio: Option<f64>,
    /// The physical limit in the same unit.
    pub(crate) floor: Option<f64>,
}

/// What ours is compared with.
#[derive(Clone, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    #[serde(flatten)]
    pub(crate) spread: Spread,
}

/// Median, extremes and number of measurements.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) n: usize,
}

impl Spread {
    /// Of at least one measurement.
    pub(crate) fn of(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a spread needs a measurement");
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median =
            if samples.len() % 2 == 1 { samples[middle] } else { (samples[middle - 1] + samples[middle]) / 2.0 };
        Self { median, min: samples[0], max: samples[samples.len() - 1], n: samples.len() }
    }
}

impl Report {
    pub(crate) fn new(name: &'static str) -> anyhow::Result<Self> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
        let machine = Machine {
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
        };
        Ok(Self { name, commit: commit(), machine, rows: Vec::new() })
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let Machine { cpu, cores, kernel } = &self.machine;
        let mut table = format!("{} on {cpu}, {cores} cores, Linux {kernel}\n\n", self.name);
        let heading = ["case", "metric", "ours", "min", "max", "n", "peer", "ratio"];
        let mut lines = vec![heading.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> = (0..heading.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for line in lines {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Text to the left, numbers to the right.
                let _ = if column < 2 { write!(table, "{cell:<width$}  ") } else { write!(table, "{cell:>width$}  ") };
            }
            table.push('\n');
        }
        let peer = self.rows.iter().find_map(|row| row.peer.as_ref());
        if let Some(Peer { name, version, .. }) = peer {
            let _ = write!(table, "\npeer: {name} ({version})");
        }
        table
    }

    /// For programs. Returns the file's path.
    pub(crate) fn write(&self) -> anyhow::Result<PathBuf> {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        std::fs::create_dir_all(&results)?;
        let path = results.join(format!("{}.json", self.name));
        let json = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&path, json).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Row {
    fn cells(&self) -> [String; 8] {
        let Spread { median, min, max, n } = self.ours;
        let peer = self.peer.as_ref().map_or_else(|| "–".to_owned(), |peer| number(peer.spread.median));
        let ratio = |ratio: f64| if ratio < 10.0 { format!("{ratio:.2}x") } else { format!("{ratio:.0}x") };
        let ratio = self.ratio.map_or_else(|| "–".to_owned(), ratio);
        let metric = format!("{} ({})", self.metric, self.unit);
        [self.case.clone(), metric, number(median), number(min), number(max), n.to_string(), peer, ratio]
    }
}

fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    if changed { commit + "+changes" } else { commit }
}
