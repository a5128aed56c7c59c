//! Guests exchanged while requests run: nothing is cut off, nothing changes that should not, and what is not the
//! guest it claims to be does not get in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obsidian_edge::{EdgeHandle, GuestKind, GuestReport, SwapError};
use obsidian_guests as guests;
use obsidian_registry::{Artifact, Verified};
use obsidian_sandbox::{EngineKind, SandboxError};
use obsidian_types::limits::MAX_GUEST_FAULTS;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::http::{Call, chat, get};
use crate::signing::{release, signed};
use crate::standin::{ANSWER, Manner, Site, WELL};
use crate::support::{Pop, ask, drafter, engines, hostile_drafter, with};

const CLIENTS: usize = 6;

fn embedded(kind: GuestKind) -> Verified<Artifact> {
    match kind {
        GuestKind::Shield => guests::shield(),
        GuestKind::Router => guests::router(),
        GuestKind::Drafter => guests::drafter(),
    }
    .unwrap()
}

fn report(pop: &EdgeHandle, kind: GuestKind) -> GuestReport {
    pop.guests().into_iter().find(|report| report.kind == kind).unwrap()
}

/// A streamed question with something to mask, answered the same every time.
fn question(number: usize) -> Value {
    let text = format!("Write a short reply to alice.miller{number}@example.com about order {number}.");
    let more = json!({"stream": true, "temperature": 0.8, "seed": 40 + number, "max_tokens": 20});
    with(ask("edge", &text), more)
}

/// The whole text of a streamed answer, which must have come to its end.
async fn streamed(address: SocketAddr, body: &Value) -> String {
    let answer = chat(address, body).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let events = answer.events();
    assert_eq!(events.last(), Some(&Value::Null), "the stream did not come to its end");
    let extension = &events[events.len() - 2]["obsidian"];
    assert_eq!(extension["degraded"], false, "{extension}");
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

/// Waits until old versions are gone with their last streams.
async fn drained(pop: &EdgeHandle, kind: GuestKind) {
    let gone = async {
        while report(pop, kind).draining > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::http::PATIENCE, gone).await.expect("an old version goes with its last stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_guest_is_exchanged_under_streams_and_back_and_no_byte_changes() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let mut expected = Vec::new();
    for number in 0..CLIENTS {
        expected.push(streamed(address, &question(number)).await);
    }
    assert!(expected.iter().all(|text| !text.is_empty()));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for (number, text) in expected.into_iter().enumerate() {
        let (stop, answered) = (stop.clone(), answered.clone());
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(streamed(address, &question(number)).await, text);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for kind in GuestKind::ALL {
        // The first of each is compiled, the others are at hand.
        for version in ["2.0.0", "2.0.0", "3.0.0", "3.0.0"] {
            let before = answered.load(Ordering::Relaxed);
            let next = release(&embedded(kind), version);
            let swapped = pop.swap_guest(kind, next.clone()).await.unwrap();
            let now = report(&pop, kind);
            assert_eq!((now.current.version.as_str(), now.current.generation), (version, swapped.generation));
            assert_eq!(now.current.digest, next.digest().to_string());
            while answered.load(Ordering::Relaxed) < before + CLIENTS {
                if let Some(ended) = clients.try_join_next() {
                    ended.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            eprintln!("{} {version}: {swapped:?}", kind.as_str());
        }
        let (now, begun) = (report(&pop, kind), Instant::now());
        pop.rollback_guest(kind).await.unwrap();
        eprintln!("{} rolled back in {:?}", kind.as_str(), begun.elapsed());
        let back = report(&pop, kind);
        assert_eq!((back.current.generation, back.previous.unwrap().generation), (4, now.current.generation));
    }
    stop.store(true, Ordering::Relaxed);
    clients.join_all().await;
    eprintln!("{} streams, none failed", answered.load(Ordering::Relaxed));
    for kind in GuestKind::ALL {
        assert_eq!(report(&pop, kind).current.faults, 0);
        drained(&pop, kind).await;
    }
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    assert!(metrics.contains("obsidian_guest_swaps_total{guest=\"shield\",outcome=\"switched\"} 4"), "{metrics}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_is_not_what_it_claims_changes_nothing() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let before = pop.guests();
    let text = streamed(address, &question(0)).await;
    let hostile_shield = signed("shield", "9.0.0", &guests::hostile_shield().unwrap().bytes);
    let hostile_drafter = signed("drafter", "9.0.0", &guests::hostile_drafter().unwrap().bytes);
    let shield_as_router = signed("router", "9.0.0", &guests::shield().unwrap().bytes);
    let junk = signed("shield", "9.0.0", b"\0asm\x0d\0\x01\0 and then nothing that is a component");
    let refusals = [
        // It masks nothing.
        (GuestKind::Shield, hostile_shield, "masks what the shield linked natively masks"),
        // It claims that any file is its model.
        (GuestKind::Drafter, hostile_drafter, "describes its model as its predecessor does"),
        (GuestKind::Router, shield_as_router, "cannot run here"),
        (GuestKind::Shield, junk, "cannot run here"),
        (GuestKind::Router, guests::shield().unwrap(), "sign one under the name router"),
    ];
    for (kind, candidate, reason) in refusals {
        let refused = pop.swap_guest(kind, candidate).await.unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
    }
    assert_eq!(pop.guests(), before);
    let nothing = pop.rollback_guest(GuestKind::Shield).await.unwrap_err();
    assert_eq!(nothing.to_string(), "there is no version of the shield to go back to");
    assert_eq!(streamed(address, &question(0)).await, text);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_swap_of_a_guest_at_a_time() {
    let pop = Pop::new().start().await;
    let next = || release(&embedded(GuestKind::Router), "2.0.0");
    let both = tokio::join!(pop.swap_guest(GuestKind::Router, next()), pop.swap_guest(GuestKind::Router, next()));
    assert!(both.0.is_ok() && matches!(both.1, Err(SwapError::Busy("router"))), "{both:?}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_on_the_version_it_began_with() {
    let drafter = drafter();
    let site = Site::start(&drafter, Manner { pause: Duration::from_millis(150), ..WELL }).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter, link).start().await;
    // Compiled before the stream begins, which waits for no compiler.
    let next = ["2.0.0", "3.0.0"].map(|version| release(&embedded(GuestKind::Drafter), version));
    engines().prepare(&next.each_ref().map(|next| (EngineKind::Model, next))).unwrap();
    let asked = with(ask("hub", "When does my order arrive?"), json!({"stream": true, "max_tokens": 64}));
    let mut stream = Call::chat(pop.local_addr(), &asked).await;
    stream.until("\"content\":\"T").await;
    for next in next {
        pop.swap_guest(GuestKind::Drafter, next).await.unwrap();
    }
    // Neither the current version nor the one before: only the stream holds it.
    assert_eq!(report(&pop, GuestKind::Drafter).draining, 1);
    let events = stream.answer().await.events();
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let extension = &events[events.len() - 2]["obsidian"];
    assert_eq!((text.as_str(), &extension["degraded"]), (ANSWER, &json!(false)), "{extension}");
    drained(&pop, GuestKind::Drafter).await;
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_faults_again_and_again_is_taken_back() {
    let pop = Pop::new().drafter(hostile_drafter()).start().await;
    let address = pop.local_addr();
    // It answers its first calls like the one that runs, and falls over when it is told to.
    let candidate = signed("drafter", "2.0.0", &guests::hostile_drafter().unwrap().bytes);
    let swapped = pop.swap_guest(GuestKind::Drafter, candidate.clone()).await.unwrap();
    assert_eq!(report(&pop, GuestKind::Drafter).current.generation, swapped.generation);
    let killer = ask("edge", "trap");
    let mut killed = 0;
    while report(&pop, GuestKind::Drafter).current.generation == swapped.generation {
        assert_eq!(chat(address, &killer).await.error().1, "model_unavailable");
        killed += 1;
        assert!(killed <= MAX_GUEST_FAULTS, "it is still there");
    }
    assert!(killed > 1, "one bad request is not enough");
    let back = report(&pop, GuestKind::Drafter);
    assert_eq!((back.current.generation, back.previous), (1, None));
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    assert!(metrics.contains("obsidian_guest_rollbacks_total{guest=\"drafter\",by=\"faults\"} 1"), "{metrics}");
    // Nothing to go back to: the one that was there before stays, whatever is done to it.
    for _ in 0..MAX_GUEST_FAULTS {
        chat(address, &killer).await;
    }
    assert_eq!(report(&pop, GuestKind::Drafter).current.generation, 1);
    assert_eq!(chat(address, &with(ask("edge", "hi"), json!({"max_tokens": 1}))).await.status, 200);
    // One that does not even start is refused as ever.
    let broken = pop.swap_guest(GuestKind::Drafter, signed("drafter", "3.0.0", b"\0asm")).await;
    assert!(matches!(broken, Err(SwapError::Candidate(SandboxError::Artifact { .. }))), "{broken:?}");
    pop.shutdown().await;
}
