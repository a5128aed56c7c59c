use proptest::prelude::*;

use super::{Descriptor, EnvelopeManifest, Index, MANIFEST_TYPE, ModuleManifest, OciDocumentError, fuzz};
use crate::digest::Digest;
use crate::facts::Facts;

fn module() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let module = wat::parse_str("(component (import \"a:b/c@1.0.0\" (instance)))").unwrap();
    let (manifest, config) = ModuleManifest::write(&module, &Facts::of(&module).unwrap()).unwrap();
    (module, manifest, config)
}

#[test]
fn the_documents_of_a_module_are_those_of_the_published_layout() {
    let (module, manifest, config) = module();
    let digest = Digest::of(&module);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{digest}"));
    assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip2".into()));
    assert_eq!(config["layerDigests"][0], format!("sha256:{digest}"));
    assert_eq!(config["component"]["imports"][0], "a:b/c@1.0.0");
}

#[test]
fn what_was_written_is_read() {
    let (module, text, config) = module();
    let manifest = ModuleManifest::parse(&text).unwrap();
    assert_eq!((manifest.module.digest, manifest.module.size), (Digest::of(&module), module.len() as u64));
    assert_eq!(manifest.check_config(&config), Ok(()));
    let other = String::from_utf8(config).unwrap().replace("sha256:", "sha512:");
    assert!(matches!(manifest.check_config(other.as_bytes()), Err(OciDocumentError::Kind(_))));

    let subject = Descriptor::of(MANIFEST_TYPE, &text);
    let envelope = EnvelopeManifest::write(b"envelope", &subject).unwrap();
    let read = EnvelopeManifest::parse(&envelope).unwrap();
    assert_eq!((read.subject, read.envelope.digest), (subject, Digest::of(b"envelope")));
    assert!(matches!(ModuleManifest::parse(&envelope), Err(OciDocumentError::Kind(_))));
}

#[test]
fn an_index_takes_an_envelope_once_and_forgets_the_oldest() {
    let mut index = Index::default();
    index.add_envelope(b"1");
    index.add_envelope(b"1");
    index.add_envelope(b"2");
    let digests: Vec<Digest> = index.envelopes().map(|entry| entry.digest).collect();
    assert_eq!(digests, [Digest::of(b"2"), Digest::of(b"1")]);
    for number in 0..300_u32 {
        index.add_envelope(&number.to_le_bytes());
    }
    assert_eq!(index.envelopes().count(), 256);
    assert!(Index::parse(&index.to_json().unwrap()).is_ok());
}

#[test]
fn other_and_absurd_documents_are_refused() {
    let (_, text, _) = module();
    let text = String::from_utf8(text).unwrap();
    let with = |from: &str, to: &str| ModuleManifest::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
    assert!(matches!(with("manifest.v1", "index.v1"), OciDocumentError::Kind(_)));
    assert!(matches!(with("\"application/wasm\"", "\"text/plain\""), OciDocumentError::Kind(_)));
    assert!(matches!(with("sha256:", "md5:"), OciDocumentError::Digest(_)));
    assert!(matches!(with("\"schemaVersion\":2", "\"schemaVersion\":1"), OciDocumentError::Form(_)));
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["layers"][0]["size"] = u64::MAX.into();
    assert!(matches!(ModuleManifest::parse(value.to_string().as_bytes()), Err(OciDocumentError::Part { .. })));
    assert!(matches!(ModuleManifest::parse(&vec![b' '; 2 << 20]), Err(OciDocumentError::Size(_))));
}

proptest! {
    #[test]
    fn hostile_documents_never_panic(mut text in Just(module().1), changes in prop::collection::vec((0_usize..900, any::<u8>()), 0..5)) {
        for (at, byte) in changes {
            let at = at % text.len();
            text[at] = byte;
        }
        fuzz(&text);
    }
}
