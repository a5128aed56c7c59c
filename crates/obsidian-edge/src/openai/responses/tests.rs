//! Requests with their errors, and the events of answers.

use obsidian_types::{FinishReason, Role, ToolChoice};
use serde_json::{Value, json};

use super::super::chat::tests::answers::{bodies, outcome, start, text};
use super::super::error::ApiError;
use super::super::request::Delivery;
use super::super::shape::{Identity, Shape};
use super::{Parsed, ResponseAnswer, parse};
use crate::outcome::Part;

fn with(more: Value) -> Value {
    let mut body = json!({"model": "auto", "input": "hi"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn read(more: Value) -> Result<Parsed, ApiError> {
    parse(with(more).to_string().as_bytes()).map(|(parsed, _)| parsed)
}

fn answer(more: Value) -> ResponseAnswer {
    let (parsed, echo) = parse(with(more).to_string().as_bytes()).unwrap();
    ResponseAnswer::new(&parsed, echo)
}

fn identity() -> Identity {
    Identity { id: "resp_1".to_owned(), created: 7, model: "target".to_owned() }
}

#[test]
fn items_become_messages() {
    let parsed = read(json!({
        "instructions": "be brief", "max_output_tokens": 9, "stream": true, "temperature": 0.5,
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": false}],
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": true, "store": false,
        "text": {"format": {"type": "text"}}, "user": "u",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": null,
             "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c2", "output": "42"},
        ],
    }))
    .unwrap();
    let messages = parsed.inputs[0].messages();
    let shown: Vec<(Role, &str, usize)> =
        messages.iter().map(|message| (message.role, message.content.expose(), message.tool_calls.len())).collect();
    assert_eq!(
        shown,
        [(Role::System, "be brief", 0), (Role::User, "a\nb", 0), (Role::Assistant, "c", 2), (Role::Tool, "42", 0)]
    );
    assert_eq!(messages[3].tool_call_id.as_ref().unwrap().expose(), "c2");
    assert_eq!(parsed.delivery, Delivery::Stream { include_usage: true });
    assert_eq!((parsed.max_tokens, parsed.tool_choice), (Some(9), ToolChoice::Function("f".into())));
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let item = |item: Value| json!({"input": [item]});
    let table = [
        (json!({"input": null}), "input", "missing_required_parameter"),
        (json!({"input": []}), "input", "empty_array"),
        (json!({"input": 5}), "input", "invalid_type"),
        (item(json!({"role": "tool", "content": "x"})), "input[0].role", "invalid_value"),
        (item(json!({"role": "user"})), "input[0].content", "missing_required_parameter"),
        (item(json!({"role": "user", "content": "x", "weight": 1})), "input[0].weight", "unknown_parameter"),
        (item(json!({"type": "item_reference", "id": "x"})), "input[0].type", "unsupported_parameter"),
        (
            item(json!({"role": "user", "content": [{"type": "input_image"}]})),
            "input[0].content[0].type",
            "unsupported_parameter",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "c", "output": "x"})),
            "input[0].call_id",
            "invalid_value",
        ),
        (
            item(json!({"type": "function_call", "name": "f", "arguments": ""})),
            "input[0].call_id",
            "missing_required_parameter",
        ),
        (item(json!({"type": "reasoning"})), "input", "empty_array"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type", "unsupported_parameter"),
        (json!({"text": {"format": {"type": "json_object"}}}), "text.format", "unsupported_parameter"),
        (json!({"text": {"verbosity": "low"}}), "text.verbosity", "unsupported_parameter"),
        (json!({"seed": 1}), "seed", "unknown_parameter"),
    ];
    for (more, param, code) in table {
        let error = read(more.clone()).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{more}");
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[test]
fn a_text_is_told_step_by_step() {
    let mut stream = answer(json!({"stream": true, "instructions": "be brief"}));
    let mut events = bodies(stream.begin(identity(), &start()));
    events.extend(bodies(stream.part(0, text("he"))));
    events.extend(bodies(stream.part(0, text("llo"))));
    events.extend(bodies(stream.finished(0, FinishReason::Stop)));
    events.extend(bodies(stream.end(&outcome())));
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<u64>>());
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!((&events[4]["delta"], &events[6]["text"]), (&json!("he"), &json!("hello")));
    let body = &events[9]["response"];
    assert_eq!(*body, stream.whole(&outcome()));
    assert_eq!(
        body["output"],
        json!([{
            "id": "msg_1_0", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}],
        }])
    );
    assert_eq!((&body["instructions"], &body["store"]), (&json!("be brief"), &json!(false)));
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["total_tokens"]), (&json!(10), &json!(15)));
}

#[test]
fn thoughts_text_and_calls_are_items_of_their_own() {
    let mut stream = answer(json!({"stream": true}));
    stream.begin(identity(), &start());
    let call = |index, id: Option<&str>, arguments: &str| Part::ToolCall {
        index,
        id: id.map(str::to_owned),
        name: id.map(|_| "f".to_owned()),
        arguments: arguments.into(),
    };
    let mut events = bodies(stream.part(0, Part::Reasoning("hm".into())));
    events.extend(bodies(stream.part(0, text("so"))));
    events.extend(bodies(stream.part(0, call(0, Some("c1"), "{"))));
    events.extend(bodies(stream.part(0, call(1, Some("c2"), "{}"))));
    events.extend(bodies(stream.part(0, call(0, None, "}"))));
    events.extend(bodies(stream.finished(0, FinishReason::ToolCalls)));
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!(of("response.output_item.added"), 4);
    assert_eq!(of("response.output_item.done"), 4);
    assert_eq!(of("response.reasoning_text.delta"), 1);
    assert_eq!(of("response.function_call_arguments.delta"), 3);
    assert_eq!(of("response.function_call_arguments.done"), 2);
    let body = stream.whole(&outcome());
    assert_eq!((&body["status"], &body["output"][2]["arguments"]), (&json!("completed"), &json!("{}")));
    assert_eq!(body["output"][3]["call_id"], "c2");
}

#[test]
fn an_answer_cut_short_says_why() {
    let mut stream = answer(json!({"stream": true}));
    stream.begin(identity(), &start());
    stream.part(0, text("so"));
    stream.finished(0, FinishReason::Length);
    let last = bodies(stream.end(&outcome()));
    assert_eq!(types(&last), ["response.incomplete"]);
    let body = &last[0]["response"];
    assert_eq!(body["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(body["output"][0]["status"], "incomplete");

    let mut silent = answer(json!({}));
    silent.begin(identity(), &start());
    silent.finished(0, FinishReason::Stop);
    assert_eq!(silent.whole(&outcome())["output"][0]["content"][0]["text"], "");

    let mut broken = answer(json!({"stream": true}));
    broken.begin(identity(), &start());
    let failed = bodies(broken.failed(&ApiError::internal("internal_error", "broken")));
    assert_eq!((types(&failed), &failed[0]["response"]["status"]), (vec!["response.failed"], &json!("failed")));
}
