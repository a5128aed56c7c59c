//! How clients reach a POP: TLS, browsers, request ids, keys that change, and clients that are slow on purpose.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use obsidian_edge::{ApiKey, Cors, KeyTable, ReloadSettings, TenantLimits, TlsFiles};
use obsidian_types::TenantId;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version};

use crate::http::{Call, PATIENCE, chat, get};
use crate::support::{Pop, ask, with};

fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// A certificate for localhost in `folder`, signed by itself, that ends in the given year.
fn certificate(folder: &TempDir, year: i32) -> (TlsFiles, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let signed = parameters.self_signed(&key).unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, signed.pem()).unwrap();
    write_private(&files.key, &key.serialize_pem());
    (files, signed.der().clone())
}

/// Fetches /healthz over TLS from somebody who believes `root` alone: version, protocol and answer.
async fn fetch(
    address: SocketAddr,
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Result<(String, Option<String>, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|error| error.to_string())?;
    let (_, session) = stream.get_ref();
    let version = format!("{:?}", session.protocol_version().unwrap());
    let protocol = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let mut answer = Vec::new();
    if protocol.as_deref() != Some("h2") {
        stream.write_all(b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n").await.unwrap();
        // A server that closes without TLS's good-bye has still sent its answer.
        let _ = stream.read_to_end(&mut answer).await;
    }
    Ok((version, protocol, String::from_utf8_lossy(&answer).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_serves_old_and_new_clients_and_takes_a_new_certificate_while_it_runs() {
    let folder = TempDir::new().unwrap();
    let (files, first) = certificate(&folder, 2999);
    let mut pop = Pop::new();
    pop.config.tls = Some(files.clone());
    let pop = pop.start().await;
    let address = pop.local_addr();
    let both = [&version::TLS13, &version::TLS12];
    let (spoken, protocol, answer) = fetch(address, &first, &both, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!((spoken.as_str(), protocol.as_deref(), answer.as_str()), ("TLSv1_3", Some("h2"), ""));
    let (spoken, protocol, answer) = fetch(address, &first, &[&version::TLS12], &["http/1.1"]).await.unwrap();
    assert_eq!((spoken.as_str(), protocol.as_deref()), ("TLSv1_2", Some("http/1.1")));
    assert!(answer.ends_with("ok\n"), "{answer}");
    // Plain HTTP on a TLS listener gets no answer.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));

    // A key that does not belong to the certificate: the old ones stay.
    let settings = ReloadSettings {
        api_keys: KeyTable::default(),
        limits: obsidian_edge::IngressLimits::default(),
        cors: Cors::default(),
        proxies: obsidian_edge::TrustedProxies::default(),
    };
    write_private(&files.key, &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let error = pop.reload(settings.clone()).unwrap_err().to_string();
    assert!(error.contains("cannot be used together"), "{error}");
    fetch(address, &first, &both, &[]).await.unwrap();
    // A good pair is taken, by itself once the files have changed.
    let (_, second) = certificate(&folder, 2998);
    let taken = async {
        while fetch(address, &second, &both, &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the new certificate is shown");
    assert!(fetch(address, &first, &both, &[]).await.is_err());
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_shown_and_said_and_an_exposed_key_refused() {
    let folder = TempDir::new().unwrap();
    let (files, root) = certificate(&folder, 2021);
    let validity = obsidian_edge::check_certificate(&files).unwrap();
    assert_eq!(validity.standing(1_800_000_000).as_str(), "expired");
    let mut pop = Pop::new();
    pop.config.tls = Some(files.clone());
    let handle = pop.start().await;
    let error = fetch(handle.local_addr(), &root, &[&version::TLS13], &[]).await.unwrap_err();
    assert!(error.contains("expired"), "{error}");
    handle.shutdown().await;
    std::fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = obsidian_edge::check_certificate(&files).unwrap_err().to_string();
    assert!(error.ends_with(&format!("run `chmod 600 {}`", files.key.display())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_configured_origins_may_use_it_and_no_others() {
    let mut pop = Pop::new();
    pop.config.cors = Cors { origins: vec!["https://app.example".to_owned()], credentials: false };
    let pop = pop.start().await;
    let address = pop.local_addr();
    let preflight = async |origin: &str| {
        let head = format!(
            "OPTIONS /v1/chat/completions HTTP/1.0\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type"
        );
        Call::send(address, &head, b"").await.answer().await
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!((allowed.status, allowed.body.len()), (204, 0));
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(allowed.headers["access-control-allow-headers"], "authorization,content-type");
    assert!(!preflight("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    let head = "GET /v1/models HTTP/1.0\r\norigin: https://app.example";
    let seen = Call::send(address, head, b"").await.answer().await;
    assert_eq!((seen.status, seen.headers["vary"].as_str()), (200, "origin"));
    assert!(seen.headers["access-control-expose-headers"].contains("x-request-id"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_a_request_id_the_clients_own_if_it_is_sane() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    for (sent, kept) in [("my-request.7", true), ("two words", false)] {
        let head = format!("GET /v1/nothing HTTP/1.0\r\nx-request-id: {sent}");
        let answer = Call::send(address, &head, b"").await.answer().await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.headers["x-request-id"] == sent, kept, "{:?}", answer.headers);
        assert_eq!(answer.headers["x-request-id"], answer.headers["x-obsidian-request-id"]);
    }
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_limits_change_while_it_runs() {
    let folder = TempDir::new().unwrap();
    let path: PathBuf = folder.path().join("keys");
    write_private(&path, "acme sk-old\n");
    let mut pop = Pop::new();
    pop.config.api_keys = KeyTable::read(&path).unwrap();
    pop.config.api_keys_file = Some(path.clone());
    let mut settings = ReloadSettings::of(&pop.config).unwrap();
    let pop = pop.start().await;
    let address = pop.local_addr();
    let models = async |key: &str| {
        let head = format!("GET /v1/models HTTP/1.0\r\nauthorization: Bearer {key}");
        Call::send(address, &head, b"").await.answer().await.status
    };
    assert_eq!((models("sk-old").await, models("sk-new").await), (200, 401));
    // A file that is wrong changes nothing; one that is right does, without anybody being told.
    write_private(&path, "acme sk-new and more\n");
    write_private(&path, "[tenant.acme]\nkeys = ['sk-new']\n");
    let taken = async {
        while models("sk-new").await != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the new key works");
    assert_eq!(models("sk-old").await, 401);
    // A tenant with one request a minute, by reload.
    let mut keys: KeyTable = vec![ApiKey::from_secret(TenantId::new("acme"), "sk-third")].into();
    let limits = TenantLimits { requests_per_minute: Some(1), ..TenantLimits::default() };
    keys.limit(TenantId::new("acme"), limits);
    settings.api_keys = keys;
    settings.limits.answer_tokens = Some(10);
    pop.reload(settings.clone()).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json\r\nauthorization: Bearer sk-third";
    let post = async |tokens: u32| {
        let body = with(ask("edge", "hi"), json!({ "max_tokens": tokens })).to_string();
        Call::send(address, head, body.as_bytes()).await.answer().await
    };
    assert_eq!(post(11).await.error().2, "max_tokens");
    let refused = post(1).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (429, "rate_limit_exceeded"));
    let seconds: u32 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=60).contains(&seconds));
    // What is unsafe is not taken: on loopback without keys, no page of the whole web.
    settings.api_keys = KeyTable::default();
    settings.cors.origins = vec!["*".to_owned()];
    assert!(pop.reload(settings).unwrap_err().to_string().contains("any web page"));
    pop.shutdown().await;
}

/// Reads until the POP closes the connection.
async fn until_closed(mut socket: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let reading = socket.read_to_end(&mut received);
    // A reset is an end too.
    let _ = tokio::time::timeout(PATIENCE, reading).await.expect("the POP gives up");
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_too_slowly_are_given_up() {
    let mut pop = Pop::new();
    pop.config.limits.header_read = Duration::from_millis(100);
    pop.config.limits.idle = Duration::from_millis(100);
    pop.config.limits.body_grace = Duration::from_millis(100);
    let pop = pop.start().await;
    let address = pop.local_addr();
    // Nothing at all; half a head; HTTP/2 without any request.
    for sent in ["", "GET /healthz HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let received = until_closed(socket).await;
        assert!(!received.starts_with(b"HTTP/1.1 200"), "{sent:?}");
    }
    // A request that is kept alive and then does nothing more.
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(until_closed(socket).await.starts_with(b"HTTP/1.1 200"));
    // A body of which the first byte is the last.
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let received = until_closed(socket).await;
    assert!(received.starts_with(b"HTTP/1.0 408"), "{}", String::from_utf8_lossy(&received));
    // Nobody holds anything any more.
    assert_eq!(get(address, "/healthz").await.status, 200);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_and_no_more() {
    let mut pop = Pop::new();
    pop.config.limits.connections_per_address = 2;
    let pop = pop.start().await;
    let address = pop.local_addr();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        socket.read_exact(&mut answer).await.unwrap();
        held.push(socket);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    let _ = third.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(until_closed(third).await.is_empty());
    held.clear();
    let free = async {
        loop {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let _ = socket.write_all(b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
            if until_closed(socket).await.starts_with(b"HTTP/1.0 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("there is room again");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_ends() {
    let mut pop = Pop::new();
    pop.config.limits.request = Duration::from_millis(1);
    let pop = pop.start().await;
    let answer = chat(pop.local_addr(), &ask("edge", "Tell me all you know.")).await;
    assert_eq!((answer.error().0, answer.error().1.as_str()), (504, "request_timeout"));
    pop.shutdown().await;
}
