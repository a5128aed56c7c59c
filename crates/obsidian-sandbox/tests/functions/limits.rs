//! Every limit with its error.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use obsidian_sandbox::functions::{BodyError, FunctionError, FunctionHostOptions};
use obsidian_types::limits::{MAX_FUNCTION_LOG_LINE_BYTES, MAX_FUNCTION_LOG_LINES};
use obsidian_types::{FunctionGrants, FunctionLimits};

use crate::fixture::{
    Feed, Node, answer, block_on, conformance, drained, eventually, get, hostile, node, post, request, short, small,
};

/// The error of a GET that must fail.
fn failure(limits: FunctionLimits, tenant: &str, path: &str) -> FunctionError {
    let module = hostile(tenant, limits);
    block_on(async {
        let error = get(&module, path).await.expect_err("it must fail");
        assert_eq!(answer(&module, "/hello").await.1, "hello\n", "the next request is answered");
        error
    })
}

#[test]
fn processor_time() {
    for (number, attack) in ["loop", "clock-loop", "poll-loop"].into_iter().enumerate() {
        let error = failure(short(), &format!("cpu-{number}"), &format!("/{attack}"));
        assert!(matches!(error, FunctionError::CpuTime { limit_ms: 100, .. }), "{attack}: {error}");
    }
}

#[test]
fn wall_time() {
    let limits = FunctionLimits { wall_ms: 300, ..short() };
    let error = failure(limits, "wall", "/sleep");
    assert!(matches!(error, FunctionError::WallTime { limit_ms: 300, .. }), "{error}");
}

#[test]
fn wall_time_holds_for_the_body_too() {
    let module = hostile("wall-body", FunctionLimits { wall_ms: 300, ..short() });
    block_on(async {
        let (bytes, error) = drained(get(&module, "/hold").await.expect("a head")).await;
        assert_eq!((&*bytes, error), (&b"half"[..], Some(BodyError::Timeout)));
        eventually("the end of the request", || module.statistics().running == 0).await;
    });
}

#[test]
fn fuel() {
    let limits = FunctionLimits { fuel: Some(50_000_000), cpu_ms: 60_000, wall_ms: 60_000, ..short() };
    let error = failure(limits, "fuel", "/loop");
    assert!(matches!(error, FunctionError::Fuel { limit: 50_000_000, .. }), "{error}");
}

#[test]
fn memory() {
    let limits = FunctionLimits { memory_bytes: 8 << 20, ..short() };
    let error = failure(limits.clone(), "memory", "/allocate");
    assert!(matches!(error, FunctionError::Memory { limit_bytes: 8_388_608, .. }), "{error}");
    // A guest that looks at the answer is told, and goes on.
    let module = hostile("memory-asked", limits);
    block_on(async {
        assert_eq!(answer(&module, "/grow?n=1073741824").await.1, "refused\n");
        let (_, text) = answer(&module, "/grow?n=1048576").await;
        assert!(text.ends_with("bytes\n"), "{text}");
        assert!(module.statistics().peak_memory_bytes <= 8 << 20);
    });
}

#[test]
fn a_guest_that_copes_without_more_memory_fails_of_something_else_later() {
    let limits = FunctionLimits { cpu_ms: 60_000, reuse: 2, ..short() };
    let module = hostile("coping", limits);
    block_on(async {
        let failed = async |path: &str| get(&module, path).await.expect_err("it traps");
        let at_once = failed("/cope?n=0").await;
        assert!(matches!(at_once, FunctionError::Memory { .. }), "{at_once}");
        // A billion rounds are far more than the turns that count as coping.
        let later = failed("/cope?n=1000000000").await;
        assert!(matches!(later, FunctionError::Trap { .. }), "{later}");
        // The next request of the same instance starts anew.
        assert_eq!(answer(&module, "/grow?n=1073741824").await.1, "refused\n");
        let next = failed("/unreachable").await;
        assert!(matches!(next, FunctionError::Trap { .. }), "{next}");
    });
}

#[test]
fn memory_without_growth_stays_what_it_was() {
    let module = hostile("no-growth", FunctionLimits { memory_growth: false, ..short() });
    assert_eq!(block_on(answer(&module, "/grow?n=65536")).1, "refused\n");
}

#[test]
fn a_memory_larger_than_the_limit_from_the_start_is_refused() {
    let module = hostile("too-small", FunctionLimits { memory_bytes: 65_536, ..short() });
    let error = block_on(get(&module, "/hello")).expect_err("no room to start");
    assert!(matches!(error, FunctionError::Memory { limit_bytes: 65_536, .. }), "{error}");
}

#[test]
fn request_bodies() {
    let limits = FunctionLimits { request_body_bytes: 1_000, ..FunctionLimits::default() };
    let module = conformance("request-body", FunctionGrants { limits, ..FunctionGrants::default() });
    block_on(async {
        assert!(post(&module, "/digest", vec![b'x'; 1_000]).await.is_ok());
        // Known from the head.
        let mut declared = request("POST", "/digest", obsidian_sandbox::functions::full(vec![b'x'; 1_001]));
        declared.headers_mut().insert(CONTENT_LENGTH, 1_001.into());
        let error = module.call(declared).await.expect_err("too long");
        assert!(matches!(error, FunctionError::RequestTooLong { limit: 1_000, .. }), "{error}");
        // Found out on the way.
        let (mut feed, body) = Feed::new();
        let (response, ()) = tokio::join!(module.call(request("POST", "/digest", body)), async {
            feed.data(vec![b'x'; 900]).await;
            feed.data(vec![b'x'; 900]).await;
            drop(feed);
        });
        let error = response.expect_err("too long");
        assert!(matches!(error, FunctionError::RequestTooLong { limit: 1_000, .. }), "{error}");
    });
}

#[test]
fn response_bodies() {
    let module = hostile("response-body", FunctionLimits { response_body_bytes: 100_000, ..short() });
    block_on(async {
        let (bytes, error) = drained(get(&module, "/too-long?n=1048576").await.expect("a head")).await;
        assert!(bytes.len() <= 100_000, "{} bytes", bytes.len());
        assert_eq!(error, Some(BodyError::TooLong { limit: 100_000 }));
        eventually("the end of the request", || module.statistics().running == 0).await;
    });
}

#[test]
fn requests_at_once_and_the_queue() {
    let limits = FunctionLimits { concurrency: 2, queue: 1, ..FunctionLimits::default() };
    let module = conformance("queue", FunctionGrants { limits, ..FunctionGrants::default() });
    block_on(async {
        let first = get(&module, "/forever").await.expect("an answer");
        let _second = get(&module, "/forever").await.expect("an answer");
        let waiting = get(&module, "/hello");
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "it waits");
        assert_eq!(module.statistics().waiting, 1);
        let error = get(&module, "/hello").await.expect_err("the queue is full");
        assert!(matches!(error, FunctionError::Busy { running: 2, waiting: 1, .. }), "{error}");
        drop(first);
        assert!(waiting.await.is_ok(), "a place became free");
    });
}

#[test]
fn instances_on_the_node() {
    let node = Node::new(&FunctionHostOptions { instances: 2, ..small() });
    let artifact = obsidian_guests::functions_conformance().expect("the embedded bytes are the pinned ones");
    let module = node.load(&artifact, "full", FunctionGrants::default());
    block_on(async {
        let first = get(&module, "/forever").await.expect("an answer");
        let _second = get(&module, "/forever").await.expect("an answer");
        let error = get(&module, "/hello").await.expect_err("no room");
        assert_eq!(error, FunctionError::NodeFull);
        drop(first);
        eventually("room", || module.statistics().running == 1).await;
        assert_eq!(answer(&module, "/hello").await.1, "hello\n");
    });
}

#[test]
fn log_lines_of_one_request() {
    let module = hostile("flood", short());
    block_on(async {
        assert_eq!(answer(&module, "/flood?n=5000").await.1, "flooded\n");
        eventually("the end of the request", || module.statistics().running == 0).await;
        let lines = node().log("flood").len();
        let most = MAX_FUNCTION_LOG_LINES as usize;
        // A last line may say how many were dropped.
        assert!((most..=most + 1).contains(&lines), "{lines} lines");
    });
}

#[test]
fn length_of_one_log_line() {
    let module = hostile("flood-line", short());
    block_on(async {
        assert_eq!(answer(&module, "/flood-line?n=1000000").await.1, "flooded\n");
        assert_eq!(answer(&module, "/flood-print?n=1000000").await.1, "flooded\n");
        eventually("the end of the request", || module.statistics().running == 0).await;
        let lines = node().log("flood-line");
        assert!(!lines.is_empty() && lines.len() <= 2 * MAX_FUNCTION_LOG_LINES as usize, "{} lines", lines.len());
        for line in lines {
            assert!(line.text.len() <= MAX_FUNCTION_LOG_LINE_BYTES, "{} bytes", line.text.len());
            assert!(line.context.len() <= MAX_FUNCTION_LOG_LINE_BYTES, "{} bytes", line.context.len());
            let forged = |text: &str| text.contains(['\n', '\u{1b}']);
            assert!(!forged(&line.text) && !forged(&line.context), "a line that looks like several: {line:?}");
        }
    });
}

#[test]
fn a_drained_module_takes_no_requests_and_says_how_many_were_cut_off() {
    let module = conformance("drain", FunctionGrants::default());
    block_on(async {
        module.warm(3).await.expect("instances");
        assert!(module.statistics().warm >= 3, "{:?}", module.statistics());
        let body = get(&module, "/events?count=3&interval_ms=50").await.expect("an answer");
        let (cut, (bytes, error)) = tokio::join!(module.drain(Duration::from_secs(5)), drained(body));
        assert_eq!((cut, error), (0, None), "what was in flight ended by itself");
        assert!(bytes.ends_with(b"event 2\n\n"));
        let error = get(&module, "/hello").await.expect_err("no new requests");
        assert_eq!(error, FunctionError::Stopping);
        assert_eq!(module.statistics().warm, 0);
    });
}
