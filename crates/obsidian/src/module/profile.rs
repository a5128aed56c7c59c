//! `obsidian module profile`: where a command or a function spends its time, as a file for Firefox's profiler and as a flame graph.

mod flame;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use obsidian_sandbox::command::Requests;

use super::run::{self, Grants};
use super::vouch;

/// Run a command, or ask a function, and draw where it spends its time
///
/// A function that answers HTTP is asked the same thing many times, without stores or configuration. Samples are taken where the guest enters functions and goes round loops; time in the host is not seen. Build with
/// `--names` to see functions' names.
#[derive(Args)]
pub(super) struct ProfileArguments {
    /// The file of the command or function
    file: PathBuf,
    #[command(flatten)]
    grants: Grants,
    /// For a function: how often it is asked
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// For a function: what it is asked for
    #[arg(long, default_value = "/")]
    path: String,
    /// Samples a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    frequency: u32,
    /// Where the profile goes, for profiler.firefox.com [default: NAME.profile.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the flame graph goes [default: NAME.profile.svg]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Arguments for the command
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

pub(super) fn run(arguments: &ProfileArguments) -> Result<ExitCode> {
    let interval = Duration::from_secs(1) / arguments.frequency;
    let ran = run::execute(&arguments.file, &arguments.grants, &arguments.arguments, |grants| {
        grants.sample = Some(interval);
        grants.requests = Some(Requests { path: arguments.path.clone(), count: arguments.requests });
    })?;
    let name = vouch::name(&arguments.file);
    if let Some(profile) = ran.profile {
        let json = arguments.json.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.profile.json")));
        let svg = arguments.svg.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.profile.svg")));
        std::fs::write(&json, &profile).with_context(|| format!("cannot write {}", json.display()))?;
        let stacks = flame::Stacks::read(&profile)?;
        let samples = stacks.samples();
        if samples == 0 {
            bail!("no sample was taken: the command ran for less than {interval:?}; give it more to do");
        }
        std::fs::write(&svg, stacks.draw(&name)).with_context(|| format!("cannot write {}", svg.display()))?;
        eprintln!("{samples} samples: {} (open in profiler.firefox.com), {}", json.display(), svg.display());
    }
    run::exit_code(ran.ended)
}
