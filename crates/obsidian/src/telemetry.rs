//! Metrics and telemetry of a node: one recorder per process, and the collector if there is one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use obsidian_wire::telemetry::{Bridge, Telemetry};

use crate::config::TelemetrySection;

/// Starts recording metrics, in the buckets that the roles ask for.
pub(crate) fn install_metrics() -> Result<PrometheusHandle> {
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    install(recorder)?;
    Ok(handle)
}

/// Folds what histograms have gathered, so that a node nobody scrapes does not keep every value.
const UPKEEP: Duration = Duration::from_secs(5);

/// The same, and shows them on a listener of their own if there is one.
pub(crate) fn install_metrics_listener(listen: Option<SocketAddr>) -> Result<()> {
    let Some(listen) = listen else {
        return install(builder()?.build_recorder());
    };
    let serving = || format!("cannot serve metrics on {listen}");
    let (recorder, serve) = builder()?.with_http_listener(listen).build().with_context(serving)?;
    install(recorder)?;
    tokio::runtime::Handle::current().spawn(async move {
        if serve.await.is_err() {
            tracing::error!(%listen, "metrics are no longer served");
        }
    });
    Ok(())
}

/// Starts exporting if the file or the environment names a collector.
pub(crate) fn start(section: &TelemetrySection, role: &str, instance: &str) -> Result<Option<Telemetry>> {
    let Some(options) = section.options(role, instance)? else {
        return Ok(None);
    };
    let telemetry = Telemetry::start(&options)?;
    tracing::info!(endpoint = options.endpoint, ratio = options.sample_ratio, "telemetry is exported");
    Ok(Some(telemetry))
}

/// Sends what is still waiting.
pub(crate) async fn stop(telemetry: Option<Telemetry>) {
    if let Some(telemetry) = telemetry {
        telemetry.shutdown().await;
    }
}

fn builder() -> Result<PrometheusBuilder> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in obsidian_edge::metric_buckets() {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    Ok(builder)
}

fn install(recorder: metrics_exporter_prometheus::PrometheusRecorder) -> Result<()> {
    let handle = recorder.handle();
    let bridge = Bridge::new(recorder, obsidian_edge::metric_buckets());
    metrics::set_global_recorder(bridge).ok().context("metrics are recorded already")?;
    describe_gauge!("obsidian_resident_bytes", Unit::Bytes, "Resident memory of the process.");
    tokio::runtime::Handle::current().spawn(async move {
        loop {
            if let Some(bytes) = resident_bytes() {
                gauge!("obsidian_resident_bytes").set(bytes as f64);
            }
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    });
    Ok(())
}

/// What the kernel says; none where it says nothing.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}
