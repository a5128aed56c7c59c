//! Admission, health, metrics, clients that leave, and shutdown.

use std::time::Duration;

use serde_json::json;

use crate::http::{Call, PATIENCE, chat, get};
use crate::support::{Pop, ask, with};

/// A stream that takes long enough to look at it from outside.
fn long_stream() -> serde_json::Value {
    // A seeded walk at high temperature seldom ends by itself.
    with(ask("edge", "Tell me everything."), json!({"stream": true, "max_tokens": 900, "temperature": 2, "seed": 5}))
}

/// One test, because the gauge of requests in flight is one for the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_pop_says_when_to_come_back_and_a_client_that_leaves_makes_room() {
    let mut pop = Pop::new();
    pop.config.max_inflight = 1;
    let pop = pop.start().await;
    let address = pop.local_addr();
    assert_eq!(get(address, "/healthz").await.body, b"ok\n");
    let ready = get(address, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["degraded"]), (200, &json!(false)));
    assert_eq!(ready.json()["parts"]["hub"]["state"], "not configured");

    let mut stream = Call::chat(address, &long_stream()).await;
    stream.until("\"content\":\"\"").await;
    let refused = chat(address, &ask("edge", "hi")).await;
    assert_eq!(refused.error().0, 429);
    assert_eq!(refused.headers["retry-after"], "1");
    drop(stream);
    // The pipeline ends with its client, and its place is free again.
    let served = async {
        while chat(address, &ask("edge", "hi")).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("a place is free again");
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    for line in [
        "obsidian_requests_total{route=\"edge\",status=\"499\"}",
        "obsidian_requests_total{route=\"none\",status=\"429\"}",
        "obsidian_requests_total{route=\"edge\",status=\"200\"}",
        "obsidian_time_to_first_token_seconds_bucket{route=\"edge\",le=\"",
        "obsidian_stage_seconds_bucket{stage=\"mask\",le=\"",
    ] {
        assert!(metrics.contains(line), "{line} is missing:\n{metrics}");
    }
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_says_not_ready_first_and_finishes_streams() {
    let mut pop = Pop::new();
    pop.config.drain_notice = Duration::from_millis(500);
    let pop = pop.start().await;
    let address = pop.local_addr();
    let mut stream = Call::chat(address, &long_stream()).await;
    stream.until("\"content\":\"\"").await;
    let stopping = tokio::task::JoinSet::from_iter([pop.shutdown()]);
    let not_ready = async {
        loop {
            let ready = get(address, "/readyz").await;
            if ready.status == 503 {
                return ready.json();
            }
        }
    };
    let ready = tokio::time::timeout(PATIENCE, not_ready).await.expect("readiness goes");
    assert_eq!((&ready["ready"], &ready["draining"]), (&json!(false), &json!(true)));
    assert_eq!(chat(address, &ask("edge", "hi")).await.error().1, "shutting_down");
    let answer = stream.answer().await;
    assert_eq!(answer.events().last(), Some(&serde_json::Value::Null), "the stream came to its end");
    stopping.join_all().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
