//! `obsidian model`: the models of this node. One file per subcommand; what several need is in `locate.rs`
//! (from a name to a file), `describe.rs` (from a file to what it is) and `show.rs` (from numbers to text).

mod add;
mod describe;
mod inspect;
mod list;
pub(crate) mod locate;
pub(crate) mod measure;
mod pull;
mod remove;
pub(crate) mod show;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::data_dir::DataDir;

/// Add, fetch, list, look into and remove the models of this node
#[derive(Args)]
pub(crate) struct ModelArguments {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    Add(add::AddArguments),
    Pull(pull::PullArguments),
    List(list::ListArguments),
    Inspect(inspect::InspectArguments),
    Remove(remove::RemoveArguments),
}

/// What every subcommand takes.
#[derive(Args)]
struct Common {
    /// Where the node keeps its data [default: ~/.local/share/obsidian]
    #[arg(long, env = "OBSIDIAN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    fn data(&self) -> Result<DataDir> {
        match &self.data_dir {
            Some(path) => DataDir::open(path),
            None => DataDir::open(&DataDir::default_path()?),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: ModelArguments) -> Result<()> {
    match arguments.command {
        ModelCommand::Add(add) => add::run(&add),
        ModelCommand::Pull(pull) => pull::run(&pull).await,
        ModelCommand::List(list) => list::run(&list),
        ModelCommand::Inspect(inspect) => inspect::run(&inspect),
        ModelCommand::Remove(remove) => remove::run(&remove),
    }
}
