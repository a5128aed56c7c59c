//! The exact bodies of answers.

use bytes::Bytes;
use obsidian_types::{FinishReason, StageTimes, Tier, Usage};
use serde_json::{Value, json};

use super::super::super::error::ApiError;
use super::super::super::shape::{Identity, Shape};
use super::super::ChatAnswer;
use super::{parse, with};
use crate::outcome::{Outcome, Part, PromptBytes, Start, TokenLogprob};

pub(crate) fn outcome() -> Outcome {
    Outcome {
        route: Tier::Hub,
        reason: "task:extract".to_owned(),
        degraded: false,
        usage: Usage {
            prompt_tokens: 10,
            completion_tokens: 5,
            accepted_prediction_tokens: 3,
            rejected_prediction_tokens: 1,
        },
        wan_bytes_up: 100,
        wan_bytes_down: 50,
        stages: StageTimes {
            sanitise: 1,
            mask: 2,
            route: 3,
            render: 4,
            run: 7,
            verify: 8,
            restore: 9,
            first_token: 5,
            total: 6,
        },
    }
}

pub(crate) fn start() -> Start {
    Start { route: Tier::Hub, reason: "task:extract".to_owned(), model: "target".to_owned() }
}

fn identity() -> Identity {
    Identity { id: "chatcmpl-1".to_owned(), created: 7, model: "target".to_owned() }
}

pub(crate) fn extension() -> Value {
    json!({
        "route": "hub", "reason": "task:extract", "degraded": false, "accepted": 3, "rejected": 1,
        "wan_bytes_up": 100, "wan_bytes_down": 50,
        "stages_us": {
            "sanitise": 1, "mask": 2, "route": 3, "render": 4, "run": 7, "verify": 8, "restore": 9, "first_token": 5,
            "total": 6,
        },
    })
}

fn usage() -> Value {
    json!({
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "completion_tokens_details": {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 1},
    })
}

pub(crate) fn text(text: &str) -> Part {
    Part::Text { text: text.into(), logprobs: Vec::new() }
}

fn call(index: u32, first: Option<(&str, &str)>, arguments: &str) -> Part {
    let (id, name) = first.map(|(id, name)| (id.to_owned(), name.to_owned())).unzip();
    Part::ToolCall { index, id, name, arguments: arguments.into() }
}

fn answer(more: Value) -> ChatAnswer {
    let mut body = with("user", Value::Null);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let mut answer = ChatAnswer::new(&parse(&body).unwrap());
    answer.begin(identity(), &start());
    answer
}

pub(crate) fn bodies(frames: Vec<Bytes>) -> Vec<Value> {
    let body = |frame: Bytes| {
        let text = String::from_utf8(frame.to_vec()).unwrap();
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
        assert!(text.ends_with("\n\n"));
        if data == "[DONE]" { Value::Null } else { serde_json::from_str(&data).unwrap() }
    };
    frames.into_iter().map(body).collect()
}

#[test]
fn a_whole_answer_has_openai_shape() {
    let mut whole = answer(json!({}));
    assert!(!whole.begin(identity(), &start()).is_empty());
    assert!(whole.part(0, text("h")).is_empty() && whole.part(0, text("i")).is_empty());
    whole.finished(0, FinishReason::Stop);
    assert_eq!(
        whole.whole(&outcome()),
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "target",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": usage(),
            "obsidian": extension(),
        })
    );
}

#[test]
fn a_whole_answer_holds_calls_thoughts_and_several_choices() {
    let mut whole = answer(json!({"n": 2, "logprobs": true}));
    whole.part(1, Part::Reasoning("hm".into()));
    whole.part(1, call(0, Some(("c1", "f")), "{\"a\""));
    whole.part(1, call(1, Some(("c2", "g")), "{}"));
    whole.part(1, call(0, None, ":1}"));
    let token = |text: &str| PromptBytes(text.as_bytes().to_vec());
    let logprobs = vec![TokenLogprob { token: token("a"), logprob: -0.5, top: vec![(token("b"), -0.25)] }];
    whole.part(0, Part::Text { text: "a".into(), logprobs });
    whole.finished(1, FinishReason::ToolCalls);
    whole.finished(0, FinishReason::Length);
    let choices = whole.whole(&outcome())["choices"].clone();
    assert_eq!(
        choices[0]["logprobs"]["content"],
        json!([{
            "token": "a", "logprob": -0.5, "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -0.25, "bytes": [98]}],
        }])
    );
    assert_eq!(choices[0]["finish_reason"], "length");
    assert_eq!(choices[1]["finish_reason"], "tool_calls");
    assert_eq!(
        choices[1]["message"],
        json!({
            "role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        })
    );
}

#[test]
fn a_stream_has_openai_shape() {
    let mut stream = answer(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let envelope = |choices: Value, usage: Value| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "target",
            "choices": choices, "usage": usage,
        })
    };
    let choice =
        |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let delta = |delta: Value| [envelope(choice(delta, Value::Null), Value::Null)];
    assert_eq!(bodies(stream.begin(identity(), &start())), delta(json!({"role": "assistant", "content": ""})));
    assert_eq!(bodies(stream.part(0, text("hi"))), delta(json!({"content": "hi"})));
    assert_eq!(bodies(stream.part(0, Part::Reasoning("hm".into()))), delta(json!({"reasoning_content": "hm"})));
    assert_eq!(
        bodies(stream.part(0, call(0, Some(("c1", "f")), ""))),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]})
        )
    );
    assert_eq!(
        bodies(stream.part(0, call(0, None, "{}"))),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}))
    );
    assert!(stream.finished(0, FinishReason::Stop).is_empty());
    let mut last = envelope(choice(json!({}), json!("stop")), Value::Null);
    last["obsidian"] = extension();
    assert_eq!(bodies(stream.end(&outcome())), [last, envelope(json!([]), usage()), Value::Null]);

    let mut plain = answer(json!({"stream": true}));
    assert!(bodies(plain.begin(identity(), &start()))[0].get("usage").is_none());
    plain.finished(0, FinishReason::Stop);
    assert_eq!(plain.end(&outcome()).len(), 2);
}

#[test]
fn each_of_several_choices_ends_and_the_last_tells_of_the_whole() {
    let mut stream = answer(json!({"stream": true, "n": 2}));
    assert_eq!(stream.begin(identity(), &start()).len(), 2);
    let ended = bodies(stream.finished(1, FinishReason::Length));
    assert_eq!((&ended[0]["choices"][0]["index"], ended[0].get("obsidian")), (&json!(1), None));
    assert_eq!(ended[0]["choices"][0]["finish_reason"], "length");
    assert!(stream.finished(0, FinishReason::Stop).is_empty());
    let last = bodies(stream.end(&outcome()));
    assert_eq!((&last[0]["choices"][0]["index"], &last[0]["obsidian"]), (&json!(0), &extension()));
}

#[test]
fn an_event_is_one_line_whatever_the_text() {
    let mut stream = answer(json!({"stream": true}));
    let words = "a\nb\r\n\ndata: [DONE]\n\n\u{2028}é";
    let frame = stream.part(0, text(words)).remove(0);
    let frame = std::str::from_utf8(&frame).unwrap();
    let line = frame.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    assert!(!line.contains(['\n', '\r']));
    let body: Value = serde_json::from_str(line).unwrap();
    assert_eq!(body["choices"][0]["delta"]["content"], words);
    let fault = bodies(stream.failed(&ApiError::internal("internal_error", "broken")));
    assert_eq!(fault[0]["error"]["code"], "internal_error");
}
