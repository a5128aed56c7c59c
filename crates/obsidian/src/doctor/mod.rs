//! `obsidian doctor`: checks what a node needs before it is started, and says what to do about each finding.
//!
//! Looking is separate from judging: `host.rs`, `density.rs` and `node.rs` gather facts and hand out findings, so that the
//! judgement can be tested on machines that are not at hand. In an existing data directory a trial file comes
//! and goes, and what any first start makes (the cache of compiled guests, this POP's certificate) may be made.
//! Start at [`run`].

mod density;
mod host;
mod node;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::config::Role;

/// Check whether this machine, data directory and configuration can run a node
#[derive(Args)]
#[command(after_help = "Exit codes: 0 nothing worse than warnings, 1 something keeps the node from running.")]
pub(crate) struct DoctorArguments {
    /// The node's configuration file; without it, what `obsidian up` needs is checked
    #[arg(long)]
    config: Option<PathBuf>,
    /// Which role the configuration is for, where the file does not tell
    #[arg(long, requires = "config")]
    role: Option<Role>,
    /// Where the node keeps its data, without --config [default: ~/.local/share/obsidian]
    #[arg(long, env = "OBSIDIAN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// How many live sandboxes the machine is to carry, with --config of a POP or without one
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sandboxes: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Good,
    Warning,
    Failure,
}

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Good, found: found.into(), advice: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    fn failure(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Failure, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: DoctorArguments) -> Result<()> {
    let mut findings = host::judge(&host::Facts::read());
    findings.extend(node::check(&arguments).await?);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print!("{}", table(&findings));
    }
    let failures = findings.iter().filter(|finding| finding.level == Level::Failure).count();
    if failures > 0 {
        bail!("{failures} of {} checks failed", findings.len());
    }
    Ok(())
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Failure => "FAILURE",
        };
        text += &format!("{level:<8} {:<18} {}\n", finding.check, finding.found);
        if let Some(advice) = &finding.advice {
            text += &format!("{:<8} {:<18} -> {advice}\n", "", "");
        }
    }
    text
}
