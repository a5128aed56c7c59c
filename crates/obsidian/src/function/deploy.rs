//! `obsidian fn deploy`: uploads a component, signed, and lets it answer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use obsidian_registry::Envelope;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::package::Package;
use super::{Target, watch};
use crate::client::Admin;
use crate::data_dir::DataDir;

/// Deploy a function, in place of the version that runs; no request fails meanwhile
#[derive(Args)]
pub(crate) struct DeployArguments {
    /// The component, or a folder with obsidian.toml and what was built; absent, only --part is exchanged
    #[arg(required_unless_present = "part")]
    path: Option<PathBuf>,
    /// What it is called on the POP [default: the module's name]
    #[arg(long)]
    name: Option<String>,
    /// The key to sign with, if it is not signed [default: the data directory's development key]
    #[arg(long)]
    key: Option<PathBuf>,
    /// The envelope with the signatures [default: FILE.dsse if it exists]
    #[arg(long, conflicts_with = "key")]
    envelope: Option<PathBuf>,
    /// Let anybody call it; --public=false lets only the tenant's keys
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    public: Option<bool>,
    /// A host name that leads to it; may be given several times
    #[arg(long)]
    host: Vec<String>,
    /// A component for imports of the root: NAME=FILE, or NAME= to remove it; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = part)]
    part: Vec<(String, Option<PathBuf>)>,
    /// A step back to an older version is meant
    #[arg(long)]
    allow_older: bool,
    /// Answer sooner: with code that is compiled quickly, until optimised code has taken its place
    #[arg(long)]
    quick: bool,
    /// Deploy again whenever the file changes, quickly, signed with the key under versions of its own
    #[arg(long, conflicts_with = "envelope", requires = "path")]
    watch: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn part(text: &str) -> Result<(String, Option<PathBuf>), String> {
    match text.split_once('=') {
        Some((name, "")) if !name.is_empty() => Ok((name.to_owned(), None)),
        Some((name, file)) if !name.is_empty() => Ok((name.to_owned(), Some(file.into()))),
        _ => Err("write NAME=FILE".to_owned()),
    }
}

/// Runs the command.
pub(super) async fn run(arguments: DeployArguments) -> Result<()> {
    if arguments.watch {
        return watch::run(&arguments).await;
    }
    let admin = arguments.target.admin()?;
    let root = match &arguments.path {
        None => None,
        Some(path) => {
            let package = Package::open(path, arguments.name.as_deref())?;
            let envelope = arguments.envelope_of(&package, arguments.envelope.as_deref())?;
            Some(package.upload(&admin, &envelope).await?)
        }
    };
    let changed = arguments.send(&admin, root).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&changed)?);
    } else {
        show(&changed);
    }
    Ok(())
}

impl DeployArguments {
    /// The component to watch.
    pub(super) fn path(&self) -> Result<&PathBuf> {
        self.path.as_ref().context("name the file or folder to watch")
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The key to sign with.
    pub(super) fn signing_key(&self) -> Result<PathBuf> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => self.development_key(),
        }
    }

    fn development_key(&self) -> Result<PathBuf> {
        Ok(DataDir::open(&self.target.data_dir()?)?.development_key())
    }

    fn envelope_of(&self, package: &Package, named: Option<&std::path::Path>) -> Result<Envelope> {
        package.envelope(named, self.key.as_deref(), &self.development_key()?)
    }

    /// Uploads the parts and sends the deployment.
    pub(super) async fn send(&self, admin: &Admin, root: Option<Value>) -> Result<Value> {
        let mut parts = Map::new();
        for (name, file) in &self.part {
            let Some(file) = file else {
                parts.insert(name.clone(), Value::Null);
                continue;
            };
            let package = Package::open(file, Some(name))?;
            let envelope = self.envelope_of(&package, None)?;
            parts.insert(name.clone(), package.upload(admin, &envelope).await?);
        }
        let mut body = json!({
            "tenant": self.target.tenant,
            "parts": parts,
            "allow_older": self.allow_older,
            "quick": self.quick || self.watch,
        });
        for (key, value) in [("name", json!(self.name)), ("root", json!(root)), ("public", json!(self.public))] {
            if !value.is_null() {
                body[key] = value;
            }
        }
        if !self.host.is_empty() {
            body["hosts"] = json!(self.host);
        }
        admin.json(Method::POST, "/v1/functions", &body).await
    }
}

/// What a change did, in a few lines.
pub(super) fn show(changed: &Value) {
    let text = |key: &str| changed[key].as_str().unwrap_or_default();
    let micros = |key: &str| changed[key].as_f64().unwrap_or_default() / 1000.0;
    println!("{} {} answers at {}", text("name"), text("version"), text("path"));
    println!(
        "loaded in {:.1} ms, warmed in {:.1} ms, switched in {:.2} ms",
        micros("load_us"),
        micros("warm_us"),
        micros("switch_us")
    );
    if changed["quick"] == true {
        println!("compiled quickly: optimised code takes its place as soon as it is there");
    }
    if let Some(previous) = changed["previous"].as_str() {
        println!("{previous} is kept ready: `obsidian fn rollback {}` goes back to it", text("name"));
    }
    for denied in changed["denied"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("not granted by this node: {denied}");
    }
}
