//! `wasi:http/outgoing-handler`: requests to the hosts that were granted, through the node's own client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http_body_util::BodyExt as _;
use obsidian_types::{OutboundError, OutboundGrant};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::in_flight::{InFlight, OnItsWay};
use crate::functions::body::BodyError;
use crate::functions::origin::Origin;
use crate::functions::output::{LogBudget, write_line};
use crate::functions::services::{LogLevel, OutboundCall};

/// How long connecting, the first byte and a pause may take unless the guest says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Ended), Error>> + Send>;

/// What `wasi:http` asks of the node.
pub(in crate::functions) struct Hooks {
    origin: Arc<Origin>,
    log: Arc<LogBudget>,
    /// Until the response of each has been read.
    in_flight: InFlight,
}

impl Hooks {
    pub(in crate::functions) fn new(origin: &Arc<Origin>, log: &Arc<LogBudget>) -> Self {
        Self { origin: origin.clone(), log: log.clone(), in_flight: InFlight::default() }
    }

    /// The grant that covers a request, or why there is none.
    fn granted(&self, uri: &http::Uri) -> Result<OutboundGrant, Error> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        match self.origin.grants.outbound.iter().find(|grant| grant.covers(&host, port)) {
            Some(grant) => Ok(grant.clone()),
            None => {
                let shown: String = host.chars().take(128).collect();
                super::deny(&self.origin, &self.log, &format!("outbound `{shown}:{port}`"));
                Err(Error::HttpRequestDenied)
            }
        }
    }

    fn enter(&self) -> Result<OnItsWay, Error> {
        self.in_flight.enter(self.origin.grants.limits.outbound_connections).ok_or_else(|| {
            let module = self.origin.id.module.clone();
            metrics::counter!("obsidian_function_outbound_refused_total", "function" => module).increment(1);
            Error::ConnectionLimitReached
        })
    }
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Ended,
    ) -> Sent {
        let admitted = self.granted(request.uri()).and_then(|grant| Ok((grant, self.enter()?)));
        let (grant, in_flight) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Box::new(std::future::ready(Err(error))),
        };
        let options = options.unwrap_or_default();
        let call = OutboundCall {
            function: self.origin.id.clone(),
            request: request.map(|body| body.map_err(|error| BodyError::BrokenOff(error.to_string())).boxed_unsync()),
            grant,
            connect_timeout: options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT),
            first_byte_timeout: options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT),
            between_bytes_timeout: options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT),
        };
        let (origin, log) = (self.origin.clone(), self.log.clone());
        Box::new(async move {
            let response = origin.services.outbound.send(call).await.map_err(|error| {
                // The standard's codes say little; the function's own log says the rest.
                let text = format!("outbound: {error}");
                write_line(&origin, &log, LogLevel::Warn, "obsidian", text.as_bytes());
                told(error)
            })?;
            let response = response.map(|body| {
                let body = body.map_frame(move |frame| {
                    // The place is given back with the body.
                    let _held = &in_flight;
                    frame.map_data(|data: Bytes| data)
                });
                body.map_err(|error| match error {
                    BodyError::Timeout => Error::ConnectionReadTimeout,
                    BodyError::TooLong { limit } => Error::HttpResponseBodySize(Some(limit)),
                    BodyError::BrokenOff(_) => Error::HttpResponseIncomplete,
                })
                .boxed_unsync()
            });
            Ok((response, Box::new(std::future::ready(Ok(()))) as Ended))
        })
    }
}

/// The code that the standard has for it.
fn told(error: OutboundError) -> Error {
    match error {
        OutboundError::NotPublic { .. } => Error::DestinationIpProhibited,
        OutboundError::Uri { .. } => Error::HttpRequestUriInvalid,
        OutboundError::Resolve { reason, .. } => Error::DnsError { rcode: Some(reason), info_code: None },
        OutboundError::Connect { .. } => Error::ConnectionRefused,
        OutboundError::Tls { .. } => Error::TlsCertificateError,
        OutboundError::Timeout { step: "connect", .. } => Error::ConnectionTimeout,
        OutboundError::Timeout { .. } => Error::HttpResponseTimeout,
        OutboundError::Protocol { .. } => Error::HttpProtocolError,
    }
}
