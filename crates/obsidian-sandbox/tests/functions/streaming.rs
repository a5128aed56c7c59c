//! Bodies that stream: both ways at once, event by event, held back by a slow reader, cut off by a client that leaves.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use obsidian_sandbox::functions::{FunctionBody, FunctionError};
use obsidian_types::FunctionGrants;

use crate::fixture::{Feed, answer, block_on, conformance, drained, eventually, get, node, request};

async fn next(body: &mut FunctionBody) -> Bytes {
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("a frame in time");
    frame.expect("a frame").expect("no error").into_data().expect("data")
}

#[test]
fn a_body_is_echoed_while_it_is_still_being_sent() {
    let module = conformance("duplex", FunctionGrants::default());
    block_on(async {
        let (mut feed, body) = Feed::new();
        let response = module.call(request("POST", "/echo", body)).await.expect("the head comes before the body ends");
        let mut body = response.into_body();
        for number in 0..50 {
            let piece = format!("piece {number};");
            feed.data(piece.clone()).await;
            assert_eq!(next(&mut body).await, piece, "the echo of one piece comes before the next is sent");
        }
        drop(feed);
        assert!(body.frame().await.is_none());
    });
}

#[test]
fn server_sent_events_arrive_one_by_one() {
    let module = conformance("events", FunctionGrants::default());
    block_on(async {
        let response = get(&module, "/events?count=4&interval_ms=40").await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        let first = next(&mut body).await;
        assert_eq!(first, "id: 0\ndata: event 0\n\n", "the first event does not wait for the last");
        let mut rest = String::new();
        while let Some(frame) = body.frame().await {
            rest.push_str(std::str::from_utf8(&frame.expect("no error").into_data().expect("data")).expect("UTF-8"));
        }
        assert!(rest.ends_with("id: 3\ndata: event 3\n\n"), "{rest}");
    });
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_back() {
    const LENGTH: usize = 32 << 20;
    let module = conformance("pressure", FunctionGrants::default());
    block_on(async {
        let response = get(&module, &format!("/until-blocked?bytes={LENGTH}")).await.expect("an answer");
        let line = node().logged("pressure", "held back after").await;
        let sent = line.text.split(' ').nth(3).and_then(|word| word.parse::<usize>().ok()).expect("a number");
        // One instance may not make the node hold megabytes for a client that does not read.
        assert!((1..=2 << 20).contains(&sent), "{}", line.text);
        let (bytes, error) = drained(response).await;
        assert_eq!((bytes.len(), error), (LENGTH, None), "once read, all of it comes");
    });
}

#[test]
fn a_client_that_leaves_ends_the_work() {
    let module = conformance("leaves", FunctionGrants::default());
    block_on(async {
        let response = get(&module, "/forever").await.expect("an answer");
        let mut body = response.into_body();
        next(&mut body).await;
        assert_eq!(module.statistics().running, 1);
        drop(body);
        eventually("the end of the request", || module.statistics().running == 0).await;
        // And before the head: the call itself is dropped.
        let (_feed, unread) = Feed::new();
        let call = module.call(request("POST", "/digest", unread));
        assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err(), "it waits for the body");
        eventually("the end of the call", || module.statistics().running == 0).await;
        assert_eq!(answer(&module, "/hello").await.1, "hello\n");
    });
}

#[test]
fn a_request_body_that_breaks_off_is_an_error_for_the_guest() {
    let module = conformance("broken", FunctionGrants::default());
    block_on(async {
        let (mut feed, body) = Feed::new();
        let (response, ()) = tokio::join!(module.call(request("POST", "/digest", body)), async {
            feed.data("some").await;
            feed.break_off().await;
        });
        let error = response.expect_err("the guest gives up without an answer");
        assert!(matches!(error, FunctionError::NoAnswer { .. }), "{error}");
        node().logged("broken", "").await;
    });
}

#[test]
fn a_slow_request_body_costs_no_processor_time() {
    let module = conformance("slow", FunctionGrants::default());
    block_on(async {
        let (mut feed, body) = Feed::new();
        let (response, ()) = tokio::join!(module.call(request("POST", "/digest", body)), async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                feed.data("piece").await;
            }
            drop(feed);
        });
        let (bytes, error) = drained(response.expect("an answer")).await;
        assert!(bytes.starts_with(b"50 ") && error.is_none());
        eventually("the end of the request", || module.statistics().running == 0).await;
        assert!(module.statistics().cpu_us < 400_000, "{:?}", module.statistics());
    });
}
