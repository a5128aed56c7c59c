//! Answers of the edge route, whole and streamed.

use serde_json::{Value, json};

use crate::http::{Answer, Call, chat, get};
use crate::support::{Pop, ask, with};

/// The text of a stream, after checking its form.
fn streamed_text(answer: &Answer, include_usage: bool) -> String {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    let events = answer.events();
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(events.last(), Some(&Value::Null));
    let chunks = &events[..events.len() - 1];
    let chunks = if include_usage {
        let usage = &chunks[chunks.len() - 1];
        assert_eq!(usage["choices"], json!([]));
        assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 0);
        &chunks[..chunks.len() - 1]
    } else {
        chunks
    };
    let last = &chunks[chunks.len() - 1];
    assert!(last["choices"][0]["finish_reason"].is_string(), "{last}");
    assert_eq!(last["obsidian"]["route"], answer.headers["x-obsidian-route"].as_str());
    for chunk in chunks {
        assert_eq!((&chunk["id"], &chunk["created"]), (&events[0]["id"], &events[0]["created"]));
        assert_eq!(chunk.get("usage").is_some(), include_usage);
    }
    let pieces = chunks[1..].iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    pieces.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_at_the_edge_and_the_stream_says_the_same() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let body = ask("edge", "Hello! Who are you?");
    let whole = chat(address, &body).await;
    assert_eq!(whole.status, 200, "{}", String::from_utf8_lossy(&whole.body));
    assert_eq!(whole.headers["x-obsidian-route"], "edge");
    assert!(!whole.headers["x-obsidian-reason"].is_empty());
    let answer = whole.json();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("obsidian-draft")));
    let usage = &answer["usage"];
    let (prompt, completion) = (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap());
    assert!(prompt > 5 && (1..=24).contains(&completion), "{usage}");
    assert_eq!(usage["total_tokens"], prompt + completion);
    let extension = whole.extension();
    assert_eq!((&extension["route"], &extension["degraded"]), (&json!("edge"), &json!(false)));
    assert_eq!((&extension["wan_bytes_up"], &extension["accepted"]), (&json!(0), &json!(0)));
    assert!(
        extension["stages_us"]["total"].as_u64().unwrap() >= extension["stages_us"]["first_token"].as_u64().unwrap()
    );

    let stream = with(body.clone(), json!({"stream": true}));
    assert_eq!(streamed_text(&chat(address, &stream).await, false), whole.text());
    let counted = with(stream, json!({"stream_options": {"include_usage": true}}));
    assert_eq!(streamed_text(&chat(address, &counted).await, true), whole.text());
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_repeats_an_answer_and_another_seed_does_not() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let seeded = |seed: i64| with(ask("edge", "Write a short greeting."), json!({"temperature": 1.5, "seed": seed}));
    let first = chat(address, &seeded(1)).await.text();
    assert_eq!(chat(address, &seeded(1)).await.text(), first);
    assert_ne!(chat(address, &seeded(2)).await.text(), first);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_stop_strings_end_an_answer() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let body = ask("edge", "Hello! Who are you?");
    let text = chat(address, &body).await.text();
    assert!(text.len() > 4, "the model says something: {text:?}");

    let short = chat(address, &with(body.clone(), json!({"max_tokens": 1}))).await.json();
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    assert_eq!(short["usage"]["completion_tokens"], 1);

    // From the middle of the answer, over a token's boundary more often than not.
    let middle: usize = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
    let mark: String = text[middle..].chars().take(3).collect();
    let stopped = with(body, json!({"stop": ["no such text", mark]}));
    let whole = chat(address, &stopped).await;
    assert_eq!(whole.text(), text[..text.find(&mark).unwrap()]);
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "stop");
    let stream = chat(address, &with(stopped, json!({"stream": true}))).await;
    assert_eq!(streamed_text(&stream, false), whole.text());
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_found() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let list = get(address, "/v1/models").await.json();
    let names: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["auto", "edge", "obsidian-draft"]);
    assert_eq!(get(address, "/v1/models/obsidian-draft").await.json()["object"], "model");
    assert_eq!(get(address, "/v1/models/gpt-5").await.error(), (404, "model_not_found".to_owned(), Value::Null));
    assert_eq!(chat(address, &ask("obsidian-draft", "hi")).await.extension()["route"], "edge");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_do_not_touch_each_other() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let questions: Vec<Value> =
        ["Hello!", "What can you do?", "List three colours.", "Say goodbye."].map(|text| ask("edge", text)).to_vec();
    let mut alone = Vec::new();
    for question in &questions {
        alone.push(chat(address, question).await.text());
    }
    let mut calls = Vec::new();
    for question in &questions {
        calls.push(Call::chat(address, question).await);
    }
    for (call, expected) in calls.into_iter().zip(alone) {
        assert_eq!(call.answer().await.text(), expected);
    }
    pop.shutdown().await;
}
