//! `obsidian fn list` and `obsidian fn stats`.

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::{NamedArguments, Target};
use crate::model::show::size;

/// List what is deployed
#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `list`.
pub(super) async fn run(arguments: &ListArguments) -> Result<()> {
    let listed = arguments.target.admin()?.json(Method::GET, "/v1/functions", &Value::Null).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    let functions = listed["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width =
        functions.iter().filter_map(|function| function["name"].as_str()).map(str::len).max().unwrap_or(4).max(4);
    println!(
        "{:<width$} {:<12} {:<16} {:<7} {:>8} {:>6} {:>6}  hosts",
        "name", "tenant", "version", "access", "answered", "failed", "warm"
    );
    for function in functions {
        let text = |key: &str| function[key].as_str().unwrap_or_default();
        let current = &function["current"];
        let number = |key: &str| current[key].as_u64().unwrap_or_default();
        let version = match text("state") {
            "ready" => current["version"].as_str().unwrap_or_default().to_owned(),
            _ => format!("FAILED: {}", text("reason")),
        };
        let access = if function["public"] == true { "public" } else { "keys" };
        let hosts: Vec<&str> = function["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        println!(
            "{:<width$} {:<12} {version:<16} {access:<7} {:>8} {:>6} {:>6}  {}",
            text("name"),
            text("tenant"),
            number("answered"),
            number("failures"),
            number("warm"),
            hosts.join(" ")
        );
    }
    Ok(())
}

/// Runs `stats`.
pub(super) async fn stats(arguments: &NamedArguments) -> Result<()> {
    let NamedArguments { name, target, json } = arguments;
    let view = target.admin()?.json(Method::GET, &target.path(name, ""), &Value::Null).await?;
    if *json {
        println!("{}", serde_json::to_string_pretty(&view)?);
        return Ok(());
    }
    println!(
        "{name} of tenant {}: {}",
        view["tenant"].as_str().unwrap_or_default(),
        view["state"].as_str().unwrap_or_default()
    );
    if let Some(reason) = view["reason"].as_str() {
        println!("  {reason}");
    }
    for role in ["current", "previous"] {
        if view[role].is_object() {
            show(role, &view[role]);
        }
    }
    Ok(())
}

fn show(role: &str, version: &Value) {
    let text = |key: &str| version[key].as_str().unwrap_or_default();
    let number = |key: &str| version[key].as_u64().unwrap_or_default();
    println!("  {role}: {} {} (sha256:{})", text("module"), text("version"), text("digest"));
    let starts = number("warm_starts") + number("cold_starts");
    let share = if starts == 0 { 0.0 } else { 100.0 * number("warm_starts") as f64 / starts as f64 };
    println!(
        "    requests: {} answered, {} failed, {} running, {} waiting",
        number("answered"),
        number("failures"),
        number("running"),
        number("waiting")
    );
    println!(
        "    instances: {} live, {} warm; {share:.1} % of {starts} requests found one ready",
        number("live"),
        number("warm")
    );
    println!(
        "    processor: {:.1} ms in all; memory: {} at most",
        number("cpu_us") as f64 / 1000.0,
        size(number("peak_memory_bytes"))
    );
    for part in version["parts"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("    part: {part}");
    }
    for denied in version["denied"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("    not granted by this node: {denied}");
    }
}
