//! Calling functions: paths, hosts, keys, streams, and what passes between client and function.

use obsidian_edge::{ApiKey, KeyTable};
use obsidian_types::TenantId;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::site::{Site, conformance, hello, wanted};
use crate::http::{Answer, Call, get};
use crate::support::Pop;

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_sees_its_own_paths_and_our_word_about_the_client() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    assert_eq!(get(address, "/fn/shop/").await.error(), (404, "function_not_found".to_owned(), Value::Null));
    let changed = site.deploy(&functions, &conformance(), "1.0.0", "").await.unwrap();
    assert_eq!((changed.name.as_str(), changed.version.as_str(), changed.previous), ("shop", "1.0.0", None));

    let head = "GET /fn/shop/headers?a=1 HTTP/1.0\r\nx-forwarded-for: 6.6.6.6\r\nx-request-id: mine-7\r\n\
                traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nkeep-alive: timeout=5";
    let seen = Call::send(address, head, b"").await.answer().await;
    assert_eq!((seen.status, seen.headers["x-obsidian-module"].as_str()), (200, "shop"));
    assert_eq!(
        (seen.headers["x-obsidian-module-version"].as_str(), seen.headers["x-request-id"].as_str()),
        ("1.0.0", "mine-7")
    );
    assert!(["warm", "cold"].contains(&seen.headers["x-obsidian-instance"].as_str()));
    let seen = text(&seen);
    for line in [
        "path Some(\"/headers?a=1\")",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-prefix: /fn/shop",
        "x-request-id: mine-7",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(seen.contains(line), "{line} is missing in\n{seen}");
    }
    assert!(!seen.contains("6.6.6.6") && !seen.contains("keep-alive"), "{seen}");
    assert_eq!(get(address, "/fn/shop/status/418").await.status, 418);
    let websocket = "GET /fn/shop/hello HTTP/1.1\r\nconnection: Upgrade, close\r\nupgrade: websocket";
    assert_eq!(Call::send(address, websocket, b"").await.answer().await.error().1, "upgrade_not_supported");
    // What the POP counts.
    let metrics = text(&get(address, "/metrics").await);
    assert!(
        metrics.contains("obsidian_function_requests_total{tenant=\"default\",function=\"shop\",status=\"4xx\"}"),
        "{metrics}"
    );
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    site.deploy(&functions, &conformance(), "1.0.0", "").await.unwrap();
    let mut socket = TcpStream::connect(pop.local_addr()).await.unwrap();
    let head =
        "POST /fn/shop/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    for piece in ["first", "second"] {
        socket.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
        // It is back before the next is sent.
        while !String::from_utf8_lossy(&seen).contains(piece) {
            assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
        }
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    socket.read_to_end(&mut seen).await.unwrap();
    assert!(String::from_utf8_lossy(&seen).ends_with("0\r\n\r\n"));
    // Events come one by one.
    let events = Call::send(pop.local_addr(), "GET /fn/shop/events?count=3 HTTP/1.1\r\nconnection: close", b"").await;
    let events = events.answer().await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert!(text(&events).contains("data: event 2"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_their_own_tenants_functions_and_reach_no_function() {
    let site = Site::new();
    let functions = site.open().await;
    let mut pop = Pop::new().functions(functions.clone());
    let key = |tenant: &str, secret: &str| ApiKey::from_secret(TenantId::new(tenant), secret);
    pop.config.api_keys = KeyTable::from(vec![key("a", "key-a"), key("b", "key-b")]);
    let pop = pop.start().await;
    let address = pop.local_addr();
    let signature = site.sign(&conformance(), "shop", "1.0.0", "");
    functions.upload(signature.digest, conformance()).await.unwrap();
    let mut private = wanted("a", signature.clone());
    private.public = Some(false);
    functions.deploy(private).await.unwrap();
    let ask = |path: &str, key: &str| {
        let head = format!("GET {path} HTTP/1.0\r\nauthorization: Bearer {key}");
        async move { Call::send(address, &head, b"").await.answer().await }
    };
    assert_eq!(get(address, "/fn/shop/hello").await.error().1, "invalid_api_key");
    assert_eq!(ask("/fn/shop/hello", "key-b").await.error().1, "function_not_found");
    let seen = ask("/fn/shop/headers", "key-a").await;
    assert!(seen.status == 200 && !text(&seen).contains("authorization"), "{}", text(&seen));
    // Open to all: a token that is none of ours is the function's own business.
    let mut open = wanted("b", signature);
    open.name = Some("open".to_owned());
    functions.deploy(open).await.unwrap();
    assert_eq!(get(address, "/fn/open/hello").await.status, 200);
    assert!(text(&ask("/fn/open/headers", "theirs").await).contains("authorization: Bearer theirs"));
    assert!(!text(&ask("/fn/open/headers", "key-a").await).contains("key-a"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_names_lead_to_functions_and_to_nothing_else() {
    let mut site = Site::new();
    site.hosts.insert("configured.example.net".to_owned(), "default/shop".to_owned());
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    let signature = site.sign(&hello(), "shop", "1.0.0", "");
    functions.upload(signature.digest, hello()).await.unwrap();
    let mut deploy = wanted("default", signature.clone());
    deploy.hosts = Some(["shop.example.net".to_owned()].into());
    functions.deploy(deploy).await.unwrap();
    for host in ["shop.example.net", "SHOP.example.net:8080", "configured.example.net"] {
        // Even a path that the POP has by itself.
        let head = format!("GET /healthz HTTP/1.1\r\nconnection: close\r\nhost: {host}");
        let answer = Call::send(address, &head, b"").await.answer().await;
        assert_eq!(
            (answer.status, answer.headers.get("x-obsidian-module").map(String::as_str)),
            (200, Some("shop")),
            "{host}"
        );
    }
    let other = "GET /healthz HTTP/1.1\r\nconnection: close\r\nhost: other.example.net";
    assert_eq!(Call::send(address, other, b"").await.answer().await.error().1, "host_not_allowed");
    // A host belongs to one.
    let mut taken = wanted("default", signature);
    taken.name = Some("second".to_owned());
    taken.hosts = Some(["shop.example.net".to_owned()].into());
    let error = functions.deploy(taken).await.unwrap_err();
    assert_eq!(error.kind(), (409, "conflict"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_its_share_and_a_stopping_pop_says_so() {
    let site = Site::new();
    let mut settings = site.settings();
    settings.tenant_concurrency = 1;
    let functions = tokio::task::spawn_blocking(move || {
        obsidian_edge::functions::Functions::open(settings, crate::support::engines()).unwrap()
    });
    let functions = functions.await.unwrap();
    let pop = Pop::new().functions(functions.clone()).start().await;
    let address = pop.local_addr();
    site.deploy(&functions, &conformance(), "1.0.0", "").await.unwrap();
    let mut held = Call::send(address, "GET /fn/shop/forever HTTP/1.0", b"").await;
    held.until("still here").await;
    let refused = get(address, "/fn/shop/hello").await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (429, "1"));
    drop(held);
    while get(address, "/fn/shop/hello").await.status != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    pop.shutdown().await;
    let late = functions.deploy(wanted("default", site.sign(&conformance(), "shop", "2.0.0", ""))).await.unwrap_err();
    assert_eq!(late.kind(), (503, "unfinished"));
}
