//! The core route in a POP's configuration: upstreams, and how patient to be with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use obsidian_wire::core::{ApiKey, CoreOptions, LengthField, Upstream};
use schemars::JsonSchema;
use serde::Deserialize;

/// One OpenAI-compatible upstream of the core route: vLLM, SGLang, the DeepSeek API, another POP. They are tried in the
/// order in which they stand in the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorePeer {
    /// Tells upstreams apart in metrics, logs and errors: letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// `https://HOST[:PORT]/v1`; `/chat/completions` is added to it. `http://` is for this machine only.
    pub(crate) base_url: String,
    /// The model to ask this upstream for; also a name that clients may ask this POP for.
    pub(crate) model: String,
    /// More names that clients may ask for, each with the model's name to send.
    #[serde(default)]
    pub(crate) models: BTreeMap<String, String>,
    /// File whose only line is the API key, readable by its owner only; read again on reload.
    pub(crate) api_key_file: Option<PathBuf>,
    /// Environment variable that holds the API key, instead of a file.
    pub(crate) api_key_env: Option<String>,
    /// Certificates to trust for this upstream, PEM; the system's if absent.
    pub(crate) ca_file: Option<PathBuf>,
    /// Lets `http://` leave this machine: for a network that only you can read.
    #[serde(default)]
    pub(crate) allow_plaintext: bool,
    /// How this upstream calls the longest answer's length: `max_tokens`, or `max_completion_tokens` for newer models of
    /// OpenAI's.
    #[serde(default)]
    #[schemars(schema_with = "length_field")]
    pub(crate) length_field: LengthName,
}

/// How an upstream calls the longest answer's length.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LengthName {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
}

/// How patient the core route is with its upstreams.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CoreRoute {
    /// Longest wait for name lookup, TCP and TLS together, milliseconds.
    pub(crate) connect_timeout_ms: u64,
    /// Longest wait for an answer to begin, milliseconds.
    pub(crate) first_byte_timeout_ms: u64,
    /// Longest silence in the middle of an answer, milliseconds; keep-alive comments break it.
    pub(crate) idle_timeout_ms: u64,
    /// Longest whole request, retries included, milliseconds.
    pub(crate) total_timeout_ms: u64,
    /// Most attempts after the first; none once the client has been sent text.
    pub(crate) max_retries: u32,
    /// Retries as a share of all requests; up to ten can be saved up.
    pub(crate) retry_share: f64,
    /// Connections kept open to each upstream while requests come.
    pub(crate) warm_connections: usize,
    /// An unused connection is closed after this time, milliseconds.
    pub(crate) keep_alive_ms: u64,
}

impl Default for CoreRoute {
    fn default() -> Self {
        let options = CoreOptions::default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            connect_timeout_ms: millis(options.connect_timeout),
            first_byte_timeout_ms: millis(options.first_byte_timeout),
            idle_timeout_ms: millis(options.idle_timeout),
            total_timeout_ms: millis(options.total_timeout),
            max_retries: options.max_retries,
            retry_share: options.retry_share,
            warm_connections: options.warm_connections,
            keep_alive_ms: millis(options.keep_alive),
        }
    }
}

impl CoreRoute {
    /// As the route takes it.
    pub(crate) fn options(&self) -> CoreOptions {
        CoreOptions {
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            first_byte_timeout: Duration::from_millis(self.first_byte_timeout_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            total_timeout: Duration::from_millis(self.total_timeout_ms),
            max_retries: self.max_retries,
            retry_share: self.retry_share,
            warm_connections: self.warm_connections,
            keep_alive: Duration::from_millis(self.keep_alive_ms),
        }
    }
}

impl CorePeer {
    /// As the route takes it.
    pub(crate) fn upstream(&self) -> Result<Upstream, String> {
        let api_key = match (&self.api_key_file, &self.api_key_env) {
            (Some(_), Some(_)) => {
                return Err(format!("core {}: api_key_file and api_key_env are both set: keep one of them", self.name));
            }
            (Some(path), None) => ApiKey::File(path.clone()),
            (None, Some(variable)) => ApiKey::Environment(variable.clone()),
            (None, None) => ApiKey::None,
        };
        Ok(Upstream {
            name: self.name.clone(),
            base_url: self.base_url.clone(),
            model: self.model.clone(),
            models: self.models.clone(),
            api_key,
            ca_file: self.ca_file.clone(),
            allow_plaintext: self.allow_plaintext,
            length_field: match self.length_field {
                LengthName::MaxTokens => LengthField::MaxTokens,
                LengthName::MaxCompletionTokens => LengthField::MaxCompletionTokens,
            },
        })
    }
}

fn length_field(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["max_tokens", "max_completion_tokens"] })
}

#[cfg(test)]
mod tests {
    use super::super::EdgeFile;
    use super::super::RoleFile;

    fn problems(core: &str) -> Vec<String> {
        let file: EdgeFile = toml::from_str(&format!("data_dir = \"/tmp/x\"\n{core}")).unwrap();
        file.problems()
    }

    #[test]
    fn upstreams_are_read_in_order_and_checked() {
        let good = "[[core]]\nname = \"one\"\nbase_url = \"http://127.0.0.1:8000/v1\"\nmodel = \"m\"\n\
                    models = { big = \"vendor/big\" }\n[core_route]\nmax_retries = 0\n";
        assert_eq!(problems(good), Vec::<String>::new());
        let open = problems("[[core]]\nname = \"one\"\nbase_url = \"http://10.0.0.1/v1\"\nmodel = \"m\"\n");
        assert!(open.len() == 1 && open[0].contains("allow_plaintext"), "{open:?}");
        let both = "[[core]]\nname = \"one\"\nbase_url = \"http://127.0.0.1/v1\"\nmodel = \"m\"\n\
                    api_key_file = \"k\"\napi_key_env = \"K\"\n";
        let both = problems(both);
        assert!(both.len() == 1 && both[0].contains("keep one of them"), "{both:?}");
        let alone = problems("[core_route]\nmax_retries = 0\n");
        assert!(alone.len() == 1 && alone[0].contains("[[core]]"), "{alone:?}");
    }
}
