//! HTTP/2 without TLS (prior knowledge), and a client that opens no window for its answer.

use std::time::Duration;

use h2::client::{Builder, SendRequest};
use http::{Method, Request, Response};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::{PATIENCE, chat};
use crate::support::{Pop, ask, with};

async fn ask_over(
    client: &SendRequest<bytes::Bytes>,
    method: Method,
    path: &str,
    body: &str,
) -> Response<h2::RecvStream> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let mut client = client.clone().ready().await.unwrap();
    let (answer, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(bytes::Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    tokio::time::timeout(PATIENCE, answer).await.expect("in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_window_is_reset_and_its_connection_lives_on() {
    let mut pop = Pop::new();
    pop.config.limits.stall = Duration::from_millis(200);
    pop.config.limits.inflight = 1;
    let pop = pop.start().await;
    let address = pop.local_addr();
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = Builder::new().initial_window_size(0).handshake(socket).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async { connection.await.is_ok() });
    let body = with(ask("edge", "Hello! Who are you?"), json!({ "stream": true })).to_string();
    let answer = ask_over(&client, Method::POST, "/v1/chat/completions", &body).await;
    assert_eq!(answer.status(), 200);
    // Nothing of the body can be sent, so it is given up.
    let mut body = answer.into_body();
    let ended = tokio::time::timeout(PATIENCE, body.data()).await.expect("the POP gives up").expect("an error");
    assert!(ended.unwrap_err().is_reset());
    // Its place is free, and the connection serves on.
    assert_eq!(chat(address, &ask("edge", "hi")).await.status, 200);
    assert_eq!(ask_over(&client, Method::GET, "/readyz", "").await.status(), 200);
    drop(client);
    pop.shutdown().await;
}
