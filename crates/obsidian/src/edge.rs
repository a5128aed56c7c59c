//! `obsidian edge`: a POP from a configuration file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::{self, EdgeFile};
use crate::data_dir::DataDir;
use crate::node::{self, PopSettings};
use crate::telemetry;

/// Run a POP: takes clients, masks, routes, drafts
#[derive(Args)]
pub(crate) struct EdgeArguments {
    /// TOML file; `data_dir` is the only key it must have
    #[arg(long)]
    config: PathBuf,
}

/// Runs until told to stop.
pub(crate) async fn run(arguments: EdgeArguments) -> Result<()> {
    let file: EdgeFile = config::read(&arguments.config)?;
    let telemetry = telemetry::start(&file.telemetry.clone().unwrap_or_default(), "edge", &file.name)?;
    let data = DataDir::open(&file.data_dir)?;
    let authority = data.authority();
    let core = file.core().map_err(anyhow::Error::msg)?;
    let hub = file.hub.map(|hub| (hub.address, hub.authority_dir.unwrap_or(authority)));
    let settings = PopSettings {
        name: file.name,
        listen: file.listen,
        data,
        draft_model: file.draft_model,
        router_weights: file.router_weights,
        api_keys_file: file.api_keys_file,
        residency: file.residency,
        hub,
        core,
        metrics: telemetry::install_metrics()?,
    };
    let pop = node::start_pop(settings).await?;
    node::shutdown_requested().await?;
    pop.shutdown().await;
    telemetry::stop(telemetry).await;
    Ok(())
}
