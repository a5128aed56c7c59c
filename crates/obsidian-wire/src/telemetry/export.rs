//! The connection to the collector.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use obsidian_types::limits::{MAX_TELEMETRY_ANSWER_BYTES, TELEMETRY_EXPORT_MS};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::{Certificate, Client};
use tokio::runtime::Handle;

use super::TelemetryError;

/// Posts to a collector. Cloning gives another handle to the same connections.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    client: Client,
    /// Metrics are sent from a thread of the library's own, which has no runtime.
    runtime: Handle,
}

impl Collector {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, TelemetryError> {
        let runtime = Handle::try_current().map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            // A collector has no business sending our numbers elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(Duration::from_millis(TELEMETRY_EXPORT_MS));
        if let Some(path) = ca_file {
            builder = builder.tls_certs_only(authorities(path)?);
        }
        let client = builder.build().map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        Ok(Self { client, runtime })
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, TelemetryError> {
    let unusable = |reason: String| TelemetryError::Authorities(PathBuf::from(path), reason);
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let (parts, body) = request.into_parts();
            let mut answer =
                client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send().await?;
            let mut read = BytesMut::new();
            while let Some(chunk) = answer.chunk().await? {
                if read.len() + chunk.len() > MAX_TELEMETRY_ANSWER_BYTES {
                    return Err("the collector's answer is too long".into());
                }
                read.extend_from_slice(&chunk);
            }
            let mut response = Response::new(read.freeze());
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            Ok(response)
        });
        sent.await?
    }
}
