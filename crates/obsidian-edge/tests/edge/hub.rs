//! The hub route against the stand-in: windows, decoding alone, and a hub that goes away and comes back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, PATIENCE, chat, get};
use crate::standin::{ANSWER, Manner, Site, WELL};
use crate::support::{Pop, ask, drafter, with};

fn question(speculation: &str) -> Value {
    let more = json!({"obsidian": {"speculation": speculation}, "max_tokens": 64});
    with(ask("hub", "When does my order arrive?"), more)
}

fn check_numbers(answer: &Answer, speculating: bool) {
    let (body, extension) = (answer.json(), answer.extension());
    assert_eq!((&extension["route"], &extension["degraded"]), (&json!("hub"), &json!(false)), "{extension}");
    assert_eq!(body["model"], "stand-in");
    assert!(extension["wan_bytes_up"].as_u64().unwrap() > 100 && extension["wan_bytes_down"].as_u64().unwrap() > 50);
    let details = &body["usage"]["completion_tokens_details"];
    assert_eq!(details["accepted_prediction_tokens"], extension["accepted"]);
    assert_eq!(details["rejected_prediction_tokens"], extension["rejected"]);
    let drafted = extension["accepted"].as_u64().unwrap() + extension["rejected"].as_u64().unwrap();
    assert_eq!(drafted > 0, speculating, "{extension}");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_the_hub_alone_give_the_same_bytes() {
    let drafter = drafter();
    let site = Site::start(&drafter, WELL).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter, link).start().await;
    let address = pop.local_addr();
    // Twice, so that the second time the prompt's beginning is named instead of sent.
    for _ in 0..2 {
        let windows = chat(address, &question("sync")).await;
        assert_eq!(windows.status, 200, "{}", String::from_utf8_lossy(&windows.body));
        assert_eq!(windows.text(), ANSWER);
        assert_eq!(windows.json()["choices"][0]["finish_reason"], "stop");
        check_numbers(&windows, true);
        let alone = chat(address, &question("off")).await;
        assert_eq!(alone.text(), ANSWER);
        assert_eq!(alone.json()["usage"]["completion_tokens"], windows.json()["usage"]["completion_tokens"]);
        check_numbers(&alone, false);
    }
    for speculation in ["sync", "off"] {
        for max_tokens in 1..8 {
            let short = chat(address, &with(question(speculation), json!({"max_tokens": max_tokens}))).await;
            assert_eq!(short.json()["usage"]["completion_tokens"], max_tokens, "{speculation}");
            assert_eq!(short.json()["choices"][0]["finish_reason"], "length");
            assert!(ANSWER.starts_with(&short.text()));
        }
        let stopped = chat(address, &with(question(speculation), json!({"stop": "y, and it"}))).await;
        assert_eq!(stopped.text(), "The order 12 was sent on Monda");
    }
    let names = get(address, "/v1/models").await.json();
    let names: Vec<&str> =
        names["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["auto", "edge", "hub", "obsidian-draft", "stand-in"]);
    assert_eq!(chat(address, &with(question("auto"), json!({"model": "stand-in"}))).await.text(), ANSWER);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn residency_keeps_a_request_at_the_pop() {
    let drafter = drafter();
    let site = Site::start(&drafter, WELL).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter, link).start().await;
    let address = pop.local_addr();
    let kept = json!({"obsidian": {"residency": "edge"}});
    // Extraction is what the hub is for, so nothing but residency keeps this one here.
    let task = ask("auto", "Extract name, date and total as JSON from: invoice of 3 May, 40 EUR, Miller.");
    let answer = chat(address, &with(task, kept.clone())).await;
    assert_eq!(answer.extension()["route"], "edge");
    let refused = chat(address, &with(ask("hub", "hi"), kept)).await;
    assert_eq!(refused.error(), (400, "residency_conflict".to_owned(), json!("obsidian.residency")));
    assert_eq!(site.streams(), 0, "nothing reached the hub");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_lost_in_the_middle_costs_nothing_but_the_degraded_mark() {
    let drafter = drafter();
    let site = Site::start(&drafter, Manner { break_after: 6, ..WELL }).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter, link).start().await;
    let address = pop.local_addr();
    for speculation in ["sync", "off"] {
        let answer = chat(address, &question(speculation)).await;
        assert_eq!(answer.status, 200);
        let extension = answer.extension();
        assert_eq!((&extension["route"], &extension["degraded"]), (&json!("edge"), &json!(true)), "{speculation}");
        assert!(extension["reason"].as_str().unwrap().contains("+hub:"), "{extension}");
        let text = answer.text();
        let common = text.bytes().zip(ANSWER.bytes()).take_while(|(ours, theirs)| ours == theirs).count();
        assert!(common > 5, "the beginning is the hub's: {text}");
        assert!(answer.json()["choices"][0]["finish_reason"].is_string());
        let streamed = chat(address, &with(question(speculation), json!({"stream": true}))).await;
        let events = streamed.events();
        assert_eq!(streamed.headers["x-obsidian-route"], "hub", "what was true when it began");
        assert_eq!(events.last(), Some(&Value::Null));
        assert!(events.iter().all(|event| event.get("error").is_none()), "no error is shown");
        let last = &events[events.len() - 2];
        assert_eq!(last["obsidian"]["degraded"], true, "{last}");
    }
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_down_is_told_and_used_again_when_it_is_back() {
    let drafter = drafter();
    let mut site = Site::start(&drafter, WELL).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter, link.clone()).start().await;
    let address = pop.local_addr();
    assert_eq!(chat(address, &question("sync")).await.text(), ANSWER);
    site.kill().await;
    until(|| !link.state().healthy).await;

    let ready = get(address, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["degraded"]), (200, &json!(true)));
    assert_eq!(ready.json()["parts"]["hub"]["state"], "down");
    let alone = chat(address, &question("sync")).await;
    assert_eq!(alone.status, 200);
    let extension = alone.extension();
    assert_eq!((&extension["route"], &extension["degraded"]), (&json!("edge"), &json!(true)));
    assert!(extension["reason"].as_str().unwrap().ends_with("+hub:unreachable"), "{extension}");

    site.listen().await;
    until(|| link.state().healthy).await;
    let back = chat(address, &question("sync")).await;
    assert_eq!(back.text(), ANSWER);
    check_numbers(&back, true);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn originals_stay_at_the_pop_and_come_back_in_the_answer() {
    let drafter = drafter();
    let site = Site::start(&drafter, Manner { echo: true, ..WELL }).await;
    let link = site.link().await;
    let pop = Pop::new().hub(drafter.clone(), link).start().await;
    let address = pop.local_addr();
    let (mail, card) = ("alice.miller@example.com", "4111 1111 1111 1111");
    let text = format!("Send the invoice for {card} to {mail}, please. Then say bye.");
    let more = json!({"max_tokens": 200, "user": "bob@example.org", "metadata": {"k": "carol@example.net"}});
    for speculation in ["sync", "off"] {
        let body = with(with(ask("hub", &text), more.clone()), json!({"obsidian": {"speculation": speculation}}));
        let answer = chat(address, &body).await;
        assert!(answer.text().contains(&text), "{}", answer.text());
        let streamed = chat(address, &with(body.clone(), json!({"stream": true}))).await;
        let events = streamed.events();
        let pieces = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        assert_eq!(pieces.collect::<String>(), answer.text());
        // A stop string that holds an original is compared with what the client sees.
        let stopped = chat(address, &with(body, json!({"stop": [format!("to {mail}")]}))).await;
        assert!(stopped.text().ends_with(&format!("invoice for {card} ")), "{}", stopped.text());
    }
    let seen = String::from_utf8(drafter.detokenize(&site.prompts()).await.unwrap()).unwrap();
    for original in [mail, card, "bob@example.org", "carol@example.net", "alice", "4111"] {
        assert!(!seen.contains(original), "the hub saw {original}");
    }
    assert!(seen.contains("PII_EMAIL_") && seen.contains("PII_CARD_"), "{seen}");
    pop.shutdown().await;
}

async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("in time");
}
