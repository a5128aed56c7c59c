//! Bodies for fuzzers: each takes any bytes and must neither panic nor let anything through. CI runs them under proptest.

use time::OffsetDateTime;

use crate::artifact::Verified;
use crate::embedded::{EmbeddedKey, EmbeddedSignatures};
use crate::envelope::{Envelope, Statement};
use crate::facts::Facts;
use crate::key::SigningKey;
use crate::ledger::Ledger;
use crate::manifest::Manifest;
use crate::oci::{self, Descriptor, EnvelopeManifest, Index, ModuleManifest};
use crate::policy::TrustPolicy;

/// The module that [`envelope_seeds`] vouch for.
const COMPONENT: &[u8] = b"\0asm";
/// A component in which there is nothing.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Parses a module manifest; one that is accepted means the same when it is written again.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::parse(text) {
        Ok(manifest) => {
            let written = toml::to_string(&manifest).map(|text| Manifest::parse(&text));
            assert_eq!(written, Ok(Ok(manifest)));
        }
        Err(error) => readable(&error, text.len()),
    }
}

/// Parses a signature envelope and judges it by a policy that believes one key. Accepted is nothing but what that key
/// signed, however the envelope around it is spelled.
pub fn envelope(data: &[u8]) {
    let envelope = match Envelope::parse(data) {
        Ok(envelope) => envelope,
        Err(error) => return readable(&error, data.len()),
    };
    assert_eq!(Envelope::parse(envelope.to_json().as_bytes()).as_ref(), Ok(&envelope));
    let _ = envelope.unverified_statement();
    let policy = format!("threshold = 1\n[[key]]\nname = \"a\"\npublic = \"{}\"\n", key(1).public());
    let Ok(policy) = TrustPolicy::parse(&policy) else { return };
    let ledger = Ledger::default();
    match Verified::signed(COMPONENT.to_vec(), &envelope, &policy, &ledger, OffsetDateTime::UNIX_EPOCH) {
        Ok(_) => assert!(signed().contains(&envelope.payload), "a document was accepted that nobody signed"),
        Err(refusal) => readable(&refusal, data.len()),
    }
}

/// Parses a trust policy; one that is accepted asks for signatures.
pub fn trust_policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match TrustPolicy::parse(text) {
        Ok(policy) => {
            let nobody = Envelope { payload: signed().swap_remove(0), signatures: Vec::new() };
            let judged =
                Verified::signed(COMPONENT.to_vec(), &nobody, &policy, &Ledger::default(), OffsetDateTime::UNIX_EPOCH);
            assert!(judged.is_err(), "a policy that believes nobody in particular");
        }
        Err(error) => readable(&error, text.len()),
    }
}

/// A module with a signature inside: nobody's key fits.
pub fn embedded(data: &[u8]) {
    let _ = EmbeddedSignatures::of(data);
    if let Ok(key) = EmbeddedKey::read(b"ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=") {
        assert!(EmbeddedSignatures::verify(data, &key).is_err());
    }
}

/// A component or core module.
pub fn facts(data: &[u8]) {
    let _ = Facts::of(data);
}

/// A registry's documents about modules.
pub fn oci_documents(data: &[u8]) {
    oci::fuzz(data);
}

/// What a person reads does not grow beyond what was written.
fn readable(error: &dyn std::error::Error, length: usize) {
    let shown = error.to_string();
    assert!(!shown.is_empty() && shown.len() < 4_096 + 4 * length, "an error of {} bytes", shown.len());
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

/// The documents that key 1 signed.
fn signed() -> Vec<Vec<u8>> {
    statements().iter().map(|statement| serde_json::to_vec(statement).unwrap_or_default()).collect()
}

fn statements() -> Vec<Statement> {
    let manifests = manifest_seeds();
    let manifests = manifests.iter().filter_map(|text| Manifest::parse(std::str::from_utf8(text).ok()?).ok());
    manifests.map(|manifest| Statement::about(COMPONENT, &manifest, OffsetDateTime::UNIX_EPOCH)).collect()
}

/// Manifests to mutate.
pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "name = \"a\"\nversion = \"1.0.0\"\n",
        "name = \"resize-2\"\nversion = \"1.2.0-rc.1+build\"\n[capabilities]\noutbound = [\"api.example.net:443\", \"[::1]:80\"]\n\
         stores = [\"thumbs\"]\nmodels = [\"draft\"]\nenvironment = [\"SIZE\"]\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Envelopes to mutate: one that is accepted, one that a stranger signed too, one that only the stranger signed.
pub fn envelope_seeds() -> Vec<Vec<u8>> {
    let sign = |statement: &Statement, keys: &[u8]| {
        let mut envelope = Envelope::sign(statement, &key(keys[0])).ok()?;
        keys[1..].iter().for_each(|more| envelope.add(&key(*more)));
        Some(envelope.to_json().into_bytes())
    };
    let statements = statements();
    [[1].as_slice(), &[1, 2], &[2]]
        .into_iter()
        .zip(statements.iter().cycle())
        .filter_map(|(keys, statement)| sign(statement, keys))
        .collect()
}

/// Trust policies to mutate.
pub fn trust_policy_seeds() -> Vec<Vec<u8>> {
    let (first, second) = (key(1).public(), key(2).public());
    let text = format!(
        "threshold = 1\n[[key]]\nname = \"a\"\npublic = \"{first}\"\nnot_before = \"2026-01-01T00:00:00Z\"\n\
         [[key]]\nname = \"b\"\npublic = \"{second}\"\n[revoked]\nkeys = [\"{}\"]\nmodules = []\n",
        second.id()
    );
    vec![text.into_bytes()]
}

/// A registry's documents to mutate: of a module, its configuration, of an envelope, and the list of envelopes.
pub fn oci_document_seeds() -> Vec<Vec<u8>> {
    let module = Facts::of(EMPTY_COMPONENT).ok().and_then(|facts| ModuleManifest::write(EMPTY_COMPONENT, &facts).ok());
    let envelope = EnvelopeManifest::write(b"envelope", &Descriptor::of(oci::MANIFEST_TYPE, b"{}")).ok();
    let mut index = Index::default();
    index.add_envelope(b"{}");
    module
        .into_iter()
        .flat_map(|(manifest, config)| [manifest, config])
        .chain(envelope)
        .chain(index.to_json().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seeds_are_read_and_the_first_is_accepted() {
        let envelopes: Vec<Envelope> = envelope_seeds().iter().map(|seed| Envelope::parse(seed).unwrap()).collect();
        let policy = format!("threshold = 1\n[[key]]\nname = \"a\"\npublic = \"{}\"\n", key(1).public());
        let policy = TrustPolicy::parse(&policy).unwrap();
        let judge = |envelope| {
            let ledger = Ledger::default();
            Verified::signed(COMPONENT.to_vec(), envelope, &policy, &ledger, OffsetDateTime::UNIX_EPOCH).is_ok()
        };
        assert_eq!(envelopes.iter().map(judge).collect::<Vec<_>>(), [true, true, false]);
        let text = String::from_utf8(trust_policy_seeds().swap_remove(0)).unwrap();
        assert!(TrustPolicy::parse(&text).is_ok());
        assert_eq!(statements().len(), manifest_seeds().len());
        assert_eq!(oci_document_seeds().len(), 4);
    }

    proptest! {
        #[test]
        fn no_bytes_break_a_parser(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let wasm = [b"\0asm\x0d\0\x01\0", &data[..]].concat();
            for data in [&data[..], &wasm] {
                for body in [manifest, trust_policy, envelope, embedded, facts, oci_documents] {
                    body(data);
                }
            }
        }

        #[test]
        fn mutations_break_no_parser(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            type Body = fn(&[u8]);
            let bodies: [(Body, Vec<Vec<u8>>); 4] = [
                (manifest, manifest_seeds()),
                (envelope, envelope_seeds()),
                (trust_policy, trust_policy_seeds()),
                (oci_documents, oci_document_seeds()),
            ];
            for (body, seeds) in bodies {
                for mut data in seeds {
                    for (at, byte) in &changes {
                        let at = at.index(data.len());
                        data[at] = *byte;
                    }
                    if let Some(cut) = &cut {
                        data.truncate(cut.index(data.len()));
                    }
                    body(&data);
                }
            }
        }
    }
}
