//! What is refused before any work is done, and how it looks from outside.

use obsidian_edge::{ApiKey, Edge, EdgeConfig, StartError};
use obsidian_types::TenantId;
use obsidian_types::limits::{MAX_BODY_BYTES, MAX_DISCARDED_BODY_BYTES};
use serde_json::{Value, json};

use crate::http::{Call, chat, get};
use crate::support::{Pop, ask, with};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_in_openai_shape() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let table = [
        (
            with(ask("auto", "hi"), json!({"tools": [{"type": "function", "function": {"name": "f"}}]})),
            400,
            "unsupported_parameter",
            json!("tools"),
        ),
        (with(ask("auto", "hi"), json!({"store": true})), 400, "unsupported_parameter", json!("store")),
        (with(ask("auto", "hi"), json!({"temprature": 1})), 400, "unknown_parameter", json!("temprature")),
        (ask("gpt-5", "hi"), 404, "model_not_found", Value::Null),
        // This POP has no hub, so there is no model of that name.
        (ask("hub", "hi"), 404, "model_not_found", Value::Null),
        (ask("core", "hi"), 404, "core_not_configured", Value::Null),
        (ask("auto", "nul\0"), 400, "invalid_control_character", json!("messages[0].content")),
        (ask("auto", &"word ".repeat(4_000)), 400, "context_length_exceeded", json!("messages")),
    ];
    for (body, status, code, param) in table {
        let answer = chat(address, &body).await;
        assert_eq!(answer.error(), (status, code.to_owned(), param));
        assert_eq!(answer.headers["x-obsidian-request-id"].len(), 32);
        assert_eq!(answer.headers["x-obsidian-pop"], "pop");
    }
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_bodies_are_refused() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let head = "POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json";
    let post = async |head: &str, body: &[u8]| Call::send(address, head, body).await.answer().await.error();
    let none = Value::Null;
    assert_eq!(post(head, b"{\"model\": ").await, (400, "invalid_json".to_owned(), none.clone()));
    assert_eq!(post(head, b"\"\xFF\"").await, (400, "invalid_utf8".to_owned(), none.clone()));
    let plain = "POST /v1/chat/completions HTTP/1.0\r\ncontent-type: text/plain";
    assert_eq!(post(plain, b"{}").await, (415, "unsupported_content_type".to_owned(), none.clone()));
    // Announced as larger than what is read on past: refused before the body is sent.
    let large = format!("{head}\r\nx-padding: 0\r\ncontent-length: {}", MAX_BODY_BYTES + MAX_DISCARDED_BODY_BYTES + 1);
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncWriteExt::write_all(&mut socket, format!("{large}\r\n\r\n").as_bytes()).await.unwrap();
    tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 413"), "{}", String::from_utf8_lossy(&answer));
    let answer = get(address, "/v1/chat/completions").await;
    assert_eq!(answer.error().0, 405);
    assert_eq!(get(address, "/v1/nothing").await.error().1, "unknown_url");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_name_was_rebound_to_loopback_is_turned_away() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let body = ask("auto", "hi").to_string();
    let post = async |host: &str| {
        let head = format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json\r\nhost: {host}");
        Call::send(address, &head, body.as_bytes()).await.answer().await
    };
    assert_eq!(post("evil.example:8080").await.error(), (403, "host_not_allowed".to_owned(), Value::Null));
    assert_eq!(post("localhost:8080").await.status, 200);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_the_door_and_name_the_tenant() {
    let mut pop = Pop::new();
    pop.config.api_keys = vec![ApiKey::from_secret(TenantId::new("acme"), "sk-right")].into();
    let pop = pop.start().await;
    let address = pop.local_addr();
    assert_eq!(chat(address, &ask("auto", "hi")).await.error().1, "invalid_api_key");
    let models = |key: &str| format!("GET /v1/models HTTP/1.0\r\nauthorization: Bearer {key}");
    let wrong = Call::send(address, &models("sk-wrong"), b"").await.answer().await;
    assert_eq!((wrong.status, wrong.headers["www-authenticate"].as_str()), (401, "Bearer"));
    let right = Call::send(address, &models("sk-right"), b"").await.answer().await;
    assert_eq!(right.status, 200);
    // Balancers have no key.
    assert_eq!(get(address, "/readyz").await.status, 200);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_listener_without_keys_is_refused_before_anything_is_bound() {
    let mut pop = Pop::new();
    pop.config.listen = "0.0.0.0:0".parse().unwrap();
    let config: EdgeConfig = pop.config.clone();
    let Err(StartError::OpenToTheNetwork(address)) = Edge::start(config, pop.parts()).await else {
        panic!("it started");
    };
    assert!(address.ip().is_unspecified());
}
