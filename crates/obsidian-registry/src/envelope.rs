//! Signed statements about modules: a DSSE envelope (Dead Simple Signing Envelope, version 1) around one JSON document.
//!
//! The envelope lies beside the module (`MODULE.wasm.dsse`). What is signed is the pre-authentication encoding of type
//! and payload, so a signature over one kind of document is worth nothing for another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obsidian_types::FunctionLimits;
use obsidian_types::limits::{MAX_ENVELOPE_BYTES, MAX_SIGNATURES};
use semver::Version;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::digest::Digest;
use crate::key::SigningKey;
use crate::manifest::{Capabilities, Manifest};

/// The kind of document that our envelopes carry.
pub const PAYLOAD_TYPE: &str = "application/vnd.obsidian.module.v1+json";

/// What the signers vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The module's name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// SHA-256 of the component's bytes.
    pub digest: Digest,
    /// What it asks for.
    pub capabilities: Capabilities,
    /// The limits it wants. Envelopes from before there were any say nothing of them.
    #[serde(default)]
    pub limits: FunctionLimits,
    /// SHA-256 of its bill of materials, if there is one.
    pub sbom: Option<Digest>,
    /// When it was signed first.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// When the signatures stop counting, if ever.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
}

impl Statement {
    /// A statement about `component`.
    pub fn about(component: &[u8], manifest: &Manifest, issued: OffsetDateTime) -> Self {
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: Digest::of(component),
            capabilities: manifest.capabilities.clone(),
            limits: manifest.limits.clone(),
            sbom: None,
            issued,
            expires: None,
        }
    }
}

/// Why an envelope cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Too long.
    #[error("the envelope has {0} bytes, more than {MAX_ENVELOPE_BYTES}")]
    Size(usize),
    /// Not an envelope.
    #[error("this is no DSSE envelope: {0}")]
    Form(String),
    /// Another kind of document.
    #[error("the envelope carries `{0}`, not a statement about a module (`{PAYLOAD_TYPE}`)")]
    Type(String),
    /// Nobody signed, or a crowd.
    #[error("the envelope has {0} signatures, 1 to {MAX_SIGNATURES} are allowed")]
    Signatures(usize),
    /// The signed document is not a statement.
    #[error("the signed document is not a statement about a module: {0}")]
    Statement(String),
}

/// A statement and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub(crate) payload: Vec<u8>,
    pub(crate) signatures: Vec<EnvelopeSignature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvelopeSignature {
    pub(crate) key_id: String,
    pub(crate) bytes: Vec<u8>,
}

/// The envelope as the file spells it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spelled {
    payload_type: String,
    payload: String,
    signatures: Vec<SpelledSignature>,
}

#[derive(Serialize, Deserialize)]
struct SpelledSignature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Signs a statement.
    ///
    /// # Errors
    /// [`EnvelopeError::Statement`] if it cannot be written as JSON.
    pub fn sign(statement: &Statement, key: &SigningKey) -> Result<Self, EnvelopeError> {
        let payload = serde_json::to_vec(statement).map_err(|error| EnvelopeError::Statement(error.to_string()))?;
        let mut envelope = Self { payload, signatures: Vec::new() };
        envelope.add(key);
        Ok(envelope)
    }

    /// Adds a signature over the same document; a key's earlier one is replaced.
    pub fn add(&mut self, key: &SigningKey) {
        let key_id = key.public().id();
        let bytes = key.sign(&self.signed_bytes()).to_vec();
        self.signatures.retain(|signature| signature.key_id != key_id);
        self.signatures.push(EnvelopeSignature { key_id, bytes });
    }

    /// Reads the file's text; nothing in it is believed yet.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, EnvelopeError> {
        if text.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::Size(text.len()));
        }
        let form = |error: String| EnvelopeError::Form(error);
        let spelled: Spelled = serde_json::from_slice(text).map_err(|error| form(error.to_string()))?;
        if spelled.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Type(spelled.payload_type.chars().take(128).collect()));
        }
        if !(1..=MAX_SIGNATURES).contains(&spelled.signatures.len()) {
            return Err(EnvelopeError::Signatures(spelled.signatures.len()));
        }
        let decode =
            |what: &str, text: &str| STANDARD.decode(text).map_err(|_| form(format!("its {what} is not in base 64")));
        let signatures = spelled.signatures.iter().map(|signature| {
            let bytes = decode("signature", &signature.sig)?;
            Ok(EnvelopeSignature { key_id: signature.keyid.chars().take(64).collect(), bytes })
        });
        Ok(Self { payload: decode("payload", &spelled.payload)?, signatures: signatures.collect::<Result<_, _>>()? })
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let signatures = self.signatures.iter().map(
            |signature| serde_json::json!({ "keyid": signature.key_id, "sig": STANDARD.encode(&signature.bytes) }),
        );
        let spelled = serde_json::json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": STANDARD.encode(&self.payload),
            "signatures": signatures.collect::<Vec<_>>(),
        });
        format!("{spelled:#}\n")
    }

    /// The statement, believed or not: for people who look at a file. To rely on it, verify it.
    ///
    /// # Errors
    /// [`EnvelopeError::Statement`] when the document is none.
    pub fn unverified_statement(&self) -> Result<Statement, EnvelopeError> {
        serde_json::from_slice(&self.payload).map_err(|error| EnvelopeError::Statement(error.to_string()))
    }

    /// Ids of the keys that are said to have signed.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.key_id.as_str())
    }

    /// DSSE's pre-authentication encoding: what the signatures are over.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), self.payload.len()).into_bytes();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;

    use super::{Envelope, EnvelopeError, Statement};
    use crate::key::SigningKey;
    use crate::manifest::Manifest;

    fn envelope() -> Envelope {
        let manifest = Manifest::parse("name = \"a\"\nversion = \"1.0.0\"\n").unwrap();
        let statement = Statement::about(b"code", &manifest, OffsetDateTime::UNIX_EPOCH);
        Envelope::sign(&statement, &SigningKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn an_envelope_survives_its_file() {
        let mut envelope = envelope();
        envelope.add(&SigningKey::generate().unwrap());
        assert_eq!(Envelope::parse(envelope.to_json().as_bytes()), Ok(envelope.clone()));
        assert_eq!(envelope.unverified_statement().unwrap().name, "a");
        assert_eq!(envelope.key_ids().count(), 2);
    }

    #[test]
    fn the_encoding_that_is_signed_is_dsse_version_1() {
        let envelope = Envelope { payload: b"{}".to_vec(), signatures: Vec::new() };
        assert_eq!(envelope.signed_bytes(), b"DSSEv1 39 application/vnd.obsidian.module.v1+json 2 {}");
    }

    #[test]
    fn other_documents_are_refused() {
        let text = envelope().to_json();
        let other = text.replace("vnd.obsidian.module", "vnd.in-toto");
        assert!(matches!(Envelope::parse(other.as_bytes()), Err(EnvelopeError::Type(_))));
        let nobody = r#"{"payloadType":"application/vnd.obsidian.module.v1+json","payload":"","signatures":[]}"#;
        assert_eq!(Envelope::parse(nobody.as_bytes()), Err(EnvelopeError::Signatures(0)));
        assert!(matches!(Envelope::parse(&[b' '; 70_000]), Err(EnvelopeError::Size(70_000))));
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(mut text in Just(envelope().to_json().into_bytes()), at in 0_usize..600, byte: u8) {
            let at = at % text.len();
            text[at] = byte;
            if let Ok(envelope) = Envelope::parse(&text) {
                let _ = envelope.unverified_statement();
            }
        }
    }
}
