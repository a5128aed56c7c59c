//! Bodies for the fuzz driver: every parser of this crate on arbitrary bytes. They panic on a finding.

use crate::embedded::{EmbeddedKey, EmbeddedSignatures};
use crate::envelope::Envelope;
use crate::facts::Facts;
use crate::manifest::Manifest;
use crate::policy::TrustPolicy;

pub use crate::oci::fuzz as oci_documents;

/// A module manifest: what is read is written and read as the same.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        let again = toml::to_string(&manifest).ok().and_then(|text| Manifest::parse(&text).ok());
        assert!(again.is_some_and(|again| again == manifest), "a manifest does not survive its file");
    }
}

/// A trust policy.
pub fn policy(data: &[u8]) {
    let _ = std::str::from_utf8(data).map(TrustPolicy::parse);
}

/// An envelope: what is read is written and read as the same.
pub fn envelope(data: &[u8]) {
    if let Ok(envelope) = Envelope::parse(data) {
        assert!(Envelope::parse(envelope.to_json().as_bytes()).is_ok_and(|again| again == envelope));
        let _ = envelope.unverified_statement();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_has_a_finding(data in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z =\\[\\]\"0-9.\n#{}]{0,200}") {
            let wasm = [b"\0asm\x0d\0\x01\0", &data[..]].concat();
            for data in [&data[..], text.as_bytes(), &wasm] {
                for body in [manifest, policy, envelope, embedded, facts, oci_documents] {
                    body(data);
                }
            }
            let whole = format!("name = \"a\"\nversion = \"1.0.0\"\n{text}");
            manifest(whole.as_bytes());
        }
    }
}
