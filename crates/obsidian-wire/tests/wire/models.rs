//! The registry client against a registry that misbehaves in every way the real world has.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use obsidian_wire::models::{
    AccessToken, Listing, ModelRegistry, Patience, RegistryError, RegistryOptions, RemoteFile, Sha256, Sink,
};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use sha2::Digest;

use crate::registry::{Registry, Stream, sha256};

#[derive(Default)]
struct Memory(Vec<u8>);

impl Sink for Memory {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }

    fn sha256(&mut self) -> io::Result<Sha256> {
        Ok(Sha256(sha2::Sha256::digest(&self.0).into()))
    }
}

fn content() -> Vec<u8> {
    (0..100_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect()
}

fn options(registry: &Registry) -> RegistryOptions {
    let patience = Patience {
        attempts: 4,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        idle: Duration::from_secs(5),
    };
    RegistryOptions { endpoint: registry.url(), patience, ..RegistryOptions::default() }
}

async fn listed(client: &ModelRegistry) -> Result<(Listing, RemoteFile), RegistryError> {
    let listing = client.describe(&"acme/tiny".parse()?, "main").await?;
    let file = listing.files.iter().find(|file| file.path == "tiny.gguf").unwrap().clone();
    let file = client.identify(&listing, &file).await?;
    Ok((listing, file))
}

async fn pull(options: RegistryOptions, sink: &mut Memory) -> Result<(), RegistryError> {
    let client = ModelRegistry::new(options)?;
    let (listing, file) = listed(&client).await?;
    client.fetch(&listing, &file, sink, &mut |_, _| ()).await
}

#[tokio::test]
async fn a_file_comes_over_a_redirect_and_the_token_stays_at_home() {
    let bytes = content();
    let elsewhere = Registry::start(&[("tiny.gguf", &bytes)]);
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    registry.behaviour().redirect_to = Some(elsewhere.url());
    registry.behaviour().token = Some("hf_secret".to_owned());
    let mut sink = Memory::default();
    let mut with_token = options(&registry);
    with_token.token = AccessToken::parse("hf_secret\n");
    pull(with_token, &mut sink).await.unwrap();
    assert_eq!(sink.0, bytes);
    let sent: Vec<_> = registry.behaviour().seen.iter().map(|seen| seen.authorization.clone()).collect();
    assert!(sent.iter().all(|sent| sent.as_deref() == Some("Bearer hf_secret")), "{sent:?}");
    let elsewhere = elsewhere.behaviour();
    assert!(!elsewhere.seen.is_empty() && elsewhere.seen.iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_cut_transfer_goes_on_where_it_broke_off() {
    let bytes = content();
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    registry.behaviour().cuts = [150_000, 1_000, 0, 100_000].into();
    let mut sink = Memory::default();
    pull(options(&registry), &mut sink).await.unwrap();
    assert_eq!(sink.0, bytes);
    assert_eq!(registry.transfers(), [0, 150_000, 151_000, 151_000, 251_000]);
}

#[tokio::test]
async fn a_host_without_ranges_sends_everything_again() {
    let bytes = content();
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    registry.behaviour().cuts = [150_000].into();
    registry.behaviour().ignore_ranges = true;
    let mut sink = Memory::default();
    pull(options(&registry), &mut sink).await.unwrap();
    assert_eq!(sink.0, bytes);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_used_or_fetched_anew() {
    let bytes = content();
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    let mut sink = Memory(bytes[..300_000].to_vec());
    pull(options(&registry), &mut sink).await.unwrap();
    assert_eq!((sink.0 == bytes, registry.transfers()), (true, vec![300_000]));

    // Damaged leftovers, too long leftovers: both end in the right file.
    let mut damaged = Memory(vec![7; 300_000]);
    pull(options(&registry), &mut damaged).await.unwrap();
    assert_eq!((damaged.0 == bytes, registry.transfers()), (true, vec![300_000, 300_000, 0]));
    let mut long = Memory(vec![7; 500_000]);
    pull(options(&registry), &mut long).await.unwrap();
    assert_eq!(long.0, bytes);
}

#[tokio::test]
async fn a_wrong_digest_is_never_accepted() {
    let bytes = content();
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    registry.behaviour().false_digest = Some(sha256(b"another file"));
    let mut sink = Memory::default();
    let error = pull(options(&registry), &mut sink).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    assert!(sink.0.is_empty(), "damaged bytes were kept");

    registry.behaviour().false_digest = None;
    registry.behaviour().no_digest = true;
    let error = pull(options(&registry), &mut sink).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoDigest(_)), "{error}");
    assert!(error.to_string().contains("--sha256"));
}

#[tokio::test]
async fn size_and_digest_are_asked_for_where_the_listing_has_none() {
    let bytes = content();
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    registry.behaviour().bare_listing = true;
    // A host that cannot be reached: identifying a file does not go there.
    registry.behaviour().redirect_to = Some("http://127.0.0.1:9".to_owned());
    let client = ModelRegistry::new(options(&registry)).unwrap();
    let (_, file) = listed(&client).await.unwrap();
    assert_eq!((file.size, file.sha256.unwrap().to_string()), (Some(bytes.len() as u64), sha256(&bytes)));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let bytes = content();
    let registry = Registry::start(&[("tiny.gguf", &bytes)]);
    let mut sink = Memory::default();
    // Asked to wait, and a server in trouble: tried again.
    registry.behaviour().refusals = [(429, Some(0)), (503, None), (500, None)].into();
    pull(options(&registry), &mut sink).await.unwrap();
    assert_eq!(sink.0, bytes);
    // For longer than patience lasts: given up, what is there is kept.
    let mut sink = Memory(bytes[..10].to_vec());
    registry.behaviour().refusals = vec![(429, Some(3_600)); 9].into();
    let error = pull(options(&registry), &mut sink).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { .. }) && error.to_string().contains("429"), "{error}");
    assert_eq!(sink.0.len(), 10);
    registry.behaviour().refusals.clear();

    registry.behaviour().token = Some("hf_other".to_owned());
    let error = pull(options(&registry), &mut sink).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { status: 401, .. }), "{error}");
    registry.behaviour().token = None;
    let client = ModelRegistry::new(options(&registry)).unwrap();
    let unknown = client.describe(&"acme/unknown".parse().unwrap(), "main").await.unwrap_err();
    assert!(matches!(unknown, RegistryError::NotFound { .. }), "{unknown}");
    let (listing, mut file) = listed(&client).await.unwrap();
    file.path = "gone.gguf".to_owned();
    let gone = client.fetch(&listing, &file, &mut Memory::default(), &mut |_, _| ()).await.unwrap_err();
    assert!(matches!(gone, RegistryError::NotFound { .. }), "{gone}");
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_no_secret_is_shown() {
    let registry = Registry::start(&[("tiny.gguf", b"GGUF")]);
    registry.behaviour().redirect_to = Some("http://127.0.0.1:9".to_owned());
    let error = pull(options(&registry), &mut Memory::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("very-secret"), "{error:?}");
    registry.behaviour().redirect_to = Some("file:///etc".to_owned());
    let error = pull(options(&registry), &mut Memory::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("very-secret"), "{error:?}");
    let token = AccessToken::parse("hf_secret").unwrap();
    assert_eq!(format!("{token:?}"), "AccessToken(hidden)");
}

#[tokio::test]
async fn endless_redirects_and_unusable_endpoints_are_refused() {
    let registry = Registry::start(&[("tiny.gguf", b"GGUF")]);
    // Redirects to its own resolve path, which redirects again.
    let again = format!("{}/acme/tiny/resolve/{}/tiny.gguf?x=", registry.url(), crate::registry::COMMIT);
    registry.behaviour().redirect_to = Some(again);
    let error = pull(options(&registry), &mut Memory::default()).await.unwrap_err();
    assert!(error.to_string().contains("redirects more than 5 times"), "{error}");
    for (endpoint, token) in [
        ("hub.example.net", None),
        ("ftp://hub.example.net", None),
        ("https://user:pass@hub.example.net", None),
        ("http://hub.example.net", AccessToken::parse("hf_secret")),
    ] {
        let options = RegistryOptions { endpoint: endpoint.to_owned(), token, ..RegistryOptions::default() };
        let error = ModelRegistry::new(options).unwrap_err();
        assert!(matches!(error, RegistryError::Endpoint { .. }), "{error}");
    }
}

#[tokio::test]
async fn tls_believes_the_authority_given_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, certificate.pem()).unwrap();
    let node_key = KeyPair::generate().unwrap();
    let node = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let node = node.signed_by(&node_key, &Issuer::new(authority, key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![node.der().clone()], node_key.into())
        .unwrap();
    let config = Arc::new(config);
    let wrap = move |stream: TcpStream| -> Option<Box<dyn Stream>> {
        let connection = rustls::ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(rustls::StreamOwned::new(connection, stream)))
    };
    let bytes = content();
    let registry = Registry::start_with(&[("tiny.gguf", &bytes)], Arc::new(wrap));
    let secure = |authority_file| RegistryOptions {
        endpoint: format!("https://localhost:{}", registry.port()),
        authority_file,
        ..options(&registry)
    };
    let mut sink = Memory::default();
    pull(secure(Some(path)), &mut sink).await.unwrap();
    assert_eq!(sink.0, bytes);

    // Another authority, and the one that was right but with the wrong name.
    let other = folder.path().join("other.pem");
    let other_key = KeyPair::generate().unwrap();
    let other_certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&other_key).unwrap();
    std::fs::write(&other, other_certificate.pem()).unwrap();
    let error = pull(secure(Some(other)), &mut sink).await.unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "{error}");
    assert!(error.to_string().contains("--ca-file"), "{error}");
    let missing = ModelRegistry::new(secure(Some(folder.path().join("none.pem")))).unwrap_err();
    assert!(matches!(missing, RegistryError::Authorities(_)), "{missing}");
}

#[test]
fn a_token_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "hf_secret\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = AccessToken::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && !error.contains("hf_secret"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(AccessToken::from_file(&path).is_ok());
    std::fs::write(&path, "two words\n").unwrap();
    assert!(AccessToken::from_file(&path).is_err());
}
