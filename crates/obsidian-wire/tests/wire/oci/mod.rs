//! The OCI client against Debian's docker-registry, and against registries that misbehave.

mod hostile;
mod process;

use obsidian_registry::{Digest, Envelope, Ledger, Manifest, SigningKey, Statement, TrustPolicy, Verified};
use obsidian_wire::oci::{Credentials, OciError, OciOptions, OciReference, OciRegistry};
use time::OffsetDateTime;

use self::process::DockerRegistry;

/// A component, the envelope over it and a policy that believes its signer.
fn signed() -> (Vec<u8>, Envelope, TrustPolicy) {
    let module = wat::parse_str("(component (core module (func)))").unwrap();
    let key = SigningKey::generate().unwrap();
    let manifest = Manifest::parse("name = \"resize\"\nversion = \"1.0.0\"\n").unwrap();
    let envelope = Envelope::sign(&Statement::about(&module, &manifest, OffsetDateTime::now_utc()), &key).unwrap();
    let policy = format!("threshold = 1\n[[key]]\nname = \"a\"\npublic = \"{}\"\n", key.public());
    (module, envelope, TrustPolicy::parse(&policy).unwrap())
}

fn client(reference: &OciReference) -> OciRegistry {
    OciRegistry::new(reference, OciOptions::default()).unwrap()
}

#[tokio::test]
async fn a_signed_module_goes_there_and_back_and_verifies() {
    let server = DockerRegistry::start(None);
    let reference: OciReference = format!("{}/team/resize:1.0.0", server.address).parse().unwrap();
    let (module, envelope, policy) = signed();
    let registry = client(&reference);
    let digest = registry.push(&reference, module.clone(), Some(envelope.to_json().as_bytes())).await.unwrap();
    // Again: what is there already is not an error and changes nothing.
    let again = registry.push(&reference, module.clone(), Some(envelope.to_json().as_bytes())).await.unwrap();
    assert_eq!(again, digest);

    for name in [reference.to_string(), format!("{}/team/resize@sha256:{digest}", server.address)] {
        let reference: OciReference = name.parse().unwrap();
        let pulled = client(&reference).pull(&reference).await.unwrap();
        assert_eq!((pulled.manifest, &pulled.module, pulled.envelopes.len()), (digest, &module, 1));
        let envelope = Envelope::parse(&pulled.envelopes[0]).unwrap();
        let now = OffsetDateTime::now_utc();
        let judged = Verified::signed(pulled.module, &envelope, &policy, &Ledger::default(), now);
        assert_eq!(judged.unwrap().0.digest(), Digest::of(&module));
    }
}

#[tokio::test]
async fn signatures_that_come_later_are_found_and_the_newest_is_first() {
    let server = DockerRegistry::start(None);
    let reference: OciReference = format!("{}/resize", server.address).parse().unwrap();
    let (module, mut envelope, _) = signed();
    let registry = client(&reference);
    registry.push(&reference, module.clone(), None).await.unwrap();
    assert!(registry.pull(&reference).await.unwrap().envelopes.is_empty());
    let first = envelope.to_json();
    registry.push(&reference, module.clone(), Some(first.as_bytes())).await.unwrap();
    envelope.add(&SigningKey::generate().unwrap());
    let second = envelope.to_json();
    registry.push(&reference, module.clone(), Some(second.as_bytes())).await.unwrap();
    let pulled = registry.pull(&reference).await.unwrap();
    assert_eq!(pulled.envelopes, [second.into_bytes(), first.into_bytes()]);
}

#[tokio::test]
async fn what_lies_there_is_a_plain_wasm_artifact_for_every_other_tool() {
    let server = DockerRegistry::start(None);
    let reference: OciReference = format!("{}/resize:1", server.address).parse().unwrap();
    let (module, envelope, _) = signed();
    client(&reference).push(&reference, module.clone(), Some(envelope.to_json().as_bytes())).await.unwrap();
    let url = |path: String| format!("http://{}/v2/resize/{path}", server.address);
    let http = reqwest::Client::new();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let answer = http.get(url("manifests/1".to_owned())).header("accept", accept).send().await.unwrap();
    let manifest: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("one layer") };
    assert_eq!(layer["mediaType"], "application/wasm");
    let blob = http.get(url(format!("blobs/{}", layer["digest"].as_str().unwrap()))).send().await.unwrap();
    assert_eq!(blob.bytes().await.unwrap(), module);
}

#[tokio::test]
async fn a_registry_that_asks_who_is_there_is_told_from_a_file() {
    // `a:secret`, as htpasswd -B writes it.
    let server = DockerRegistry::start(Some("a:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"));
    let reference: OciReference = format!("{}/resize:1", server.address).parse().unwrap();
    let (module, envelope, _) = signed();
    let anonymous = client(&reference).push(&reference, module.clone(), None).await;
    assert!(matches!(anonymous, Err(OciError::Denied { status: 401, .. })), "{anonymous:?}");
    for (auth, allowed) in [("YTpzZWNyZXQ=", true), ("YTp3cm9uZw==", false)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = serde_json::json!({ "auths": { reference.registry.as_str(): { "auth": auth } } });
        std::fs::write(file.path(), text.to_string()).unwrap();
        let credentials = Some(Credentials::from_file(file.path(), &reference).unwrap());
        let registry = OciRegistry::new(&reference, OciOptions { credentials, ..OciOptions::default() }).unwrap();
        let pushed = registry.push(&reference, module.clone(), Some(envelope.to_json().as_bytes())).await;
        assert_eq!(pushed.is_ok(), allowed, "{pushed:?}");
        if allowed {
            assert_eq!(registry.pull(&reference).await.unwrap().module, module);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let server = DockerRegistry::start(None);
    let reference: OciReference = format!("{}/nothing:1", server.address).parse().unwrap();
    let missing = client(&reference).pull(&reference).await.unwrap_err();
    assert!(missing.to_string().contains("does not have 1 of nothing"), "{missing}");
    let file = client(&reference).push(&reference, b"no module".to_vec(), None).await.unwrap_err();
    assert!(matches!(file, OciError::Module(_)));
}
