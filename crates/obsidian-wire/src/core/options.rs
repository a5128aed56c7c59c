//! What an operator sets on the core route, and what a caller learns about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use obsidian_types::TokenId;

use super::breaker::Circuit;
use super::error::CoreSetupError;

/// One OpenAI-compatible server.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Tells upstreams apart in metrics, logs and errors.
    pub name: String,
    /// `https://HOST[:PORT][/PATH]`; `/chat/completions` is added to it.
    pub base_url: String,
    /// The model's name as this upstream knows it; what `core` and `auto` run.
    pub model: String,
    /// More names that clients may ask for, each with the name that is sent upstream.
    pub models: BTreeMap<String, String>,
    /// Where the key is.
    pub api_key: ApiKey,
    /// Certificates to trust, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// Whether `http://` may leave this machine.
    pub allow_plaintext: bool,
    /// How it spells the longest answer's length.
    pub length_field: LengthField,
}

/// Where an upstream's API key is read from. The key itself is in no setting, so it cannot be shown with one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiKey {
    /// It asks for none.
    #[default]
    None,
    /// The only line of a file that nobody else can read.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

/// How an upstream spells the longest answer's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LengthField {
    /// `max_tokens`: vLLM, SGLang, DeepSeek, Obsidian.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`: newer models of OpenAI's.
    MaxCompletionTokens,
}

impl LengthField {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// How the core route behaves, for all upstreams.
#[derive(Clone, Copy, Debug)]
pub struct CoreOptions {
    /// Longest wait for name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest wait from the request's last byte to the first event of the answer.
    pub first_byte_timeout: Duration,
    /// Longest silence in the middle of an answer; comments count as a sign of life.
    pub idle_timeout: Duration,
    /// Longest whole request, retries included.
    pub total_timeout: Duration,
    /// Most attempts after the first.
    pub max_retries: u32,
    /// Retries as a share of requests; a few can be saved up.
    pub retry_share: f64,
    /// Connections kept open to each upstream while requests come; 0 opens them only when needed.
    pub warm_connections: usize,
    /// An unused connection is closed after this time.
    pub keep_alive: Duration,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(600),
            max_retries: 2,
            retry_share: 0.1,
            warm_connections: 2,
            keep_alive: Duration::from_secs(55),
        }
    }
}

impl CoreOptions {
    pub(super) fn check(&self) -> Result<(), CoreSetupError> {
        let waits = [self.connect_timeout, self.first_byte_timeout, self.idle_timeout, self.total_timeout];
        if waits.iter().any(Duration::is_zero) {
            return Err(CoreSetupError::Option("a timeout of the core route is 0: nothing could ever answer in time"));
        }
        if !(0.0..=1.0).contains(&self.retry_share) {
            return Err(CoreSetupError::Option("retry_share is a share of requests: between 0 and 1"));
        }
        Ok(())
    }
}

/// One of the models an operator has configured; made by [`super::CoreLink::model`] only, so that a client's own
/// text is never sent as a model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreModel(pub(super) Option<Arc<str>>);

impl CoreModel {
    /// Whatever each upstream runs by default.
    pub const DEFAULT: Self = Self(None);
}

/// What an answer needs besides its prompt: numbers and choices, no text.
#[derive(Clone, Debug)]
pub struct CoreRequest {
    /// Which model.
    pub model: CoreModel,
    /// Most tokens of each choice; the upstream's own limit if absent.
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// 1 keeps all.
    pub top_p: f32,
    /// Sent only if the client gave one: some servers are slower with it.
    pub seed: Option<u64>,
    /// How many answers.
    pub choices: u32,
    /// −2 to 2; 0 changes nothing.
    pub frequency_penalty: f32,
    /// −2 to 2; 0 changes nothing.
    pub presence_penalty: f32,
    /// By ids of the *upstream's* vocabulary.
    pub logit_bias: Arc<[(TokenId, f32)]>,
    /// How many alternatives to tell for each token; none if absent.
    pub logprobs: Option<u8>,
}

/// The core route at one moment.
#[derive(Clone, Debug)]
pub struct CoreState {
    /// Whether an upstream can be asked now.
    pub ready: bool,
    /// In the order in which they are tried.
    pub upstreams: Vec<UpstreamState>,
}

/// One upstream at one moment.
#[derive(Clone, Debug)]
pub struct UpstreamState {
    /// Its name.
    pub name: String,
    /// Its default model.
    pub model: String,
    /// Whether it is used.
    pub circuit: Circuit,
    /// How much longer it asked to be left alone.
    pub resting: Option<Duration>,
    /// Connections that wait for a request.
    pub idle_connections: usize,
    /// The last failure; empty when an answer has come since.
    pub last_error: String,
}

/// An API key ready to be sent: its `Debug` shows nothing.
#[derive(Clone)]
pub(super) struct Authorization(pub(super) Option<HeaderValue>);

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Authorization(hidden)" } else { "Authorization(none)" })
    }
}

impl Authorization {
    /// Reads the key from where it is.
    pub(super) fn read(upstream: &Upstream) -> Result<Self, CoreSetupError> {
        let name = upstream.name.clone();
        let key = match &upstream.api_key {
            ApiKey::None => return Ok(Self(None)),
            ApiKey::Environment(variable) => std::env::var(variable)
                .map_err(|_| CoreSetupError::KeyVariable { name: name.clone(), variable: variable.clone() })?,
            ApiKey::File(path) => {
                let wrong = |source| CoreSetupError::KeyFile { name: name.clone(), path: path.clone(), source };
                let mode = exposure(path).map_err(wrong)?;
                if let Some(mode) = mode {
                    return Err(CoreSetupError::KeyExposed { name, path: path.clone(), mode });
                }
                std::fs::read_to_string(path).map_err(wrong)?
            }
        };
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CoreSetupError::KeyForm(name));
        }
        let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| CoreSetupError::KeyForm(name))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

/// The permission bits if others can read the file.
fn exposure(path: &std::path::Path) -> std::io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}
