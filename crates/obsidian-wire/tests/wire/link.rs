//! The hub link: connections that stand and come back, errors with a name, bytes that add up.

use std::time::Duration;

use obsidian_types::{FinishReason, Speculation};
use obsidian_wire::proto::{Finish, NeedPrefix, Verdict, down, up};
use obsidian_wire::{Code, HubLink, LinkError, LinkOptions, Refusal, Serving};
use tonic::Status;

use crate::support::{PATIENCE, Server, Site, agreeable, masked, options, quick, until};

#[tokio::test]
async fn streams_spread_over_four_connections() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let link = site.link(&server).await;
    until("four connections", || link.state().connections == 4).await;

    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap());
    }
    assert_eq!(link.state().streams, 4);
    // Each stream is alone on its connection, so each gets all of that connection's bytes.
    let bytes: Vec<_> = streams.iter().map(|stream| stream.wan_bytes()).collect();
    assert!(bytes.iter().all(|bytes| bytes.up > 100 && bytes.down > 20), "{bytes:?}");
    drop(streams);
    assert_eq!(link.state().streams, 0);
}

#[tokio::test]
async fn a_verdict_says_what_was_emitted() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let link = site.link(&server).await;
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    let drafts = [4, 5, 6];
    let verdict = stream.verify(&drafts).await.unwrap();
    assert_eq!((verdict.accepted, verdict.next, verdict.finish), (3, Some(9), None));
    assert_eq!(verdict.emitted(&drafts).collect::<Vec<_>>(), [4, 5, 6, 9]);

    let before = stream.wan_bytes();
    stream.verify(&drafts).await.unwrap();
    let after = stream.wan_bytes();
    assert!(after.up > before.up && after.down > before.down);
    stream.close().await;
}

#[tokio::test]
async fn wrong_use_is_named_and_sends_nothing() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let link = site.link(&server).await;
    let mut stream = link.open(&masked(0..20), options(Speculation::Off)).await.unwrap();
    assert!(matches!(stream.verify(&[1]).await, Err(LinkError::WrongUse(_))));
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    assert!(matches!(stream.next().await, Err(LinkError::WrongUse(_))));
    assert!(matches!(stream.verify(&[1; 17]).await, Err(LinkError::WrongUse(_))));
    assert!(stream.verify(&[1; 16]).await.is_ok());
    let mut bad = options(Speculation::Off);
    bad.vocabulary_digest = "nonsense".to_owned();
    assert!(matches!(link.open(&masked(0..20), bad).await, Err(LinkError::WrongUse(_))));
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_its_hint() {
    fn full(_: up::Kind) -> Option<Vec<Result<down::Kind, Status>>> {
        let refusal = Refusal::new(Code::Overloaded, "full").retry_after(Duration::from_millis(250));
        Some(vec![Err(refusal.into())])
    }
    let site = Site::new();
    let server = Server::start(site.server_tls(), full).await;
    let link = site.link(&server).await;
    let error = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap_err();
    let LinkError::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!((refusal.code, refusal.retry_after), (Code::Overloaded, Some(Duration::from_millis(250))));
    assert_eq!(error.name(), "overloaded");
}

#[tokio::test]
async fn the_prefix_is_named_once_the_hub_holds_it_and_sent_when_it_does_not() {
    /// Finishes at once; says how many ids came by the position it answers from.
    fn hub(message: up::Kind) -> Option<Vec<Result<down::Kind, Status>>> {
        let verdict = |position: usize| {
            let verdict =
                Verdict { position: position as u32, next: vec![2], finish: Finish::End.into(), ..Verdict::default() };
            Ok(down::Kind::Verdict(verdict))
        };
        let opened = |reused_tokens: u32| {
            Ok(down::Kind::Opened(obsidian_wire::proto::Opened { version: 1, reused_tokens, ..Default::default() }))
        };
        match message {
            up::Kind::Open(open) => match open.prefix {
                None => Some(vec![opened(0), verdict(open.suffix.len())]),
                // A long tip is "lost", a short one "held".
                Some(prefix) if prefix.blocks > 2 => Some(vec![Ok(down::Kind::NeedPrefix(NeedPrefix { from: 0 }))]),
                Some(prefix) => {
                    Some(vec![opened(16 * prefix.blocks), verdict(16 * prefix.blocks as usize + open.suffix.len())])
                }
            },
            up::Kind::Append(append) => Some(vec![opened(append.ids.len() as u32), verdict(90)]),
            up::Kind::Draft(_) | up::Kind::Read(_) => Some(Vec::new()),
            up::Kind::Close(_) => None,
        }
    }
    let site = Site::new();
    let server = Server::start(site.server_tls(), hub).await;
    let link = site.link(&server).await;
    let turn = async |length: u32| {
        let mut stream = link.open(&masked(0..length), options(Speculation::Off)).await.unwrap();
        let reused = stream.opened().reused_tokens;
        let batch = stream.next().await.unwrap().unwrap();
        assert_eq!(batch.finish, Some(FinishReason::Stop));
        assert_eq!(stream.next().await.unwrap(), None);
        reused
    };
    assert_eq!(turn(40).await, 0, "nothing is known before the first turn");
    assert_eq!(turn(70).await, 32, "two blocks of the first turn are named");
    assert_eq!(turn(90).await, 64, "four blocks are named, lost, and sent after all");
    // Another tenant's conversation with the same tokens names nothing.
    let mut other = options(Speculation::Off);
    other.tenant_salt = [4; 16];
    let stream = link.open(&masked(0..40), other).await.unwrap();
    assert_eq!(stream.opened().reused_tokens, 0);
}

#[tokio::test]
async fn a_hub_that_dies_in_mid_stream_is_noticed_and_found_again() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let address = server.address;
    let link = site.link(&server).await;
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    stream.verify(&[1]).await.unwrap();

    server.stop(Serving::Aborted).await;
    let error = tokio::time::timeout(PATIENCE, stream.verify(&[1])).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Lost { .. }), "{error}");
    assert!(matches!(stream.verify(&[1]).await, Err(LinkError::WrongUse(_))));
    until("unhealthy", || !link.state().healthy).await;
    let error = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap_err();
    assert!(matches!(error, LinkError::Unavailable { .. }), "{error}");

    let _server = Server::start_at(address, site.server_tls(), agreeable, vec![1]).await;
    link.ready(PATIENCE).await.unwrap();
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    stream.verify(&[1]).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_falls_silent_is_an_error_within_the_timeout() {
    fn silent(message: up::Kind) -> Option<Vec<Result<down::Kind, Status>>> {
        matches!(message, up::Kind::Open(_)).then(|| agreeable(message)).unwrap_or(Some(Vec::new()))
    }
    let site = Site::new();
    let server = Server::start(site.server_tls(), silent).await;
    let impatient = LinkOptions { request_timeout: Duration::from_secs(1), ..quick() };
    let link = HubLink::new(&server.address.to_string(), site.client_tls(), impatient).unwrap();
    link.ready(PATIENCE).await.unwrap();
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, stream.verify(&[1])).await.unwrap().unwrap_err();
    assert_eq!(error, LinkError::Timeout { what: "verify", after_ms: 1_000 });
}

/// A cable that is pulled: no FIN, no RST, nothing.
#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed_by_the_pings() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let (front, cut) = cuttable_cable(server.address).await;
    let watchful = LinkOptions {
        keep_alive_interval: Duration::from_secs(1),
        keep_alive_timeout: Duration::from_secs(1),
        ..quick()
    };
    let link = HubLink::new(&front.to_string(), site.client_tls(), watchful).unwrap();
    link.ready(PATIENCE).await.unwrap();
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    cut.send_replace(true);
    let error = tokio::time::timeout(PATIENCE, stream.verify(&[1])).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Lost { .. }), "{error}");
}

/// Forwards every connection to `target` until told to swallow.
async fn cuttable_cable(target: std::net::SocketAddr) -> (std::net::SocketAddr, tokio::sync::watch::Sender<bool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, told) = tokio::sync::watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    let accept = async move {
        let mut cables = tokio::task::JoinSet::new();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut told = told.clone();
            cables.spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                let is_cut = async { drop(told.wait_for(|cut| *cut).await) };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    () = is_cut => {}
                }
                // Both sockets stay open and silent.
                std::future::pending().await
            });
        }
    };
    tasks.spawn(accept);
    // The test's runtime ends it.
    tasks.detach_all();
    (address, cut)
}

#[tokio::test]
async fn a_hub_of_another_version_is_named() {
    let site = Site::new();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::start_at(address, site.server_tls(), agreeable, vec![7]).await;
    let link = HubLink::new(&server.address.to_string(), site.client_tls(), quick()).unwrap();
    until("a reason", || !link.state().last_error.is_empty()).await;
    let error = link.ready(Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("upgrade the POP"), "{error}");
}

#[tokio::test]
async fn a_hub_that_breaks_the_protocol_is_caught() {
    fn elsewhere(message: up::Kind) -> Option<Vec<Result<down::Kind, Status>>> {
        match message {
            up::Kind::Draft(draft) => {
                let verdict = Verdict { position: draft.position + 1, next: vec![1], ..Verdict::default() };
                Some(vec![Ok(down::Kind::Verdict(verdict))])
            }
            other => agreeable(other),
        }
    }
    let site = Site::new();
    let server = Server::start(site.server_tls(), elsewhere).await;
    let link = site.link(&server).await;
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    assert!(matches!(stream.verify(&[1]).await, Err(LinkError::Protocol(_))));
}

#[tokio::test]
async fn draining_lets_a_stream_finish() {
    let site = Site::new();
    let server = Server::start(site.server_tls(), agreeable).await;
    let link = site.link(&server).await;
    let mut stream = link.open(&masked(0..20), options(Speculation::Sync)).await.unwrap();
    server.control.send_replace(Serving::Draining);
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.verify(&[1]).await.unwrap();
    stream.close().await;
    tokio::time::timeout(PATIENCE, server.stop(Serving::Draining)).await.unwrap();
}
