//! `obsidian hub`: a hub from a configuration file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::{self, HubFile};
use crate::data_dir::DataDir;
use crate::node::{self, HubSettings};
use crate::telemetry;

/// Run a hub: holds the target model and verifies the drafts of POPs
#[derive(Args)]
pub(crate) struct HubArguments {
    /// TOML file; `data_dir` is the only key it must have
    #[arg(long)]
    config: PathBuf,
}

/// Runs until told to stop.
pub(crate) async fn run(arguments: HubArguments) -> Result<()> {
    let file: HubFile = config::read(&arguments.config)?;
    telemetry::install_metrics_listener(file.metrics_listen)?;
    let telemetry = telemetry::start(&file.telemetry.unwrap_or_default(), "hub", "hub")?;
    let data = DataDir::open(&file.data_dir)?;
    let authority = file.authority_dir.unwrap_or_else(|| data.authority());
    let settings = HubSettings {
        listen: file.listen,
        data,
        target_model: file.target_model,
        threads: file.threads,
        kv_budget_mib: file.kv_budget_mib,
        names: file.names,
        authority,
    };
    let hub = node::start_hub(settings).await?;
    node::shutdown_requested(|| tracing::info!("SIGHUP: a hub reads its configuration at its start only")).await?;
    node::finish(hub.shutdown()).await?;
    telemetry::stop(telemetry).await;
    Ok(())
}
