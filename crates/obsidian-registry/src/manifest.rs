//! The module manifest, `obsidian.toml`: what a module is called and what it asks for.
//!
//! What is not asked for is denied, and what is asked for still needs the node's grant.

use std::collections::BTreeSet;

use obsidian_types::limits::{MAX_MANIFEST_BYTES, MAX_MANIFEST_GRANTS, MAX_MODULE_NAME_BYTES};
use semver::Version;
use serde::{Deserialize, Serialize};

/// A manifest, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Letters, digits and single hyphens, lower case; at most 63 bytes, as in host names.
    pub name: String,
    /// Semantic version.
    pub version: Version,
    /// What the module asks for.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// What a module asks for. All empty: it computes and answers, nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// `HOST` or `HOST:PORT` it may send requests to.
    pub outbound: BTreeSet<String>,
    /// Key-value stores by name.
    pub stores: BTreeSet<String>,
    /// Models by name.
    pub models: BTreeSet<String>,
    /// Environment and configuration keys it may read.
    pub environment: BTreeSet<String>,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too long.
    #[error("the manifest has {0} bytes, more than {MAX_MANIFEST_BYTES}")]
    Size(usize),
    /// Not a manifest; carries line and reason.
    #[error("the manifest is not valid: {0}")]
    Form(String),
    /// A name that is none.
    #[error(
        "`{0}` cannot be a module's name: use lower-case letters, digits and single hyphens between them, at most \
         {MAX_MODULE_NAME_BYTES}"
    )]
    Name(String),
    /// Too much asked for.
    #[error("the manifest asks for more than {MAX_MANIFEST_GRANTS} {0}")]
    Grants(&'static str),
    /// An entry that names nothing.
    #[error("`{entry}` in {list} names nothing: wildcards, spaces and paths are not allowed")]
    Entry {
        /// Which list.
        list: &'static str,
        /// What stands there.
        entry: String,
    },
}

impl Manifest {
    /// Reads `obsidian.toml`.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Size(text.len()));
        }
        let manifest: Self =
            toml::from_str(text).map_err(|error| ManifestError::Form(error.to_string().trim_end().to_owned()))?;
        check_name(&manifest.name)?;
        manifest.capabilities.check()?;
        Ok(manifest)
    }
}

impl Capabilities {
    /// Refuses entries that name nothing, and lists too long to be read by a person.
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        for (list, entries) in [
            ("outbound", &self.outbound),
            ("stores", &self.stores),
            ("models", &self.models),
            ("environment", &self.environment),
        ] {
            if entries.len() > MAX_MANIFEST_GRANTS {
                return Err(ManifestError::Grants(list));
            }
            let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:[]".contains(character);
            let wrong = |entry: &&String| entry.is_empty() || entry.len() > 255 || !entry.chars().all(plain);
            if let Some(entry) = entries.iter().find(wrong) {
                return Err(ManifestError::Entry { list, entry: entry.chars().take(64).collect() });
            }
        }
        Ok(())
    }
}

/// Refuses names that would not survive a host name, a path or a metric.
pub(crate) fn check_name(name: &str) -> Result<(), ManifestError> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let parts = name.split('-').all(|part| !part.is_empty() && part.bytes().all(letters));
    if parts && name.len() <= MAX_MODULE_NAME_BYTES {
        return Ok(());
    }
    Err(ManifestError::Name(name.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use super::{Manifest, ManifestError};

    #[test]
    fn a_manifest_says_what_it_asks_for() {
        let text = "name = \"resize\"\nversion = \"1.2.0\"\n[capabilities]\noutbound = [\"api.example.net:443\"]\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.version.to_string(), "1.2.0");
        assert!(manifest.capabilities.outbound.contains("api.example.net:443"));
        assert!(manifest.capabilities.stores.is_empty());
    }

    #[test]
    fn wrong_manifests_are_refused_with_a_reason() {
        let with = |line: &str| Manifest::parse(&format!("name = \"a\"\nversion = \"1.0.0\"\n{line}")).unwrap_err();
        assert!(matches!(with("colour = 1"), ManifestError::Form(reason) if reason.contains("colour")));
        let wildcard = with("[capabilities]\noutbound = [\"*\"]");
        assert!(matches!(wildcard, ManifestError::Entry { list: "outbound", .. }));
        for name in ["", "-a", "a--b", "A", "a_b", "../a", &"a".repeat(64)] {
            let text = format!("name = \"{name}\"\nversion = \"1.0.0\"\n");
            assert!(matches!(Manifest::parse(&text), Err(ManifestError::Name(_))), "{name}");
        }
        let many: Vec<String> = (0..65).map(|number| format!("\"s{number}\"")).collect();
        let many = with(&format!("[capabilities]\nstores = [{}]", many.join(",")));
        assert_eq!(many, ManifestError::Grants("stores"));
    }
}
