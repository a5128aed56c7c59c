//! `obsidian edge`: a POP from a configuration file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use obsidian_edge::EdgeHandle;

use crate::config::{self, EdgeFile};
use crate::data_dir::DataDir;
use crate::guests::Placement;
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
    let ingress = file.ingress().map_err(anyhow::Error::msg)?;
    let core = file.core().map_err(anyhow::Error::msg)?;
    let functions = file.functions.as_ref().map(|section| section.settings(data.path())).transpose();
    let functions = functions.map_err(anyhow::Error::msg)?;
    let hub = file.hub.map(|hub| (hub.address, hub.authority_dir.unwrap_or(authority)));
    let settings = PopSettings {
        name: file.name,
        listen: file.listen,
        data,
        placement: Placement { draft_model: file.draft_model, models: file.models, cores: file.cores },
        router_weights: file.router_weights,
        residency: file.residency,
        ingress,
        hub,
        core,
        functions,
        metrics: telemetry::install_metrics()?,
    };
    let pop = node::start_pop(settings).await?;
    let configuration = arguments.config;
    node::shutdown_requested(|| reload(&pop, &configuration)).await?;
    node::finish(pop.shutdown()).await?;
    telemetry::stop(telemetry).await;
    Ok(())
}

/// SIGHUP: keys, those of upstreams too, certificate, limits, origins and proxies are read again; all else needs a restart.
fn reload(pop: &EdgeHandle, configuration: &Path) {
    let reloaded = || -> Result<()> {
        let file: EdgeFile = config::read(configuration)?;
        let settings = file.ingress().map_err(anyhow::Error::msg)?.reload_settings()?;
        // Each part is tried: what is wrong with one keeps no other away.
        let (ingress, core) = (pop.reload(settings), pop.reload_core_keys());
        ingress?;
        Ok(core?)
    };
    if let Err(error) = reloaded() {
        tracing::error!(error = format!("{error:#}"), "SIGHUP: the settings stay as they were");
    }
}
