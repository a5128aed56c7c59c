//! `obsidian module run`: a command, run once with what is granted on the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use obsidian_sandbox::command::{Command, CommandGrants, Directory, Ended, Ran};

use super::{read_module, vouch};
use crate::exit::Stop;

/// Exit code of a trap, as a native program has after `abort`.
const TRAPPED: u8 = 134;
/// Exit code when the time was over, as `timeout` has it.
const TIMED_OUT: u8 = 124;

/// Run a command once: a component with `wasi:cli/run`, or a core module of WASI preview 1
///
/// Standard streams and the exit code pass through; a trap exits with 134. The command sees no directory, variable
/// or socket that is not named here. Typing the command vouches for the file: no envelope is asked for.
#[derive(Args)]
pub(super) struct RunArguments {
    /// The command's file
    file: PathBuf,
    #[command(flatten)]
    grants: Grants,
    /// Arguments for the command
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// What `run` and `profile` grant.
#[derive(Args)]
pub(super) struct Grants {
    /// Directory that the command may read and change; GUEST is what it calls it
    #[arg(long = "dir", value_name = "HOST[::GUEST]")]
    directories: Vec<String>,
    /// Directory that the command may only read
    #[arg(long = "read-only-dir", value_name = "HOST[::GUEST]")]
    read_only_directories: Vec<String>,
    /// Environment variable; without a value, the one that it has here
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// Let the command use the machine's network
    #[arg(long)]
    inherit_network: bool,
    /// Linear memory that the command may have, MiB
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    memory_mib: u64,
    /// End the command after this many seconds, with exit code 124 [default: never]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_seconds: Option<u64>,
    /// Keep compiled code in this directory (private to you) for the next run
    #[arg(long, value_name = "DIRECTORY")]
    cache: Option<PathBuf>,
}

/// Runs the command and passes its exit code through.
pub(super) fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let ran = execute(&arguments.file, &arguments.grants, &arguments.arguments, |_| ())?;
    exit_code(ran.ended)
}

/// Loads and runs a command; `more` adds what the command line has no words for.
pub(super) fn execute(
    file: &std::path::Path,
    granted: &Grants,
    arguments: &[String],
    more: impl FnOnce(&mut CommandGrants),
) -> Result<Ran> {
    let mut grants = granted.resolve(file, arguments)?;
    more(&mut grants);
    let artifact = vouch::vouched(file, read_module(file)?)?;
    Ok(Command::load(&artifact, granted.cache.as_deref())?.run(&grants)?)
}

/// What a run that ended tells the shell.
pub(super) fn exit_code(ended: Ended) -> Result<ExitCode> {
    match ended {
        // As the kernel keeps it: the lowest eight bits.
        Ended::Exit(code) => Ok(ExitCode::from((code & 0xff) as u8)),
        Ended::Trap(reason) => {
            eprintln!("error: the command trapped: {reason}");
            Ok(ExitCode::from(TRAPPED))
        }
        Ended::TimedOut => {
            eprintln!("error: the command took longer than --timeout-seconds");
            Ok(ExitCode::from(TIMED_OUT))
        }
        Ended::Failed(reason) => Err(anyhow::anyhow!("the command cannot run: {reason}")),
    }
}

impl Grants {
    fn resolve(&self, file: &std::path::Path, arguments: &[String]) -> Result<CommandGrants> {
        let program = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let writable = self.directories.iter().map(|text| directory(text, true));
        let readable = self.read_only_directories.iter().map(|text| directory(text, false));
        let environment = self.environment.iter().map(|text| variable(text));
        Ok(CommandGrants {
            arguments: std::iter::once(program).chain(arguments.iter().cloned()).collect(),
            environment: environment.collect::<Result<_, _>>()?,
            directories: writable.chain(readable).collect(),
            network: self.inherit_network,
            memory_bytes: self.memory_mib << 20,
            wall: self.timeout_seconds.map(Duration::from_secs),
            sample: None,
            requests: None,
        })
    }
}

fn directory(text: &str, writable: bool) -> Directory {
    let (host, guest) = text.split_once("::").unwrap_or((text, text));
    Directory { host: host.into(), guest: guest.to_owned(), writable }
}

fn variable(text: &str) -> Result<(String, String), Stop> {
    match text.split_once('=') {
        Some(("", _)) => Err(Stop::Usage(format!("--env {text}: the name is missing"))),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(Stop::Usage(format!("--env {text}: not set here, write --env {text}=VALUE"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{directory, variable};

    #[test]
    fn directories_and_variables_are_read() {
        let shared = directory("/tmp/a::/data", false);
        assert_eq!((shared.host.to_str(), shared.guest.as_str(), shared.writable), (Some("/tmp/a"), "/data", false));
        assert_eq!(directory(".", true).guest, ".");
        assert_eq!(variable("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert!(variable("=x").is_err() && variable("NO_SUCH_VARIABLE_HERE").is_err());
    }
}
