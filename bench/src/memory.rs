//! What this process occupies, as the kernel counts it.

use std::ops::Sub;

use anyhow::Context as _;

/// KiB by kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Anonymous pages that only this process holds: memory a sandbox costs for good.
    pub(crate) anonymous: f64,
    /// All pages, each divided by the number of mappings that share it.
    pub(crate) proportional: f64,
    /// Page tables.
    pub(crate) page_tables: f64,
}

impl Memory {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        Ok(Self {
            anonymous: kibibytes(&rollup, "Anonymous:")?,
            proportional: kibibytes(&rollup, "Pss:")?,
            page_tables: kibibytes(&status, "VmPTE:")?,
        })
    }
}

impl Sub for Memory {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            anonymous: self.anonymous - earlier.anonymous,
            proportional: self.proportional - earlier.proportional,
            page_tables: self.page_tables - earlier.page_tables,
        }
    }
}

fn kibibytes(text: &str, key: &str) -> anyhow::Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).with_context(|| format!("the kernel gives no {key}"))
}
