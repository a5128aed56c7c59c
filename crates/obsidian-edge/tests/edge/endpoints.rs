//! Completions, responses and several choices on a whole POP.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Answer, Call, chat};
use crate::standin::{ANSWER, Site, WELL};
use crate::support::{Pop, ask, drafter, with};

async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let head = format!("POST {path} HTTP/1.0\r\ncontent-type: application/json");
    Call::send(address, &head, body.to_string().as_bytes()).await.answer().await
}

/// The text of each choice of a streamed chat.
fn streamed(answer: &Answer, choices: usize) -> Vec<String> {
    let mut texts = vec![String::new(); choices];
    for event in answer.events() {
        for choice in event["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap() as usize;
            texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_are_independent_and_the_prompt_is_counted_once() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let body = with(
        ask("edge", "Write to bob@example.com, or to eve@example.com."),
        json!({"temperature": 1.3, "seed": 9, "n": 4}),
    );
    let whole = chat(address, &body).await.json();
    let texts: Vec<&str> = whole["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 4);
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
    let one = chat(address, &with(body.clone(), json!({"n": 1}))).await.json();
    assert_eq!(one["choices"][0]["message"]["content"], texts[0]);
    assert_eq!(one["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    assert!(whole["usage"]["completion_tokens"].as_u64() > one["usage"]["completion_tokens"].as_u64());
    let stream = chat(address, &with(body, json!({"stream": true}))).await;
    assert_eq!(streamed(&stream, 4), texts);
    let told = stream.events().iter().filter(|event| event.get("obsidian").is_some()).count();
    assert_eq!(told, 1, "the last chunk alone tells of the whole");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_run_at_the_hub_too() {
    let drafter = drafter();
    let site = Site::start(&drafter, WELL).await;
    let pop = Pop::new().hub(drafter, site.link().await).start().await;
    let body = with(ask("hub", "Where is my order?"), json!({"n": 3, "max_tokens": 64}));
    let answer = chat(pop.local_addr(), &body).await.json();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], ANSWER);
    }
    assert_eq!((answer["choices"].as_array().unwrap().len(), site.streams()), (3, 3));
    assert_eq!(answer["obsidian"]["route"], "hub");
    let logprobs = chat(pop.local_addr(), &with(ask("hub", "hi"), json!({"logprobs": true}))).await;
    assert_eq!(logprobs.error(), (400, "unsupported_parameter".to_owned(), json!("logprobs")));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_come_whole_and_streamed() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let body = with(ask("edge", "Hello! Who are you?"), json!({"logprobs": true, "top_logprobs": 3}));
    let whole = chat(address, &body).await.json();
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens.len() as u64, whole["usage"]["completion_tokens"].as_u64().unwrap());
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    for token in &tokens {
        // Greedy: the likeliest was taken.
        assert_eq!(token["top_logprobs"][0]["token"], token["token"]);
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
    }
    let events = chat(address, &with(body, json!({"stream": true}))).await.events();
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(streamed, tokens);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_text_goes_on_without_a_template() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let body = json!({"model": "edge", "prompt": "Obsidian is", "max_tokens": 8, "temperature": 0});
    let one = post(address, "/v1/completions", &body).await;
    let text = one.json()["choices"][0]["text"].as_str().unwrap().to_owned();
    let tokens = drafter().tokenize("Obsidian is").await.unwrap().len();
    assert_eq!(one.json()["usage"]["prompt_tokens"], tokens, "the text alone is the prompt");
    assert!(!text.is_empty());

    let several =
        with(body.clone(), json!({"prompt": ["Obsidian is", "Write to jo@example.com"], "n": 2, "echo": true}));
    let several = post(address, "/v1/completions", &several).await.json();
    let texts: Vec<&str> =
        several["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts[0], format!("Obsidian is{text}"));
    assert!(texts.len() == 4 && texts[2].starts_with("Write to jo@example.com"), "{texts:?}");

    let stream = post(address, "/v1/completions", &with(body, json!({"stream": true}))).await;
    let pieces: String =
        stream.events().iter().filter_map(|event| event["choices"][0]["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(pieces, text);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_what_chat_says() {
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let said = chat(address, &ask("edge", "Hello! Who are you?")).await.text();
    let body = json!({"model": "edge", "input": "Hello! Who are you?", "temperature": 0, "max_output_tokens": 24});
    let whole = post(address, "/v1/responses", &body).await;
    assert_eq!(whole.headers["x-obsidian-route"], "edge");
    let whole = whole.json();
    assert_eq!(whole["output"][0]["content"][0]["text"], said);
    let stream = post(address, "/v1/responses", &with(body, json!({"stream": true}))).await;
    let text = String::from_utf8(stream.body).unwrap();
    assert!(text.starts_with("event: response.created\ndata: {") && !text.contains("[DONE]"), "{text}");
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let data: Value = serde_json::from_str(last.split_once("\ndata: ").unwrap().1).unwrap();
    assert_eq!(data["response"]["output"][0]["content"], whole["output"][0]["content"]);
    let refused = post(address, "/v1/responses", &json!({"model": "edge", "input": "x", "background": true})).await;
    assert_eq!(refused.error(), (400, "unsupported_parameter".to_owned(), json!("background")));
    pop.shutdown().await;
}
