//! Requests with their errors, and the exact bodies of answers.

use obsidian_types::{FinishReason, Input};
use serde_json::{Value, json};

use super::super::chat::tests::answers::{bodies, extension, outcome, start, text};
use super::super::shape::{Identity, Shape};
use super::{TextAnswer, parse};

fn read(body: &Value) -> Result<(super::Parsed, bool), super::ApiError> {
    parse(body.to_string().as_bytes())
}

fn with(more: Value) -> Value {
    let mut body = json!({"model": "auto", "prompt": "once"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn answer(more: Value) -> TextAnswer {
    let (parsed, echo) = read(&with(more)).unwrap();
    TextAnswer::new(&parsed, echo)
}

fn identity() -> Identity {
    Identity { id: "cmpl-1".to_owned(), created: 7, model: "target".to_owned() }
}

#[test]
fn prompts_are_texts() {
    let (parsed, echo) = read(&with(json!({"n": 2, "prompt": ["a", "b"], "best_of": 1}))).unwrap();
    assert_eq!(parsed.inputs, [Input::Raw("a".into()), Input::Raw("b".into())]);
    assert_eq!((parsed.choices, parsed.max_tokens, echo), (2, Some(16), false));
    let table = [
        (json!({"prompt": null}), "prompt", "missing_required_parameter"),
        (json!({"prompt": []}), "prompt", "empty_array"),
        (json!({"prompt": ""}), "prompt", "empty_string"),
        (json!({"prompt": ["a", ""]}), "prompt[1]", "empty_string"),
        (json!({"prompt": [1, 2]}), "prompt[0]", "unsupported_parameter"),
        (json!({"prompt": [[1]]}), "prompt[0]", "unsupported_parameter"),
        (json!({"prompt": 7}), "prompt", "invalid_type"),
        (json!({"prompt": vec!["x"; 9]}), "prompt", "array_above_max_length"),
        (json!({"prompt": ["a", "b"], "n": 5}), "n", "integer_above_max_value"),
        (json!({"messages": []}), "messages", "unknown_parameter"),
    ];
    for (more, param, code) in table {
        let error = read(&with(more.clone())).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{more}");
    }
}

#[test]
fn whole_and_streamed_answers_have_one_shape() {
    let mut whole = answer(json!({"echo": true, "prompt": ["a", "b"]}));
    whole.begin(identity(), &start());
    whole.part(1, text("two"));
    whole.part(0, text("one"));
    whole.finished(0, FinishReason::Stop);
    whole.finished(1, FinishReason::Length);
    let body = whole.whole(&outcome());
    assert_eq!(
        (&body["object"], &body["model"], &body["id"]),
        (&json!("text_completion"), &json!("target"), &json!("cmpl-1"))
    );
    assert_eq!(
        body["choices"],
        json!([
            {"index": 0, "text": "aone", "logprobs": null, "finish_reason": "stop"},
            {"index": 1, "text": "btwo", "logprobs": null, "finish_reason": "length"},
        ])
    );
    assert_eq!((&body["usage"]["total_tokens"], &body["obsidian"]), (&json!(15), &extension()));

    let mut stream = answer(json!({"echo": true, "stream": true, "stream_options": {"include_usage": true}}));
    let chunk = |text: &str, finish: Value| {
        json!({
            "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "target", "usage": null,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}],
        })
    };
    assert_eq!(bodies(stream.begin(identity(), &start())), [chunk("once", Value::Null)]);
    assert_eq!(bodies(stream.part(0, text("x"))), [chunk("x", Value::Null)]);
    assert!(stream.finished(0, FinishReason::Stop).is_empty());
    let mut last = chunk("", json!("stop"));
    last["obsidian"] = extension();
    let end = bodies(stream.end(&outcome()));
    assert_eq!((&end[0], &end[1]["usage"]["total_tokens"], &end[2]), (&last, &json!(15), &Value::Null));
}
