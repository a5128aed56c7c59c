//! `[telemetry]` of the roles' files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use obsidian_wire::telemetry::TelemetryOptions;
use schemars::JsonSchema;
use serde::Deserialize;

/// Traces and metrics for an OpenTelemetry collector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetrySection {
    /// Base URL of the collector's OTLP receiver over HTTP, for example `http://127.0.0.1:4318`. If absent, what
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` says; if that is absent too, nothing is exported.
    pub(crate) endpoint: Option<String>,
    /// File with one `NAME: VALUE` header a line, for example a collector's key; `OTEL_EXPORTER_OTLP_HEADERS` adds to it.
    pub(crate) headers_file: Option<PathBuf>,
    /// Share of traces that are recorded where the caller's `traceparent` does not decide, 0 to 1.
    #[serde(default = "everything")]
    pub(crate) sample_ratio: f64,
    /// Seconds between two exports of the metrics.
    #[serde(default = "default_interval_s")]
    pub(crate) metrics_interval_s: u64,
    /// Authorities that the collector's certificate must lead to, PEM; the system's if absent.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers_file: None,
            sample_ratio: everything(),
            metrics_interval_s: default_interval_s(),
            ca_file: None,
        }
    }
}

impl TelemetrySection {
    /// What is exported where; none if nothing is.
    pub(crate) fn options(&self, role: &str, instance: &str) -> Result<Option<TelemetryOptions>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let Some(endpoint) = self.endpoint.clone().or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT")) else {
            return Ok(None);
        };
        if self.metrics_interval_s == 0 {
            bail!("telemetry.metrics_interval_s = 0 would export without pause: set at least 1");
        }
        let options = TelemetryOptions {
            endpoint,
            headers: self.headers_file.as_deref().map(read_headers).transpose()?.unwrap_or_default(),
            service: format!("obsidian-{role}"),
            instance: instance.to_owned(),
            sample_ratio: self.sample_ratio,
            metrics_interval: Duration::from_secs(self.metrics_interval_s),
            ca_file: self.ca_file.clone(),
        };
        options.check().context("telemetry")?;
        Ok(Some(options))
    }
}

/// Never shows a value in an error: they are keys.
fn read_headers(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read telemetry.headers_file {}", path.display()))?;
    let mut headers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            bail!("{}:{}: write one `NAME: VALUE` header on the line", path.display(), number + 1);
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(headers)
}

fn everything() -> f64 {
    1.0
}

fn default_interval_s() -> u64 {
    60
}

#[cfg(test)]
mod tests {
    use super::{TelemetrySection, read_headers};

    fn section(text: &str) -> TelemetrySection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn problems_name_what_to_write() {
        let problem = |text: &str| format!("{:#}", section(text).options("edge", "pop").unwrap_err());
        assert!(problem("endpoint = \"collector:4318\"").contains("write http://"));
        assert!(problem("endpoint = \"http://c\"\nsample_ratio = 2").contains("between 0 and 1"));
        assert!(problem("endpoint = \"http://c\"\nmetrics_interval_s = 0").contains("at least 1"));
        assert!(problem("endpoint = \"http://c\"\nheaders_file = \"/nowhere\"").contains("/nowhere"));
        let options = section("endpoint = \"http://c\"").options("edge", "pop").unwrap().unwrap();
        assert_eq!((options.service.as_str(), options.instance.as_str()), ("obsidian-edge", "pop"));
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# key of the collector\nauthorization: Bearer a:b\n").unwrap();
        let headers = read_headers(file.path()).unwrap();
        assert_eq!(headers, [("authorization".to_owned(), "Bearer a:b".to_owned())]);
        std::fs::write(file.path(), "secret-without-a-name").unwrap();
        let error = read_headers(file.path()).unwrap_err().to_string();
        assert!(error.contains(":1:") && !error.contains("secret"), "{error}");
    }
}
