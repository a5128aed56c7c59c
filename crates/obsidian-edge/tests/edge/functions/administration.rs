//! The administration's own listener: who gets in, and what it says.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use obsidian_edge::functions::{AdminTcp, Functions};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::site::{Site, hello};
use crate::support::{Pop, engines};

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    line: &str,
    more: &str,
    body: &[u8],
) -> (u16, Value) {
    let head =
        format!("{line} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(super) async fn ask(socket: &Path, line: &str, body: &[u8]) -> (u16, Value) {
    exchange(UnixStream::connect(socket).await.unwrap(), line, "", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_deployed_and_looked_after_over_the_socket() {
    let site = Site::new();
    let (pop, _functions) = site.pop().await;
    let socket = site.path("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let signature = site.sign(&hello(), "shop", "1.0.0", "");
    let artifact = format!("/v1/artifacts/{}", signature.digest);
    assert_eq!(ask(&socket, &format!("HEAD {artifact}"), b"").await.0, 404);
    assert_eq!(ask(&socket, &format!("PUT {artifact}"), b"other").await.0, 400);
    assert_eq!(ask(&socket, &format!("PUT {artifact}"), &hello()).await.0, 200);
    assert_eq!(ask(&socket, &format!("HEAD {artifact}"), b"").await.0, 200);
    let envelope: Value = serde_json::from_str(&signature.envelope.to_json()).unwrap();
    let mut deploy = json!({ "root": { "digest": signature.digest, "envelope": envelope }, "public": true });
    let (status, changed) = ask(&socket, "POST /v1/functions", deploy.to_string().as_bytes()).await;
    assert_eq!(
        (status, &changed["path"], &changed["version"]),
        (200, &json!("/fn/shop/"), &json!("1.0.0")),
        "{changed}"
    );
    deploy["colour"] = json!(1);
    let (status, wrong) = ask(&socket, "POST /v1/functions", deploy.to_string().as_bytes()).await;
    assert!(status == 400 && wrong["error"]["message"].as_str().unwrap().contains("colour"), "{wrong}");
    let (_, listed) = ask(&socket, "GET /v1/functions", b"").await;
    assert_eq!((&listed["functions"][0]["name"], &listed["functions"][0]["state"]), (&json!("shop"), &json!("ready")));
    assert_eq!(ask(&socket, "POST /v1/functions/default/shop/rollback", b"").await.0, 404);
    assert_eq!(ask(&socket, "GET /v1/functions/default/shop/logs?lines=5", b"").await.0, 200);
    assert_eq!(ask(&socket, "GET /v1/functions/a%20b/shop", b"").await.0, 400);
    assert_eq!(ask(&socket, "DELETE /v1/functions/default/shop", b"").await.0, 200);
    assert_eq!(ask(&socket, "DELETE /v1/functions/default/shop", b"").await.1["error"]["code"], "not_found");
    assert_eq!(ask(&socket, "GET /anything", b"").await.0, 404);
    // Clients have no way here.
    let client = TcpStream::connect(pop.local_addr()).await.unwrap();
    assert_eq!(exchange(client, "GET /v1/functions", "", b"").await.0, 403);
    pop.shutdown().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_only_the_token_opens() {
    let site = Site::new();
    let mut settings = site.settings();
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let token_file = site.path("token");
    std::fs::write(&token_file, "short\n").unwrap();
    settings.admin_tcp = Some(AdminTcp { listen, token_file: token_file.clone() });
    let functions = tokio::task::spawn_blocking(move || Functions::open(settings, engines()).unwrap()).await.unwrap();
    let parts = Pop::new().functions(functions.clone());
    let refused = obsidian_edge::Edge::start(parts.config.clone(), parts.parts()).await.err().unwrap().to_string();
    assert!(refused.contains("fewer than 16 characters"), "{refused}");
    std::fs::write(&token_file, "0123456789abcdef\n").unwrap();
    let pop = Pop::new().functions(functions).start().await;
    for (more, expected) in [
        ("", 401),
        ("authorization: Bearer 0123456789abcdee\r\n", 401),
        ("authorization: Bearer 0123456789abcdef\r\n", 200),
    ] {
        let stream = TcpStream::connect(listen).await.unwrap();
        assert_eq!(exchange(stream, "GET /v1/functions", more, b"").await.0, expected, "{more}");
    }
    pop.shutdown().await;
}
