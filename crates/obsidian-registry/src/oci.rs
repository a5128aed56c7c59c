//! Modules in OCI registries: the documents that describe them, written and read. No connection is opened here.
//!
//! A module is a Wasm OCI artifact as the CNCF lays it down: one manifest, a small configuration, one layer
//! `application/wasm`. So every tool that knows the layout can fetch it. Our envelope is a second artifact whose
//! `subject` is the first (OCI 1.1 referrers), so that a holder can add a signature without changing the module.
//! Whatever a registry hands out is worth nothing until its envelope verifies.
//!
//! Start at [`ModuleManifest::parse`].

use obsidian_types::limits::{
    MAX_ENVELOPE_BYTES, MAX_MODULE_BYTES, MAX_OCI_CONFIG_BYTES, MAX_OCI_ENTRIES, MAX_OCI_MANIFEST_BYTES,
};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::facts::{Facts, Form};

/// An OCI manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of a Wasm artifact.
pub const WASM_CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// The module itself.
pub const WASM_LAYER_TYPE: &str = "application/wasm";
/// An envelope that refers to a module, as artifact and as layer.
pub const ENVELOPE_TYPE: &str = "application/vnd.obsidian.module.dsse.v1+json";
/// The configuration of an artifact that has none, and its bytes.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// See [`EMPTY_TYPE`].
pub const EMPTY: &[u8] = b"{}";

/// Why a registry's document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OciDocumentError {
    /// Too long.
    #[error("the registry's document has {0} bytes, more than {MAX_OCI_MANIFEST_BYTES}")]
    Size(usize),
    /// Not what the specification says.
    #[error("the registry's document is not valid: {0}")]
    Form(String),
    /// Something else is kept there.
    #[error("this is no WebAssembly artifact: {0}")]
    Kind(String),
    /// A digest of another kind than SHA-256.
    #[error("`{0}` is no SHA-256 digest: only those are trusted")]
    Digest(String),
    /// A part that is larger than anything of its kind.
    #[error("the registry says that {what} has {size} bytes, more than {limit}")]
    Part {
        /// Which part.
        what: &'static str,
        /// How long it is said to be.
        size: u64,
        /// The most it may have.
        limit: u64,
    },
}

/// Where a blob is, how long it is and what kind it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
}

impl Descriptor {
    /// A descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    fn spelled(&self) -> SpelledDescriptor {
        SpelledDescriptor {
            media_type: self.media_type.clone(),
            digest: format!("sha256:{}", self.digest),
            size: self.size,
            artifact_type: None,
            rest: serde_json::Map::new(),
        }
    }

    fn at_most(self, what: &'static str, limit: u64) -> Result<Self, OciDocumentError> {
        if self.size > limit {
            return Err(OciDocumentError::Part { what, size: self.size, limit });
        }
        Ok(self)
    }
}

/// The manifest of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleManifest {
    /// Its configuration.
    pub config: Descriptor,
    /// The module.
    pub module: Descriptor,
}

/// The manifest of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeManifest {
    /// The manifest of the module that it is about.
    pub subject: Descriptor,
    /// The envelope.
    pub envelope: Descriptor,
}

/// Manifests that refer to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index(Vec<SpelledDescriptor>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpelledDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// What others wrote there, kept when an index is written again.
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpelledManifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: SpelledDescriptor,
    layers: Vec<SpelledDescriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<SpelledDescriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpelledIndex {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<SpelledDescriptor>,
}

impl ModuleManifest {
    /// The manifest and the configuration of `module`, as bytes: what they are follows from the module alone, so
    /// that pushing it again changes nothing.
    ///
    /// # Errors
    /// [`OciDocumentError::Form`] if they cannot be written as JSON.
    pub fn write(module: &[u8], facts: &Facts) -> Result<(Vec<u8>, Vec<u8>), OciDocumentError> {
        let layer = Descriptor::of(WASM_LAYER_TYPE, module);
        let component = facts.form == Form::Component;
        let interfaces = component.then(|| serde_json::json!({ "exports": facts.exports, "imports": facts.imports }));
        let config = serde_json::json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": if component { "wasip2" } else { "wasip1" },
            "layerDigests": [format!("sha256:{}", layer.digest)],
            "component": interfaces,
        });
        let config = serde_json::to_vec(&config).map_err(form)?;
        let spelled = SpelledManifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: Some(WASM_CONFIG_TYPE.to_owned()),
            config: Descriptor::of(WASM_CONFIG_TYPE, &config).spelled(),
            layers: vec![layer.spelled()],
            subject: None,
        };
        Ok((serde_json::to_vec(&spelled).map_err(form)?, config))
    }

    /// Reads a manifest; anything but a Wasm artifact with one module is refused.
    ///
    /// # Errors
    /// [`OciDocumentError`], with what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, OciDocumentError> {
        let spelled = manifest(text)?;
        if spelled.config.media_type != WASM_CONFIG_TYPE {
            return Err(kind(format!(
                "its configuration is `{}`, not `{WASM_CONFIG_TYPE}`",
                short(&spelled.config.media_type)
            )));
        }
        let mut modules = spelled.layers.into_iter().filter(|layer| layer.media_type == WASM_LAYER_TYPE);
        let (Some(module), None) = (modules.next(), modules.next()) else {
            return Err(kind(format!("it must have exactly one layer `{WASM_LAYER_TYPE}`")));
        };
        Ok(Self {
            config: checked(spelled.config)?.at_most("the configuration", MAX_OCI_CONFIG_BYTES as u64)?,
            module: checked(module)?.at_most("the module", MAX_MODULE_BYTES)?,
        })
    }

    /// Checks a configuration against the manifest: it must be about this module.
    ///
    /// # Errors
    /// [`OciDocumentError`], with what is wrong.
    pub fn check_config(&self, text: &[u8]) -> Result<(), OciDocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            architecture: String,
            layer_digests: Vec<String>,
        }
        let config: Config = serde_json::from_slice(text).map_err(form)?;
        if config.architecture != "wasm" {
            return Err(kind(format!("its architecture is `{}`", short(&config.architecture))));
        }
        if config.layer_digests != [format!("sha256:{}", self.module.digest)] {
            return Err(kind("its configuration is about other layers".to_owned()));
        }
        Ok(())
    }
}

impl EnvelopeManifest {
    /// The manifest of an envelope about the module whose manifest is `subject`.
    ///
    /// # Errors
    /// [`OciDocumentError::Form`] if it cannot be written as JSON.
    pub fn write(envelope: &[u8], subject: &Descriptor) -> Result<Vec<u8>, OciDocumentError> {
        let spelled = SpelledManifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: Some(ENVELOPE_TYPE.to_owned()),
            config: Descriptor::of(EMPTY_TYPE, EMPTY).spelled(),
            layers: vec![Descriptor::of(ENVELOPE_TYPE, envelope).spelled()],
            subject: Some(subject.spelled()),
        };
        serde_json::to_vec(&spelled).map_err(form)
    }

    /// Reads the manifest of an envelope.
    ///
    /// # Errors
    /// [`OciDocumentError`], with what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, OciDocumentError> {
        let spelled = manifest(text)?;
        if spelled.artifact_type.as_deref() != Some(ENVELOPE_TYPE) {
            return Err(kind(format!("it is no `{ENVELOPE_TYPE}`")));
        }
        let subject = spelled.subject.ok_or_else(|| kind("it says not which module it is about".to_owned()))?;
        let [envelope] = <[_; 1]>::try_from(spelled.layers).map_err(|_| kind("it must have one layer".to_owned()))?;
        Ok(Self {
            subject: checked(subject)?,
            envelope: checked(envelope)?.at_most("the envelope", MAX_ENVELOPE_BYTES as u64)?,
        })
    }
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// [`OciDocumentError`], with what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, OciDocumentError> {
        let spelled: SpelledIndex = bounded(text)?;
        if spelled.schema_version != 2 || spelled.manifests.len() > MAX_OCI_ENTRIES {
            return Err(form(format!("an index has version 2 and at most {MAX_OCI_ENTRIES} manifests")));
        }
        Ok(Self(spelled.manifests))
    }

    /// Adds the manifest of an envelope, unless it is there. The oldest entries of ours go when there is no room.
    pub fn add_envelope(&mut self, manifest: &[u8]) {
        let mut entry = Descriptor::of(MANIFEST_TYPE, manifest).spelled();
        entry.artifact_type = Some(ENVELOPE_TYPE.to_owned());
        if self.0.contains(&entry) {
            return;
        }
        if self.0.len() >= MAX_OCI_ENTRIES
            && let Some(oldest) = self.0.iter().position(is_envelope)
        {
            self.0.remove(oldest);
        }
        self.0.push(entry);
    }

    /// The manifests of envelopes, the newest first.
    pub fn envelopes(&self) -> impl Iterator<Item = Descriptor> {
        let ours = self.0.iter().rev().filter(|entry| is_envelope(entry));
        // An entry that nobody can fetch is no envelope.
        ours.filter_map(|entry| checked(entry.clone()).ok())
    }

    /// The index's text.
    ///
    /// # Errors
    /// [`OciDocumentError::Form`] if it cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, OciDocumentError> {
        let media_type = Some(INDEX_TYPE.to_owned());
        let spelled = SpelledIndex { schema_version: 2, media_type, manifests: self.0.clone() };
        serde_json::to_vec(&spelled).map_err(form)
    }
}

fn is_envelope(entry: &SpelledDescriptor) -> bool {
    entry.artifact_type.as_deref() == Some(ENVELOPE_TYPE) && entry.media_type == MANIFEST_TYPE
}

fn manifest(text: &[u8]) -> Result<SpelledManifest, OciDocumentError> {
    let spelled: SpelledManifest = bounded(text)?;
    if spelled.media_type.as_deref().is_some_and(|kind| kind != MANIFEST_TYPE) {
        return Err(kind(format!("the registry has a `{}` there", short(&spelled.media_type.unwrap_or_default()))));
    }
    if spelled.schema_version != 2 || spelled.layers.len() > MAX_OCI_ENTRIES {
        return Err(form(format!("a manifest has version 2 and at most {MAX_OCI_ENTRIES} layers")));
    }
    Ok(spelled)
}

fn bounded<'text, T: Deserialize<'text>>(text: &'text [u8]) -> Result<T, OciDocumentError> {
    if text.len() > MAX_OCI_MANIFEST_BYTES {
        return Err(OciDocumentError::Size(text.len()));
    }
    serde_json::from_slice(text).map_err(form)
}

fn checked(spelled: SpelledDescriptor) -> Result<Descriptor, OciDocumentError> {
    let digest = spelled.digest.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
    let digest = digest.ok_or_else(|| OciDocumentError::Digest(short(&spelled.digest)))?;
    Ok(Descriptor { media_type: spelled.media_type, digest, size: spelled.size })
}

fn form(error: impl ToString) -> OciDocumentError {
    OciDocumentError::Form(error.to_string())
}

fn kind(reason: String) -> OciDocumentError {
    OciDocumentError::Kind(reason)
}

/// As much of a stranger's text as an error shows, without characters that a terminal obeys.
fn short(text: &str) -> String {
    text.chars().take(96).filter(|character| !character.is_control()).collect()
}

/// Everything above on arbitrary bytes: must neither panic nor hang.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz(data: &[u8]) {
    if let Ok(manifest) = ModuleManifest::parse(data) {
        assert!(manifest.module.size <= MAX_MODULE_BYTES);
        let _ = manifest.check_config(data);
    }
    let _ = EnvelopeManifest::parse(data);
    if let Ok(mut index) = Index::parse(data) {
        let before = index.envelopes().count();
        index.add_envelope(b"{}");
        assert!(index.envelopes().count() >= before.min(1));
        assert!(Index::parse(&index.to_json().unwrap_or_default()).is_ok_and(|again| again == index));
    }
}

#[cfg(test)]
mod tests;
