//! `obsidian fn logs`: what a function wrote.

use anyhow::{Context, Result};
use clap::Args;
use futures::StreamExt;
use reqwest::Method;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Target;

/// Show what a function wrote to its log
#[derive(Args)]
pub(crate) struct LogsArguments {
    /// Its name
    name: String,
    /// Go on with what it writes from now on
    #[arg(short, long)]
    follow: bool,
    /// The last so many lines
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: usize,
    #[command(flatten)]
    target: Target,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(arguments: &LogsArguments) -> Result<()> {
    let LogsArguments { name, follow, lines, target, json } = arguments;
    let path = target.path(name, &format!("/logs?lines={lines}&follow={follow}"));
    let response = target.admin()?.send(Method::GET, &path, "").await?;
    let mut pieces = response.bytes_stream();
    let mut pending = Vec::new();
    while let Some(piece) = pieces.next().await {
        pending.extend_from_slice(&piece.context("the connection to the POP broke")?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = std::str::from_utf8(&line)?.trim_end();
            if *json { println!("{line}") } else { show(&serde_json::from_str(line)?) }
        }
    }
    Ok(())
}

fn show(entry: &Value) {
    if let Some(missed) = entry["missed"].as_u64() {
        println!("({missed} lines were written faster than they were read)");
        return;
    }
    if let Some(dropped) = entry["dropped"].as_u64() {
        println!("({dropped} lines were too many and were dropped)");
    }
    let millis = i128::from(entry["time_unix_ms"].as_u64().unwrap_or_default());
    let time = OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).ok();
    let time = time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    // What a function writes must not steer the terminal.
    let line: String =
        text("text").chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    println!("{time} {:<8} {} {}: {line}", text("level"), text("version"), text("context"));
}
