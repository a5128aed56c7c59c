//! Logs go to standard error, as text for people or JSON for collectors; never prompt text, at any level.
//!
//! The level can change while the node runs ([`set_level`]). Lines in JSON carry `request_id` and `trace_id` of the
//! request they belong to. Spans also go to the telemetry layer, which exports nothing until it is told where to.

mod json;

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use obsidian_wire::telemetry;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line per event
    Text,
    /// One JSON object per event
    Json,
}

/// The telemetry layer lies under the lines, so that its type does not depend on their format.
type Under = Layered<Box<dyn Layer<Registry> + Send + Sync>, Registry>;

static FILTER: OnceLock<(LogFormat, Handle<EnvFilter, Under>)> = OnceLock::new();

/// Starts logging; `level` is a level or a list such as `info,obsidian_edge=debug`.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<()> {
    let (filter, handle) = reload::Layer::new(filter(format, level)?);
    let under = Registry::default().with(telemetry::layer().boxed());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => under.with(lines.with_filter(filter)).try_init(),
        LogFormat::Json => {
            under.with(json::Ids.and_then(lines.event_format(json::Lines)).with_filter(filter)).try_init()
        }
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))?;
    // Nobody else starts logging in this process.
    let _ = FILTER.set((format, handle));
    Ok(())
}

/// Logs at `level` from now on.
///
/// # Errors
/// `level` is no level; the one before stays.
#[expect(dead_code, reason = "called where a node reloads its configuration")]
pub(crate) fn set_level(level: &str) -> Result<()> {
    let (format, handle) = FILTER.get().context("logging was not started")?;
    handle.reload(filter(*format, level)?).map_err(|error| anyhow!("the log level stays as it was: {error}"))?;
    tracing::info!(level, "log level set");
    Ok(())
}

fn filter(format: LogFormat, level: &str) -> Result<EnvFilter> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("`{level}` is not a log filter"))?;
    // In JSON the spans carry the ids of every line; as text they would only make lines long.
    let spans = match format {
        LogFormat::Text => "off",
        LogFormat::Json => "info",
    };
    let directive: Directive = format!("{}={spans}", telemetry::TARGET).parse().context("a directive of our own")?;
    Ok(filter.add_directive(directive))
}

#[cfg(test)]
mod tests {
    use super::{LogFormat, filter};

    #[test]
    fn a_wrong_level_is_named() {
        assert!(filter(LogFormat::Json, "info,obsidian_edge=debug").is_ok());
        let error = filter(LogFormat::Json, "info,obsidian=loud").unwrap_err().to_string();
        assert!(error.contains("loud"), "{error}");
    }
}
