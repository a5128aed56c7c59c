//! `obsidian guest`: the guests of a running POP, through its administration.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use obsidian_edge::GuestKind;
use reqwest::Method;
use serde_json::Value;

use crate::data_dir::DataDir;
use crate::function::Place;
use crate::function::package::Package;

/// Exchange the guests of a running POP: shield, router and drafter
#[derive(Args)]
pub(crate) struct GuestArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show which version of each serves, and what could be gone back to
    List(ListArguments),
    Swap(SwapArguments),
    /// Let the version before serve again; once more goes forward
    Rollback(RollbackArguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Shield,
    Router,
    Drafter,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Shield => GuestKind::Shield,
            Self::Router => GuestKind::Router,
            Self::Drafter => GuestKind::Drafter,
        }
        .as_str()
    }
}

#[derive(Args)]
struct ListArguments {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Put another version in a guest's place; what runs ends on the version it began with
#[derive(Args)]
struct SwapArguments {
    /// Whose place
    kind: Kind,
    /// The component
    file: PathBuf,
    /// The envelope with the signatures [default: FILE.dsse if it exists]
    #[arg(long, conflicts_with = "key")]
    envelope: Option<PathBuf>,
    /// The key to sign with, if it is not signed [default: the data directory's development key]
    #[arg(long)]
    key: Option<PathBuf>,
    /// A step back to an older version is meant
    #[arg(long)]
    allow_older: bool,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RollbackArguments {
    /// Which guest
    kind: Kind,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one action.
pub(crate) async fn run(arguments: GuestArguments) -> Result<()> {
    match arguments.action {
        Action::List(arguments) => list(&arguments).await,
        Action::Swap(arguments) => swap(&arguments).await,
        Action::Rollback(arguments) => roll_back(&arguments).await,
    }
}

async fn list(arguments: &ListArguments) -> Result<()> {
    let told = arguments.place.admin()?.json(Method::GET, "/v1/guests", &Value::Null).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&told["guests"])?);
        return Ok(());
    }
    println!("{:<8} {:<12} {:<14} {:<12} {:>8}", "guest", "version", "digest", "before", "draining");
    for guest in told["guests"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let (current, previous) = (&guest["current"], &guest["previous"]);
        let digest: String = text(&current["digest"]).chars().take(12).collect();
        println!(
            "{:<8} {:<12} {digest:<14} {:<12} {:>8}",
            text(&guest["kind"]),
            text(&current["version"]),
            text(&previous["version"]),
            guest["draining"]
        );
    }
    for guest in told["guests"].as_array().into_iter().flatten() {
        if let (Some(kind), Some(reason)) = (guest["kind"].as_str(), guest["not_restored"].as_str()) {
            println!("{kind} is not as it was before the restart: {reason}");
        }
    }
    Ok(())
}

async fn swap(arguments: &SwapArguments) -> Result<()> {
    let admin = arguments.place.admin()?;
    let package = Package::open(&arguments.file, Some(arguments.kind.name()))?;
    let development = DataDir::open(&arguments.place.data_dir()?)?.development_key();
    let envelope = package.envelope(arguments.envelope.as_deref(), arguments.key.as_deref(), &development)?;
    let mut body = package.upload(&admin, &envelope).await?;
    body["allow_older"] = arguments.allow_older.into();
    let path = format!("/v1/guests/{}", arguments.kind.name());
    let told = admin.json(Method::POST, &path, &body).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(());
    }
    serves(&told);
    let swapped = &told["swapped"];
    let number = |key: &str| swapped[key].as_f64().unwrap_or_default();
    let (load, warm, switch) = (number("load_ms"), number("warm_ms"), number("switch_us"));
    println!("loaded in {load:.1} ms, tried in {warm:.1} ms, switched in {switch:.1} µs");
    Ok(())
}

async fn roll_back(arguments: &RollbackArguments) -> Result<()> {
    let path = format!("/v1/guests/{}/rollback", arguments.kind.name());
    let told = arguments.place.admin()?.json(Method::POST, &path, &Value::Null).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        serves(&told);
    }
    Ok(())
}

fn serves(told: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, guest) = (text(&told["guest"]["kind"]), &told["guest"]);
    println!("{kind} {} serves", text(&guest["current"]["version"]));
    if let Some(previous) = guest["previous"]["version"].as_str() {
        println!("{previous} is kept ready: `obsidian guest rollback {kind}` goes back to it");
    }
}
