//! Requests of functions outwards: the sandbox's contract on one side, `obsidian-wire`'s connections on the other.

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use metrics::counter;
use obsidian_sandbox::functions::{BodyError, FunctionBody, Outbound, OutboundCall};
use obsidian_types::OutboundError;
use obsidian_wire::outbound::{OutboundClient, OutboundRequest};

/// Sends functions' requests.
pub(super) struct Outwards {
    client: OutboundClient,
}

impl Outwards {
    pub(super) fn new(client: OutboundClient) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Outbound for Outwards {
    async fn send(&self, call: OutboundCall) -> Result<http::Response<FunctionBody>, OutboundError> {
        let OutboundCall { function, request, grant, .. } = call;
        let request = OutboundRequest {
            owner: Arc::from(function.tenant.as_str()),
            private: grant.private,
            request: request.map(|body| body.map_err(Into::into).boxed_unsync()),
            connect_timeout: call.connect_timeout,
            first_byte_timeout: call.first_byte_timeout,
            between_bytes_timeout: call.between_bytes_timeout,
        };
        let sent = self.client.send(request).await;
        let outcome = sent.as_ref().map_or_else(OutboundError::kind, |_| "answered");
        counter!("obsidian_function_outbound_total", "tenant" => function.tenant.as_str().to_owned(),
            "module" => function.module, "outcome" => outcome)
        .increment(1);
        Ok(sent?.map(|body| body.map_err(|failure| BodyError::BrokenOff(failure.to_string())).boxed_unsync()))
    }
}
