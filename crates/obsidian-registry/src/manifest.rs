//! The module manifest, `obsidian.toml`: what a module is called and what it asks for.
//!
//! What is not asked for is denied, and what is asked for still needs the node's grant.

use std::collections::BTreeSet;

use obsidian_types::limits::{MAX_BUILD_WORDS, MAX_MANIFEST_BYTES, MAX_MANIFEST_GRANTS, MAX_MODULE_NAME_BYTES};
use obsidian_types::{FunctionLimits, LimitError, OutboundGrant};
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

/// A module's manifest, `obsidian.toml`: what it is called, what it asks for and how it is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Letters, digits and single hyphens, lower case; at most 63 bytes, as in host names.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub name: String,
    /// Semantic version.
    #[schemars(with = "String", pattern(r"^[0-9]+\.[0-9]+\.[0-9]+"))]
    pub version: Version,
    /// What the module asks for.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The limits it wants; a node may grant less.
    #[serde(default)]
    pub limits: FunctionLimits,
    /// How `obsidian module build` makes it. Not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
}

/// How a module is built. Paths are relative to the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The program and its arguments, run beside the manifest without a shell.
    pub command: Vec<String>,
    /// The component that the command makes.
    pub output: String,
    /// Files and folders whose change begins a new build in watch mode; none means all beside the manifest but
    /// hidden files and folders called `target`, `node_modules` or `__pycache__`.
    #[serde(default)]
    pub watch: Vec<String>,
}

/// What a module asks for. All empty: it computes and answers, nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// `HOST` or `HOST:PORT` it may send requests to.
    pub outbound: BTreeSet<OutboundGrant>,
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
    /// A limit outside its range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A build section that cannot work.
    #[error("[build] cannot work: {0}")]
    Build(&'static str),
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
        manifest.limits.check()?;
        manifest.build.as_ref().map_or(Ok(()), Build::check)?;
        Ok(manifest)
    }
}

impl Build {
    fn check(&self) -> Result<(), ManifestError> {
        if self.command.first().is_none_or(String::is_empty) || self.command.len() > MAX_BUILD_WORDS {
            return Err(ManifestError::Build("`command` needs a program and at most 63 arguments, each a string"));
        }
        if self.output.is_empty() {
            return Err(ManifestError::Build("`output` must name the component that the command makes"));
        }
        if self.watch.len() > MAX_BUILD_WORDS || self.watch.iter().any(String::is_empty) {
            return Err(ManifestError::Build("`watch` names at most 64 files and folders"));
        }
        Ok(())
    }
}

impl Capabilities {
    /// Refuses entries that name nothing, and lists too long to be read by a person.
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        // Each entry was checked when it was read.
        if self.outbound.len() > MAX_MANIFEST_GRANTS {
            return Err(ManifestError::Grants("outbound"));
        }
        for (list, entries) in [("stores", &self.stores), ("models", &self.models), ("environment", &self.environment)]
        {
            if entries.len() > MAX_MANIFEST_GRANTS {
                return Err(ManifestError::Grants(list));
            }
            // Upstreams have models with a slash in their names.
            let marks = if list == "models" { "-_.:/" } else { "-_.:" };
            let plain = |character: char| character.is_ascii_alphanumeric() || marks.contains(character);
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
    fn a_manifest_may_say_how_it_is_built_and_what_it_wants() {
        let text = "name = \"a\"\nversion = \"1.0.0\"\n[limits]\nreuse = 9\n[build]\ncommand = [\"make\"]\noutput = \"a.wasm\"\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!((manifest.limits.reuse, manifest.build.unwrap().command.len()), (9, 1));
    }

    #[test]
    fn a_manifest_says_what_it_asks_for() {
        let text = "name = \"resize\"\nversion = \"1.2.0\"\n[capabilities]\noutbound = [\"api.example.net:443\"]\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.version.to_string(), "1.2.0");
        assert!(manifest.capabilities.outbound.contains(&"api.example.net:443".parse().unwrap()));
        assert!(manifest.capabilities.stores.is_empty());
    }

    #[test]
    fn wrong_manifests_are_refused_with_a_reason() {
        let with = |line: &str| Manifest::parse(&format!("name = \"a\"\nversion = \"1.0.0\"\n{line}")).unwrap_err();
        assert!(matches!(with("colour = 1"), ManifestError::Form(reason) if reason.contains("colour")));
        let wildcard = with("[capabilities]\noutbound = [\"*\"]");
        assert!(matches!(&wildcard, ManifestError::Form(reason) if reason.contains("`*` names no host")), "{wildcard}");
        let path = with("[capabilities]\nstores = [\"a/b\"]");
        assert!(matches!(path, ManifestError::Entry { list: "stores", .. }));
        let models = |names: &str| format!("name = \"a\"\nversion = \"1.0.0\"\n[capabilities]\nmodels = [{names}]\n");
        assert!(Manifest::parse(&models("\"acme/large:8b\"")).is_ok());
        let wildcard = Manifest::parse(&models("\"*\"")).unwrap_err();
        assert!(matches!(wildcard, ManifestError::Entry { list: "models", .. }));
        let memory = with("[limits]\nmemory_bytes = 1");
        assert!(memory.to_string().contains("memory_bytes is 1: set it between 65536 and"), "{memory}");
        assert!(matches!(with("[limits]\nmemory = 1"), ManifestError::Form(reason) if reason.contains("memory")));
        assert!(matches!(with("[build]\ncommand = []\noutput = \"a\""), ManifestError::Build(_)));
        for name in ["", "-a", "a--b", "A", "a_b", "../a", &"a".repeat(64)] {
            let text = format!("name = \"{name}\"\nversion = \"1.0.0\"\n");
            assert!(matches!(Manifest::parse(&text), Err(ManifestError::Name(_))), "{name}");
        }
        let many: Vec<String> = (0..65).map(|number| format!("\"s{number}\"")).collect();
        let many = with(&format!("[capabilities]\nstores = [{}]", many.join(",")));
        assert_eq!(many, ManifestError::Grants("stores"));
    }
}
