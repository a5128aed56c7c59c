//! Who is let in, and what the others are told.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkError, NodeIdentity, ServerTls, TlsError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{PATIENCE, Server, Site, agreeable, quick, until};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn refusal(server: &Server, tls: ClientTls) -> String {
    let link = HubLink::new(&server.address.to_string(), tls, quick()).unwrap();
    until("a reason", || !link.state().last_error.is_empty()).await;
    assert!(!link.state().healthy);
    match link.ready(Duration::ZERO).await {
        Err(LinkError::Unavailable { reason, .. }) => reason,
        other => panic!("the link should not stand: {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_of_the_same_authority_is_let_in() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let link = site.link(&server).await;
    assert_eq!(link.describe().await.unwrap().model, "scripted");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (site, stranger) = (Site::new(), Site::new());
    let server = Server::start(site.server_tls(), agreeable).await;
    // It believes our hub, but its own certificate is foreign.
    let load = |ca: &Site, node: &Site| {
        node.authority.issue("pop").unwrap();
        let files = node.directory.path().join("ca");
        let certificate = (files.join("pop.cert.pem"), files.join("pop.key.pem"));
        NodeIdentity::load(&ca.authority.certificate_path(), &certificate.0, &certificate.1).unwrap()
    };
    let reason = refusal(&server, ClientTls::new(&load(&site, &stranger)).unwrap()).await;
    assert!(reason.contains("refused our certificate"), "{reason}");
    // It does not even believe our hub.
    let reason = refusal(&server, stranger.client_tls()).await;
    assert!(reason.contains("another authority"), "{reason}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let site = Site::new();
    let now = SystemTime::now();
    let expired = |name| site.authority.issue_between(name, now - 3 * DAY, now - DAY).unwrap();
    let server = Server::start(site.server_tls(), agreeable).await;
    let reason = refusal(&server, ClientTls::new(&expired("old-pop")).unwrap()).await;
    assert!(reason.contains("expired"), "{reason}");

    let old_hub = Server::start(ServerTls::new(&expired("old-hub")).unwrap(), agreeable).await;
    let reason = refusal(&old_hub, site.client_tls()).await;
    assert!(reason.contains("expired"), "{reason}");
}

#[tokio::test]
async fn a_hub_under_another_name_is_not_believed() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let reason = refusal(&server, site.client_tls().expecting("other-hub").unwrap()).await;
    assert!(reason.contains("another name"), "{reason}");
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.authority.certificate_path()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    // In TLS 1.3 the client's side is done before the server has looked: the alert comes with the first read.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let error = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

/// A client that knows nothing newer than TLS 1.2, by hand: this build of rustls cannot even offer that.
#[tokio::test]
async fn tls_1_2_is_refused() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let suites = [0xc0, 0x2b, 0xc0, 0x2f];
    let groups = [0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17];
    let formats = [0x00, 0x0b, 0x00, 0x02, 0x01, 0x00];
    let signatures = [0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03];
    let extensions = [&groups[..], &formats, &signatures].concat();
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, suites.len() as u8]);
    hello.extend(suites);
    hello.extend([1, 0, 0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![0x16, 0x03, 0x01, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);

    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    // An alert, fatal, `protocol_version`.
    assert_eq!((answer[0], &answer[5..]), (0x15, &[2, 70][..]));
}

#[test]
fn the_authority_is_private_and_reopened() {
    let site = Site::new();
    let directory = site.directory.path().join("ca");
    site.authority.issue("pop").unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("ca.key.pem")), 0o600);
    assert_eq!(mode(&directory.join("pop.key.pem")), 0o600);

    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let before = (read("ca.cert.pem"), read("pop.cert.pem"));
    DevelopmentCa::create_or_open(&directory).unwrap().issue("pop").unwrap();
    assert_eq!((read("ca.cert.pem"), read("pop.cert.pem")), before);
}

#[test]
fn an_expired_node_certificate_is_renewed_by_its_own_authority() {
    let site = Site::new();
    let now = SystemTime::now();
    site.authority.issue_between("pop", now - 3 * DAY, now - DAY).unwrap();
    let path = site.directory.path().join("ca/pop.cert.pem");
    let before = std::fs::read(&path).unwrap();
    site.authority.issue("pop").unwrap();
    assert_ne!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn unusable_files_are_named() {
    let site = Site::new();
    site.authority.issue("pop").unwrap();
    let files = site.directory.path().join("ca");
    let (ca, certificate, key) = (files.join("ca.cert.pem"), files.join("pop.cert.pem"), files.join("pop.key.pem"));

    let absent = NodeIdentity::load(&ca, &files.join("absent.pem"), &key).unwrap_err();
    assert!(absent.to_string().contains("absent.pem"), "{absent}");
    let swapped = NodeIdentity::load(&ca, &key, &key).unwrap_err();
    assert!(matches!(swapped, TlsError::Content { what: "certificate", .. }), "{swapped}");

    let now = SystemTime::now();
    site.authority.issue_between("old", now - 3 * DAY, now - DAY).unwrap();
    let expired = NodeIdentity::load(&ca, &files.join("old.cert.pem"), &files.join("old.key.pem")).unwrap_err();
    assert!(matches!(expired, TlsError::Expired { .. }), "{expired}");

    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let exposed = NodeIdentity::load(&ca, &certificate, &key).unwrap_err();
    assert!(matches!(exposed, TlsError::Exposed { mode: 0o644, .. }), "{exposed}");

    for name in ["", "../pop", ".hidden", "ca", "a/b"] {
        assert!(matches!(site.authority.issue(name), Err(TlsError::Name(_))), "{name:?}");
    }
}
