//! Guests that go wrong: the request is served or refused, and never goes on unmasked.

use std::time::Duration;

use obsidian_guests as guests;
use serde_json::json;

use crate::http::{Call, chat, get};
use crate::standin::{ANSWER, Manner, Site, WELL};
use crate::support::{Pop, ask, hostile_drafter, with};

/// A request that makes the hostile shield do `command`, with something to mask beside it.
fn provoke(command: &str) -> serde_json::Value {
    let messages = json!([
        { "role": "system", "content": command },
        { "role": "user", "content": "Repeat this: alice.miller@example.com" },
    ]);
    with(ask("edge", ""), json!({ "messages": messages, "max_tokens": 4 }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_shield_is_replaced_by_the_native_one() {
    let pop = Pop::new().shield(guests::hostile_shield().unwrap()).start().await;
    let address = pop.local_addr();
    // A trap, a loop that meets its deadline, lost and forged fields, and one that masks nothing at all.
    for command in ["trap", "loop", "few", "forged", "huge", "identity"] {
        let answer = chat(address, &provoke(command)).await;
        assert_eq!(answer.status, 200, "{command}: {}", String::from_utf8_lossy(&answer.body));
        let extension = answer.extension();
        assert_eq!(extension["degraded"], true, "{command}");
        assert!(extension["reason"].as_str().unwrap().ends_with("+shield:native"), "{extension}");
    }
    let ready = get(address, "/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["parts"]["shield"]["state"], "native");
    assert_eq!(ready.json()["degraded"], true);
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    for kind in ["trap", "deadline", "contract", "invalid"] {
        let counted = format!("obsidian_shield_faults_total{{kind=\"{kind}\",step=\"mask\"}}");
        assert!(metrics.contains(&counted), "{kind} is not counted:\n{metrics}");
    }
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dying_drafter_costs_its_own_request_and_no_other() {
    let drafter = hostile_drafter();
    let pause = Duration::from_millis(200);
    let site = Site::start(&drafter, Manner { pause, ..WELL }).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter.clone(), link).start().await;
    let address = pop.local_addr();
    let hub = with(ask("hub", "When?"), json!({"max_tokens": 200, "stream": true}));
    let mut stream = Call::chat(address, &hub).await;
    stream.until("\"content\":\"T").await;
    // Its template traps: tried once more, then given up.
    let killer = chat(address, &ask("edge", "trap")).await;
    assert_eq!((killer.error().0, killer.error().1), (503, "model_unavailable".to_owned()));
    assert!(drafter.restarts() >= 1);
    // The stream has lost its draft session: the hub goes on alone, with the same bytes.
    let events = stream.answer().await.events();
    let pieces = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), ANSWER);
    let last = &events[events.len() - 2]["obsidian"];
    assert_eq!((&last["route"], &last["degraded"]), (&json!("hub"), &json!(true)), "{last}");
    assert!(last["reason"].as_str().unwrap().ends_with("+drafter:session_lost"), "{last}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_model_with_a_short_context_hands_over_to_the_hub() {
    let drafter = hostile_drafter();
    let site = Site::start(&drafter, WELL).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter, link).start().await;
    let address = pop.local_addr();
    // This drafter holds 64 tokens, one a byte: the second prompt does not even fit.
    for question in ["When does it arrive?", &"When does it arrive? ".repeat(8)] {
        let answer = chat(address, &with(ask("hub", question), json!({"max_tokens": 200}))).await;
        assert_eq!(answer.text(), ANSWER);
        let extension = answer.extension();
        assert_eq!((&extension["route"], &extension["degraded"]), (&json!("hub"), &json!(false)), "{extension}");
    }
    let refused = chat(address, &ask("edge", &"When does it arrive? ".repeat(8))).await;
    assert_eq!(refused.error().1, "context_length_exceeded");
    pop.shutdown().await;
}
