//! Requests and answers: heads, statuses, headers, trailers, bodies of every size, and the three ways of saying hello.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use obsidian_sandbox::functions::{FunctionError, full};
use obsidian_types::FunctionGrants;

use crate::fixture::{Feed, answer, block_on, conformance, get, node, post, request, text};

#[test]
fn unmodified_components_answer() {
    let guests = [
        (obsidian_guests::functions_hello(), "hello\n"),
        (obsidian_guests::functions_hello_std(), "hello wasi\n"),
        (obsidian_guests::functions_hello_p3(), "hello\n"),
    ];
    for (artifact, expected) in guests {
        let artifact = artifact.expect("the embedded bytes are the pinned ones");
        let module = node().load(&artifact, "hello", FunctionGrants::default());
        block_on(async {
            for _ in 0..3 {
                assert_eq!(answer(&module, "/wasi").await, (StatusCode::OK, expected.to_owned()), "{}", artifact.name);
            }
        });
    }
}

#[test]
fn the_smallest_hello_is_small() {
    let artifact = obsidian_guests::functions_hello().expect("the embedded bytes are the pinned ones");
    assert!(artifact.bytes.len() <= 100_000, "{} bytes", artifact.bytes.len());
}

#[test]
fn the_head_of_a_request_arrives_as_it_was_sent() {
    let module = conformance("head", FunctionGrants::default());
    block_on(async {
        let mut call = request("PATCH", "/headers/deep?a=1&b=%20", full("body"));
        call.headers_mut().append("x-twice", "one".parse().expect("a value"));
        call.headers_mut().append("x-twice", "two".parse().expect("a value"));
        let seen = text(module.call(call).await.expect("an answer")).await;
        for line in [
            "method Method::Patch",
            "authority Some(\"function.example\")",
            "path Some(\"/headers/deep?a=1&b=%20\")",
            "x-twice: one",
            "x-twice: two",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line} is missing in:\n{seen}");
        }
    });
}

#[test]
fn statuses_and_headers_come_back() {
    let module = conformance("statuses", FunctionGrants::default());
    block_on(async {
        for status in [200_u16, 201, 204, 301, 404, 418, 503] {
            let response = get(&module, &format!("/status/{status}")).await.expect("an answer");
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(text(response).await, "");
        }
        let response = get(&module, "/repeated").await.expect("an answer");
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(response.headers()["x-bytes"].as_bytes(), [0xfc, 0xff]);
        assert_eq!(answer(&module, "/nothing-here").await.0, StatusCode::NOT_FOUND);
    });
}

#[test]
fn an_error_code_instead_of_a_response_is_named() {
    let module = conformance("refuse", FunctionGrants::default());
    let error = block_on(get(&module, "/refuse")).expect_err("no response");
    assert!(matches!(&error, FunctionError::Refused { code, .. } if code.contains("onnection")), "{error}");
}

#[test]
fn trailers_go_both_ways() {
    let module = conformance("trailers", FunctionGrants::default());
    block_on(async {
        let collected = get(&module, "/trailers").await.expect("an answer").into_body().collect().await;
        let collected = collected.expect("a whole body");
        let trailers = collected.trailers().expect("trailers").clone();
        assert_eq!((&trailers["x-length"], &trailers["x-checksum"]), (&"5".parse().unwrap(), &"b1".parse().unwrap()));
        assert_eq!(collected.to_bytes(), "body\n");

        let (mut feed, body) = Feed::new();
        let (response, ()) = tokio::join!(module.call(request("POST", "/echo", body)), async {
            feed.data("text").await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sent", "yes".parse().expect("a value"));
            feed.trailers(trailers).await;
            drop(feed);
        });
        let collected = response.expect("an answer").into_body().collect().await.expect("a whole body");
        assert_eq!(collected.trailers().expect("trailers")["x-sent"], "yes");
        assert_eq!(collected.to_bytes(), "text");
    });
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    const LENGTH: usize = 8 << 20;
    let module = conformance("large", FunctionGrants::default());
    block_on(async {
        let sent: Bytes = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        let hash = sent
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let digest = text(post(&module, "/digest", sent.clone()).await.expect("an answer")).await;
        assert_eq!(digest, format!("{LENGTH} {hash:016x}\n"));
        let response = get(&module, &format!("/large?bytes={LENGTH}")).await.expect("an answer");
        let received = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(received == sent, "{} bytes came back", received.len());
        let echoed = post(&module, "/echo", sent.clone()).await.expect("an answer");
        let echoed = echoed.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(echoed == sent, "{} bytes were echoed", echoed.len());
    });
}

#[test]
fn every_request_has_an_instance_of_its_own_unless_reuse_was_asked_for() {
    let mut grants = FunctionGrants::default();
    let fresh = conformance("fresh", grants.clone());
    grants.limits.reuse = 3;
    let reused = conformance("reused", grants);
    block_on(async {
        for _ in 0..4 {
            assert_eq!(answer(&fresh, "/instance").await.1, "1\n");
        }
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(answer(&reused, "/instance").await.1.trim().to_owned());
        }
        assert!(seen.iter().all(|seen| ["1", "2", "3"].contains(&&**seen)), "{seen:?}");
        assert!(seen.contains(&"2".to_owned()), "no instance was used twice: {seen:?}");
    });
}

#[test]
fn what_was_answered_is_counted() {
    let module = conformance("counted", FunctionGrants::default());
    block_on(async {
        for _ in 0..3 {
            answer(&module, "/hello").await;
        }
        get(&module, "/refuse").await.expect_err("no response");
        crate::fixture::eventually("the end of all requests", || module.statistics().running == 0).await;
        let statistics = module.statistics();
        assert_eq!((statistics.answered, statistics.failures), (3, 1), "{statistics:?}");
        assert_eq!(statistics.warm_starts + statistics.cold_starts, 4, "{statistics:?}");
        assert!(statistics.peak_memory_bytes >= 65_536 && statistics.cpu_us > 0, "{statistics:?}");
    });
}
