//! Configuration files of the roles: TOML, unknown keys refused by name, file and line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use obsidian_types::Residency;
use serde::Deserialize;

/// `obsidian edge --config FILE`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgeFile {
    /// Name of this POP, shown in `x-obsidian-pop`.
    #[serde(default = "default_pop_name")]
    pub(crate) name: String,
    /// Where clients connect.
    #[serde(default = "default_edge_listen")]
    pub(crate) listen: SocketAddr,
    /// Where keys, compiled guests and models are kept.
    pub(crate) data_dir: PathBuf,
    /// The draft model: a GGUF file; the shipped one if absent.
    pub(crate) draft_model: Option<PathBuf>,
    /// The router's weights: a JSON file; the shipped ones if absent.
    pub(crate) router_weights: Option<PathBuf>,
    /// One `TENANT KEY` pair a line; without it any bearer token is accepted, on loopback only.
    pub(crate) api_keys_file: Option<PathBuf>,
    /// How far masked data may travel: `edge`, `region` or `anywhere`.
    #[serde(default)]
    pub(crate) residency: Residency,
    /// The regional hub; without it this POP answers alone.
    pub(crate) hub: Option<HubPeer>,
}

/// How a POP reaches its hub.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubPeer {
    /// `HOST:PORT`, for example `hub.example.net:7443`.
    pub(crate) address: String,
    /// Folder with the authority that both sides trust; `data_dir/authority` if absent.
    pub(crate) authority_dir: Option<PathBuf>,
}

/// `obsidian hub --config FILE`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubFile {
    /// Where POPs connect.
    #[serde(default = "default_hub_listen")]
    pub(crate) listen: SocketAddr,
    /// Where keys and models are kept.
    pub(crate) data_dir: PathBuf,
    /// The target model: a GGUF file; the shipped one if absent.
    pub(crate) target_model: Option<PathBuf>,
    /// Memory for keys and values of all sessions, MiB.
    #[serde(default = "default_kv_budget_mib")]
    pub(crate) kv_budget_mib: u64,
    /// Names and addresses that POPs connect to, for the hub's certificate; the listener's address if empty.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Where Prometheus finds the hub's metrics; not served if absent.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Folder with the authority that both sides trust; `data_dir/authority` if absent.
    pub(crate) authority_dir: Option<PathBuf>,
}

/// Where `obsidian up` and `obsidian chat` meet unless told otherwise.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

fn default_pop_name() -> String {
    "pop".to_owned()
}

fn default_edge_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_hub_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7443))
}

/// 256 MiB holds about 100 conversations of the shipped target model at full length.
pub(crate) fn default_kv_budget_mib() -> u64 {
    256
}

/// Reads and checks a configuration file; the error names file, line and key.
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

/// Reads `TENANT KEY` pairs; `#` starts a comment line. Never shows a key in an error.
pub(crate) fn read_api_keys(path: &Path) -> Result<Vec<(String, String)>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the API keys file {}", path.display()))?;
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [tenant, key] => pairs.push((tenant.to_owned(), key.to_owned())),
            _ => bail!("{}:{}: write one `TENANT KEY` pair on the line", path.display(), number + 1),
        }
    }
    if pairs.is_empty() {
        bail!("{} holds no key; add a `TENANT KEY` line or remove api_keys_file", path.display());
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::{EdgeFile, HubFile, read, read_api_keys};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_wrong_key_names_itself_its_file_and_line() {
        let file = file("data_dir = \"/tmp/x\"\nlisten_address = \"127.0.0.1:1\"\n");
        let error = format!("{:#}", read::<EdgeFile>(file.path()).unwrap_err());
        assert!(error.contains("listen_address") && error.contains("line 2"), "{error}");
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn defaults_are_loopback() {
        let hub: HubFile = read(file("data_dir = \"/tmp/x\"\n").path()).unwrap();
        assert!(hub.listen.ip().is_loopback());
        assert_eq!(hub.kv_budget_mib, 256);
    }

    #[test]
    fn api_keys_are_pairs_and_never_shown_in_errors() {
        let pairs = read_api_keys(file("# keys\nacme sk-one\n\nother sk-two\n").path()).unwrap();
        assert_eq!(pairs.len(), 2);
        let error = read_api_keys(file("acme\nsk-secret extra words\n").path()).unwrap_err().to_string();
        assert!(error.contains(":1:") && !error.contains("sk-secret"), "{error}");
    }
}
