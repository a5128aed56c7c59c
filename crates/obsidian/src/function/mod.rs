//! `obsidian fn`: functions on a running POP, through its administration. One file per subcommand.

mod deploy;
mod list;
mod logs;
pub(crate) mod package;
mod shadow;
mod watch;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use crate::client::Admin;
use crate::data_dir::DataDir;

/// Deploy functions on a running POP and look after them
#[derive(Args)]
pub(crate) struct FunctionArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Deploy(deploy::DeployArguments),
    List(list::ListArguments),
    /// Show one function in full: versions, grants it was denied, instances, times
    Stats(NamedArguments),
    Logs(logs::LogsArguments),
    /// Let the version before answer again
    Rollback(NamedArguments),
    /// Remove a function; its stores stay
    Remove(NamedArguments),
    Shadow(shadow::ShadowArguments),
}

/// How the POP is found.
#[derive(Args, Clone)]
pub(crate) struct Place {
    /// The POP's data directory, where its administration's socket is [default: ~/.local/share/obsidian]
    #[arg(long, env = "OBSIDIAN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The administration's socket, if it is elsewhere
    #[arg(long, conflicts_with = "admin")]
    socket: Option<PathBuf>,
    /// The administration's address, for example http://127.0.0.1:9901
    #[arg(long, requires = "token_file")]
    admin: Option<String>,
    /// File with the token for that address
    #[arg(long, requires = "admin")]
    token_file: Option<PathBuf>,
}

impl Place {
    pub(crate) fn data_dir(&self) -> Result<PathBuf> {
        match &self.data_dir {
            Some(folder) => Ok(folder.clone()),
            None => DataDir::default_path(),
        }
    }

    pub(crate) fn admin(&self) -> Result<Admin> {
        if let (Some(url), Some(file)) = (&self.admin, &self.token_file) {
            let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            return Admin::over_tcp(url, token.trim().to_owned());
        }
        match &self.socket {
            Some(socket) => Admin::over_socket(socket),
            None => Admin::over_socket(&self.data_dir()?.join("admin.sock")),
        }
    }
}

/// A POP, and whose functions are meant.
#[derive(Args, Clone)]
pub(crate) struct Target {
    #[command(flatten)]
    place: Place,
    /// Whose function it is
    #[arg(long, default_value = "default")]
    tenant: String,
}

impl Target {
    fn data_dir(&self) -> Result<PathBuf> {
        self.place.data_dir()
    }

    fn admin(&self) -> Result<Admin> {
        self.place.admin()
    }

    /// The path of a function, or of something of it.
    fn path(&self, name: &str, more: &str) -> String {
        format!("/v1/functions/{}/{name}{more}", self.tenant)
    }
}

/// One function.
#[derive(Args)]
pub(crate) struct NamedArguments {
    /// Its name
    name: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one action.
pub(crate) async fn run(arguments: FunctionArguments) -> Result<()> {
    match arguments.action {
        Action::Deploy(arguments) => deploy::run(arguments).await,
        Action::List(arguments) => list::run(&arguments).await,
        Action::Stats(arguments) => list::stats(&arguments).await,
        Action::Logs(arguments) => logs::run(&arguments).await,
        Action::Rollback(arguments) => roll_back(&arguments).await,
        Action::Remove(arguments) => remove(&arguments).await,
        Action::Shadow(arguments) => shadow::run(&arguments).await,
    }
}

async fn roll_back(arguments: &NamedArguments) -> Result<()> {
    let NamedArguments { name, target, json } = arguments;
    let changed = target.admin()?.json(Method::POST, &target.path(name, "/rollback"), &Value::Null).await?;
    if *json {
        println!("{}", serde_json::to_string_pretty(&changed)?);
        return Ok(());
    }
    deploy::show(&changed);
    Ok(())
}

async fn remove(arguments: &NamedArguments) -> Result<()> {
    let NamedArguments { name, target, json } = arguments;
    let removed = target.admin()?.json(Method::DELETE, &target.path(name, ""), &Value::Null).await?;
    if *json {
        println!("{}", serde_json::to_string_pretty(&removed)?);
    } else {
        println!("{name} is removed; its stores stay");
    }
    Ok(())
}
