//! `obsidian fn shadow`: tries a candidate on copies of requests; no client sees its answers.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::package::Package;
use super::{NamedArguments, Target};
use crate::data_dir::DataDir;

/// Try a candidate version on copies of requests
#[derive(Args)]
pub(crate) struct ShadowArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Begin to copy requests to a candidate; its stores are its own and begin empty
    Start(StartArguments),
    /// Say how its answers compare so far
    Report(NamedArguments),
    /// End it, and say how its answers compared
    Stop(NamedArguments),
}

#[derive(Args)]
struct StartArguments {
    /// The function
    name: String,
    /// The candidate: a component, or a folder with obsidian.toml and what was built
    path: PathBuf,
    /// Share of requests that are copied, percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// Let the candidate send requests outwards too: what the original sends is then sent twice
    #[arg(long)]
    outbound: bool,
    /// The key to sign with, if it is not signed [default: the data directory's development key]
    #[arg(long)]
    key: Option<PathBuf>,
    /// The envelope with the signatures [default: FILE.dsse if it exists]
    #[arg(long, conflicts_with = "key")]
    envelope: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(arguments: &ShadowArguments) -> Result<()> {
    let (report, json) = match &arguments.action {
        Action::Start(arguments) => (start(arguments).await?, arguments.json),
        Action::Report(arguments) => (ask(arguments, Method::GET).await?, arguments.json),
        Action::Stop(arguments) => (ask(arguments, Method::DELETE).await?, arguments.json),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    Ok(())
}

async fn start(arguments: &StartArguments) -> Result<Value> {
    let admin = arguments.target.admin()?;
    let package = Package::open(&arguments.path, Some(&arguments.name))?;
    let development = DataDir::open(&arguments.target.data_dir()?)?.development_key();
    let envelope = package.envelope(arguments.envelope.as_deref(), arguments.key.as_deref(), &development)?;
    let root = package.upload(&admin, &envelope).await?;
    let body = json!({ "root": root, "percent": arguments.percent, "outbound": arguments.outbound });
    admin.json(Method::PUT, &arguments.target.path(&arguments.name, "/shadow"), &body).await
}

async fn ask(arguments: &NamedArguments, method: Method) -> Result<Value> {
    let path = arguments.target.path(&arguments.name, "/shadow");
    arguments.target.admin()?.json(method, &path, &Value::Null).await
}

fn show(report: &Value) {
    let number = |key: &str| report[key].as_u64().unwrap_or_default();
    println!(
        "candidate {} gets {} % of requests: {} compared, {} alike, {} another status, {} other headers, {} another \
         body, {} failed, {} skipped",
        report["version"].as_str().unwrap_or_default(),
        number("percent"),
        number("compared"),
        number("equal"),
        number("status_differs"),
        number("headers_differ"),
        number("body_differs"),
        number("failed"),
        number("skipped")
    );
    for sample in report["samples"].as_array().into_iter().flatten() {
        let text = |key: &str| sample[key].as_str().unwrap_or_default();
        let differences: Vec<&str> =
            sample["differences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        println!("  {} {}: {}", text("method"), text("path"), differences.join("; "));
    }
}
