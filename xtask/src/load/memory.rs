//! What a process occupies, as the kernel counts it.

use anyhow::{Context, Result};

/// MiB of one process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Pages it has mapped and resident.
    pub resident: f64,
    /// The same, each page divided by the number of mappings that share it.
    pub proportional: f64,
}

impl Memory {
    /// Of process `pid` now.
    pub fn of(pid: u32) -> Result<Self> {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { resident: mebibytes(&rollup, "Rss:")?, proportional: mebibytes(&rollup, "Pss:")? })
    }
}

fn mebibytes(text: &str, key: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    let kibibytes: f64 = number.and_then(|number| number.parse().ok()).with_context(|| format!("no {key}"))?;
    Ok(kibibytes / 1_024.0)
}
