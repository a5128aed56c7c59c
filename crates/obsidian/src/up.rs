//! `obsidian up`: POP and hub in one process on embedded defaults, speaking mutual TLS to each other all the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use obsidian_edge::functions::{FunctionSettings, NodePolicy};
use obsidian_types::Residency;
use obsidian_wire::core::{CoreOptions, Upstream};

use crate::config::{
    self, CorePeer, CoresSection, DEFAULT_LISTEN, FunctionsSection, LengthName, ModelsSection, TelemetrySection,
};
use crate::data_dir::DataDir;
use crate::guests::Placement;
use crate::node::{self, HubSettings, Ingress, PopSettings};
use crate::telemetry;

/// Run everything on this machine: POP and hub, shipped models, no configuration
#[derive(Args)]
pub(crate) struct UpArguments {
    /// Where to keep keys, compiled guests and models [default: ~/.local/share/obsidian]
    #[arg(long, env = "OBSIDIAN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect; other than loopback needs --api-keys-file and --allow-plaintext
    #[arg(long, default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Draft model of the POP: a name from `obsidian model list` or a GGUF file [default: the shipped one]
    #[arg(long, value_name = "MODEL")]
    draft_model: Option<PathBuf>,
    /// Target model of the hub: a name from `obsidian model list` or a GGUF file [default: the shipped one]
    #[arg(long, value_name = "MODEL")]
    target_model: Option<PathBuf>,
    /// File with one `TENANT KEY` pair a line
    #[arg(long)]
    api_keys_file: Option<PathBuf>,
    /// Speak plain HTTP beyond loopback, because a proxy in front speaks TLS
    #[arg(long)]
    allow_plaintext: bool,
    /// TOML file with the keys of `[functions]`; without it functions get every store, model and public host they ask for
    #[arg(long)]
    functions_file: Option<PathBuf>,
    /// An OpenAI-compatible upstream for the core route, for example https://api.example.com/v1
    #[arg(long, requires = "core_model")]
    core_url: Option<String>,
    /// The model to ask that upstream for
    #[arg(long, requires = "core_url")]
    core_model: Option<String>,
    /// File whose only line is that upstream's API key
    #[arg(long, requires = "core_url")]
    core_key_file: Option<PathBuf>,
}

impl UpArguments {
    /// The one upstream that can be named on the command line; a POP's configuration file takes several.
    fn core(&self) -> Result<Option<(Vec<Upstream>, CoreOptions)>> {
        let (Some(url), Some(model)) = (&self.core_url, &self.core_model) else {
            return Ok(None);
        };
        let peer = CorePeer {
            name: "core".to_owned(),
            base_url: url.clone(),
            model: model.clone(),
            models: BTreeMap::new(),
            api_key_file: self.core_key_file.clone(),
            api_key_env: None,
            ca_file: None,
            allow_plaintext: false,
            length_field: LengthName::default(),
        };
        let upstream = peer.upstream().map_err(anyhow::Error::msg)?;
        Ok(Some((vec![upstream], CoreOptions::default())))
    }
}

/// Runs until told to stop.
pub(crate) async fn run(arguments: UpArguments) -> Result<()> {
    let core = arguments.core()?;
    let folder = match arguments.data_dir {
        Some(folder) => folder,
        None => DataDir::default_path()?,
    };
    let data = DataDir::open(&folder)?;
    let authority = data.authority();
    let functions = match &arguments.functions_file {
        Some(path) => FunctionsSection::read(path)?.settings(data.path()).map_err(anyhow::Error::msg)?,
        None => FunctionSettings { policy: NodePolicy::development(), ..FunctionSettings::new(data.path()) },
    };
    let metrics = telemetry::install_metrics()?;
    // No file here: the environment's OTEL_EXPORTER_OTLP_ENDPOINT decides.
    let telemetry = telemetry::start(&TelemetrySection::default(), "up", "local")?;
    let hub = node::start_hub(HubSettings {
        threads: None,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: DataDir::open(&folder)?,
        target_model: arguments.target_model,
        kv_budget_mib: config::default_kv_budget_mib(),
        names: Vec::new(),
        authority: authority.clone(),
    })
    .await?;
    let pop = node::start_pop(PopSettings {
        name: "local".to_owned(),
        listen: arguments.listen,
        data,
        placement: Placement {
            draft_model: arguments.draft_model,
            models: ModelsSection::default(),
            cores: CoresSection::default(),
        },
        router_weights: None,
        residency: Residency::Anywhere,
        ingress: Ingress {
            api_keys_file: arguments.api_keys_file,
            allow_plaintext: arguments.allow_plaintext,
            ..Ingress::default()
        },
        hub: Some((hub.local_addr().to_string(), authority)),
        core,
        functions: Some(functions),
        metrics,
    })
    .await?;
    let url = format!("http://{}", pop.local_addr());
    println!("Obsidian is up on {url} (data in {}). Try:", folder.display());
    println!("  obsidian chat --url {url} \"What is Obsidian?\"");
    println!("  obsidian fn deploy FILE.wasm --data-dir {}", folder.display());
    node::shutdown_requested(|| tracing::info!("SIGHUP: `obsidian up` has no configuration to read again")).await?;
    node::finish(async {
        pop.shutdown().await;
        hub.shutdown().await;
    })
    .await?;
    telemetry::stop(telemetry).await;
    Ok(())
}
