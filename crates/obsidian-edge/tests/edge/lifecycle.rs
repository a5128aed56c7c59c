//! Admission, health, metrics, clients that leave, and shutdown.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Call, PATIENCE, chat, get};
use crate::standin::{Manner, Site, WELL};
use crate::support::{Pop, ask, drafter, with};

/// A POP whose hub thinks for a while about every window: its streams last long enough to look at them.
pub(crate) async fn slow_pop() -> (Site, Pop, Value) {
    let drafter = drafter();
    let site = Site::start(&drafter, Manner { pause: Duration::from_millis(150), ..WELL }).await;
    let link = site.link().await;
    let question = with(ask("hub", "When does my order arrive?"), json!({"stream": true, "max_tokens": 64}));
    (site, Pop::new().hub(drafter, link), question)
}

/// Asks until a request gets `status`.
pub(crate) async fn until_status(address: SocketAddr, status: u16) {
    let reached = async {
        while chat(address, &with(ask("edge", "hi"), json!({"max_tokens": 1}))).await.status != status {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pop_says_when_to_come_back_and_a_client_that_leaves_makes_room() {
    let (_site, mut pop, question) = slow_pop().await;
    pop.config.limits.inflight = 1;
    pop.config.limits.queue = 0;
    pop.config.limits.queue_per_tenant = 1;
    let pop = pop.start().await;
    let address = pop.local_addr();
    assert_eq!(get(address, "/healthz").await.body, b"ok\n");
    let ready = get(address, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["degraded"]), (200, &json!(false)));
    assert_eq!(ready.json()["parts"]["hub"], json!({"state": "ready", "model": "stand-in"}));

    let mut stream = Call::chat(address, &question).await;
    stream.until("\"content\":\"\"").await;
    let refused = chat(address, &ask("edge", "hi")).await;
    assert_eq!(refused.error(), (503, "overloaded".to_owned(), Value::Null));
    assert_eq!(refused.headers["retry-after"], "1");
    drop(stream);
    // The pipeline ends with its client, and its place is free again.
    until_status(address, 200).await;
    // The same for a client that waits for the whole answer.
    let whole = Call::chat(address, &with(question, json!({"stream": false}))).await;
    until_status(address, 503).await;
    drop(whole);
    until_status(address, 200).await;
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    // The second client may leave before its route is known.
    let left = metrics.lines().filter(|line| line.starts_with("obsidian_requests_total") && line.contains("\"499\""));
    let left: u32 = left.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum();
    assert_eq!(left, 2, "{metrics}");
    for line in [
        "obsidian_requests_total{route=\"none\",status=\"503\"}",
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
    let (_site, mut pop, question) = slow_pop().await;
    pop.config.drain_notice = Duration::from_millis(500);
    let pop = pop.start().await;
    let address = pop.local_addr();
    let mut stream = Call::chat(address, &question).await;
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
    assert_eq!(answer.events().last(), Some(&Value::Null), "the stream came to its end");
    stopping.join_all().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
