//! `obsidian up`: POP and hub in one process on embedded defaults, speaking mutual TLS to each other all the same.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use obsidian_types::Residency;

use crate::config::{self, DEFAULT_LISTEN};
use crate::data_dir::DataDir;
use crate::node::{self, HubSettings, PopSettings};

/// Run everything on this machine: POP and hub, shipped models, no configuration
#[derive(Args)]
pub(crate) struct UpArguments {
    /// Where to keep keys, compiled guests and models [default: ~/.local/share/obsidian]
    #[arg(long, env = "OBSIDIAN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect; other than loopback needs --api-keys-file
    #[arg(long, default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// File with one `TENANT KEY` pair a line
    #[arg(long)]
    api_keys_file: Option<PathBuf>,
}

/// Runs until told to stop.
pub(crate) async fn run(arguments: UpArguments) -> Result<()> {
    let folder = match arguments.data_dir {
        Some(folder) => folder,
        None => DataDir::default_path()?,
    };
    let data = DataDir::open(&folder)?;
    let authority = data.authority();
    let hub = node::start_hub(HubSettings {
        threads: None,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: DataDir::open(&folder)?,
        target_model: None,
        kv_budget_mib: config::default_kv_budget_mib(),
        names: Vec::new(),
        authority: authority.clone(),
    })
    .await?;
    let pop = node::start_pop(PopSettings {
        name: "local".to_owned(),
        listen: arguments.listen,
        data,
        draft_model: None,
        router_weights: None,
        api_keys_file: arguments.api_keys_file,
        residency: Residency::Anywhere,
        hub: Some((hub.local_addr().to_string(), authority)),
        metrics: node::install_metrics()?,
    })
    .await?;
    let url = format!("http://{}", pop.local_addr());
    println!("Obsidian is up on {url} (data in {}). Try:", folder.display());
    println!("  obsidian chat --url {url} \"What is Obsidian?\"");
    node::shutdown_requested().await?;
    pop.shutdown().await;
    hub.shutdown().await;
    Ok(())
}
