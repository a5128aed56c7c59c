//! A request of any endpoint after parsing, and how it becomes the pipeline's own type.

use obsidian_types::{
    ChatRequest, ConversationId, Input, ModelName, PromptText, RequestId, Residency, Speculation, TenantId, Tool,
    ToolChoice, TraceContext,
};
use serde_json::Value;

use super::error::ApiError;
use super::sampling::ParsedSampling;

/// A request as the client wrote it, checked field by field.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) model: ModelName,
    /// One, or several raw texts.
    pub(crate) inputs: Vec<Input>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) sampling: ParsedSampling,
    pub(crate) choices: u32,
    pub(crate) logprobs: Option<u8>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stop: Vec<PromptText>,
    pub(crate) user: Option<PromptText>,
    pub(crate) metadata: Vec<(PromptText, PromptText)>,
    pub(crate) extension: Extension,
    pub(crate) delivery: Delivery,
}

/// The `obsidian` object of a request.
#[derive(Debug, Default)]
pub(crate) struct Extension {
    pub(crate) speculation: Speculation,
    pub(crate) residency: Residency,
    pub(crate) conversation: Option<PromptText>,
}

/// How the client wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// One JSON object.
    Whole,
    /// Server-sent events.
    Stream {
        /// Whether a chunk with the usage stands before `[DONE]`.
        include_usage: bool,
    },
}

/// What ingress adds to a parsed request.
pub(crate) struct Arrival {
    pub(crate) id: RequestId,
    pub(crate) tenant: TenantId,
    /// The client's address, for the audit line.
    pub(crate) client: Option<std::net::IpAddr>,
    /// Used when the client names none.
    pub(crate) seed: u64,
    /// Used when the client names none.
    pub(crate) max_tokens: u32,
    pub(crate) trace: Option<TraceContext>,
}

impl Parsed {
    /// The requests in our own type, one for each input; `conversation` names each input's conversation.
    pub(crate) fn into_requests(
        self,
        arrival: &Arrival,
        conversation: impl Fn(Option<&PromptText>, &Input) -> ConversationId,
    ) -> Vec<ChatRequest> {
        let sampling = self.sampling.or_seed(arrival.seed);
        let Extension { speculation, residency, conversation: named } = self.extension;
        let request = |(index, input): (usize, Input)| ChatRequest {
            // A trace of one request with several texts shows each under a name of its own.
            id: match index {
                0 => arrival.id.clone(),
                _ => RequestId::new(format!("{}-{index}", arrival.id)),
            },
            tenant: arrival.tenant.clone(),
            client: arrival.client,
            conversation: conversation(named.as_ref(), &input),
            model: self.model.clone(),
            input,
            tools: self.tools.clone(),
            tool_choice: self.tool_choice.clone(),
            parallel_tool_calls: self.parallel_tool_calls,
            sampling: sampling.clone(),
            choices: self.choices,
            logprobs: self.logprobs,
            max_tokens: self.max_tokens.unwrap_or(arrival.max_tokens),
            stop: self.stop.clone(),
            speculation,
            residency,
            user: self.user.clone(),
            metadata: self.metadata.clone(),
            trace: arrival.trace,
        };
        self.inputs.into_iter().enumerate().map(request).collect()
    }
}

/// Reads a body as JSON. Depth is bounded by the JSON reader, length by ingress.
pub(crate) fn json(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("The request body is not UTF-8: the byte at offset {} is wrong.", error.valid_up_to());
        ApiError::invalid("", "invalid_utf8", message)
    })?;
    serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "We could not parse the JSON body of your request: it goes wrong at line {}, column {}.",
            error.line(),
            error.column()
        );
        ApiError::invalid("", "invalid_json", message)
    })
}
