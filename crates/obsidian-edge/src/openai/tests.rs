//! Tables of requests with the exact errors, and the exact bodies of answers.

use obsidian_types::{FinishReason, Residency, Role, Sampling, Speculation, StageTimes, Tier, Usage};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::parse::{self, Delivery, ParsedChat};
use super::response::{self, Chunks, Identity};
use super::{refusal, sse};
use crate::outcome::{Outcome, Start};

fn parse(body: &Value) -> Result<ParsedChat, super::error::ApiError> {
    parse::chat(body.to_string().as_bytes())
}

/// A minimal request with one more field.
fn with(name: &str, value: Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    body
}

/// (status, type, param, code, message) of the refusal.
fn refusal_of(body: &Value) -> (u16, String, Value, Value, String) {
    error_parts(parse(body).expect_err(&format!("{body} is refused")))
}

fn error_parts(error: super::error::ApiError) -> (u16, String, Value, Value, String) {
    let body = error.body();
    let inner = &body["error"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        error.status.as_u16(),
        text(&inner["type"]),
        inner["param"].clone(),
        inner["code"].clone(),
        text(&inner["message"]),
    )
}

#[test]
fn the_least_request_gets_openai_defaults() {
    let parsed = parse(&with("user", Value::Null)).unwrap();
    assert_eq!(parsed.model.as_str(), "auto");
    assert_eq!(parsed.max_tokens, None);
    assert_eq!(parsed.sampling.or_seed(5), Sampling { seed: 5, ..Sampling::default() });
    assert_eq!(parsed.delivery, Delivery::Whole);
    assert_eq!(parsed.speculation, Speculation::Auto);
    assert_eq!(parsed.residency, Residency::Anywhere);
    assert!(parsed.stop.is_empty() && parsed.user.is_none() && parsed.metadata.is_empty());
}

#[test]
fn every_supported_field_is_read() {
    let parsed = parse(&json!({
        "model": "hub",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "x", "refusal": null, "tool_calls": null},
            {"role": "user", "content": "y"},
        ],
        "stream": true,
        "stream_options": {"include_usage": true, "include_obfuscation": false},
        "stop": ["\n", "END"],
        "max_completion_tokens": 12,
        "max_tokens": 12,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": -1,
        "n": 1,
        "user": "u-1",
        "metadata": {"team": "a"},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logprobs": false,
        "response_format": {"type": "text"},
        "tools": null,
        "obsidian": {"speculation": "off", "conversation": "c-1", "residency": "region", "provisional": false},
    }))
    .unwrap();
    let roles: Vec<Role> = parsed.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!(parsed.messages[1].content.expose(), "one\ntwo");
    assert_eq!(parsed.delivery, Delivery::Stream { include_usage: true });
    assert_eq!(parsed.stop.len(), 2);
    assert_eq!(parsed.max_tokens, Some(12));
    let sampling = parsed.sampling.or_seed(0);
    assert_eq!((sampling.temperature, sampling.top_p, sampling.seed), (0.5, 0.9, u64::MAX));
    assert_eq!(parsed.user.unwrap().expose(), "u-1");
    assert_eq!(parsed.metadata.len(), 1);
    assert_eq!(parsed.speculation, Speculation::Off);
    assert_eq!(parsed.residency, Residency::Region);
    assert_eq!(parsed.conversation.unwrap().expose(), "c-1");
}

#[test]
fn what_openai_knows_and_we_do_not_is_refused_by_name() {
    let values = [
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        ("function_call", json!("auto")),
        ("functions", json!([])),
        ("logprobs", json!(true)),
        ("modalities", json!(["text", "audio"])),
        ("n", json!(2)),
        ("parallel_tool_calls", json!(true)),
        ("prediction", json!({"type": "content", "content": "secret"})),
        ("prompt_cache_key", json!("k")),
        ("prompt_cache_retention", json!("24h")),
        ("reasoning_effort", json!("low")),
        ("response_format", json!({"type": "json_object"})),
        ("safety_identifier", json!("x")),
        ("service_tier", json!("flex")),
        ("store", json!(true)),
        ("tool_choice", json!("none")),
        ("tools", json!([])),
        ("top_logprobs", json!(0)),
        ("verbosity", json!("low")),
        ("web_search_options", json!({})),
    ];
    let tested: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    let listed: Vec<&str> = refusal::REQUEST.iter().map(|entry| entry.name).collect();
    assert_eq!(tested, listed, "every refusal has its line here");
    for (name, value) in values {
        assert_eq!(
            refusal_of(&with(name, value)),
            (
                400,
                "invalid_request_error".to_owned(),
                json!(name),
                json!("unsupported_parameter"),
                format!("Unsupported parameter: '{name}' is not supported by this server."),
            )
        );
    }
}

/// A request whose only message is `message`.
fn with_message(message: Value) -> Value {
    with("messages", json!([message]))
}

#[test]
fn nested_refusals_name_their_path() {
    let parts = |part: Value| with_message(json!({"role": "user", "content": [part]}));
    let table = [
        (with_message(json!({"role": "user", "content": "x", "name": "bob"})), "messages[0].name"),
        (with_message(json!({"role": "tool", "content": "x", "tool_call_id": "1"})), "messages[0].role"),
        (with_message(json!({"role": "assistant", "content": "x", "tool_calls": []})), "messages[0].tool_calls"),
        (parts(json!({"type": "image_url", "image_url": {"url": "data:"}})), "messages[0].content[0].type"),
        (with("obsidian", json!({"speculation": "pipelined"})), "obsidian.speculation"),
        (with("obsidian", json!({"provisional": true})), "obsidian.provisional"),
    ];
    for (body, param) in table {
        let (status, _, found, code, _) = refusal_of(&body);
        assert_eq!((status, found, code), (400, json!(param), json!("unsupported_parameter")));
    }
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    let table = [
        (with("temprature", json!(1)), "temprature"),
        (with("temprature", Value::Null), "temprature"),
        (with_message(json!({"role": "user", "content": "x", "weight": 1})), "messages[0].weight"),
        (with("obsidian", json!({"tier": "hub"})), "obsidian.tier"),
    ];
    for (body, param) in table {
        let (status, _, found, code, message) = refusal_of(&body);
        assert_eq!((status, found, code), (400, json!(param), json!("unknown_parameter")));
        assert_eq!(message, format!("Unknown parameter: '{param}'."));
    }
}

/// A request, and param, code and message of its refusal.
type Row<'a> = (Value, &'a str, &'a str, &'a str);

fn check_refusals(table: &[Row<'_>]) {
    for (body, param, code, message) in table {
        let kind = "invalid_request_error".to_owned();
        assert_eq!(refusal_of(body), (400, kind, json!(param), json!(code), (*message).to_owned()));
    }
}

#[test]
fn wrong_numbers_get_openai_messages() {
    check_refusals(&[
        (
            with("temperature", json!(3)),
            "temperature",
            "decimal_above_max_value",
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
        ),
        (
            with("temperature", json!("1")),
            "temperature",
            "invalid_type",
            "Invalid type for 'temperature': expected a decimal, but got a string instead.",
        ),
        (
            with("top_p", json!(-0.5)),
            "top_p",
            "decimal_below_min_value",
            "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -0.5 instead.",
        ),
        (
            with("max_tokens", json!(0)),
            "max_tokens",
            "integer_below_min_value",
            "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.",
        ),
        (
            with("max_tokens", json!(1.5)),
            "max_tokens",
            "invalid_type",
            "Invalid type for 'max_tokens': expected an integer, but got a decimal instead.",
        ),
        (
            with("seed", json!(u64::MAX)),
            "seed",
            "integer_above_max_value",
            "Invalid 'seed': integer above maximum value. Expected a value <= 9223372036854775807, but got a larger one instead.",
        ),
    ]);
}

#[test]
fn wrong_lists_get_openai_messages() {
    check_refusals(&[
        (
            with("stop", json!(["a", "b", "c", "d", "e"])),
            "stop",
            "array_above_max_length",
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.",
        ),
        (
            with("stop", json!(["a", ""])),
            "stop[1]",
            "empty_string",
            "Invalid 'stop[1]': empty string. A stop string has at least one character.",
        ),
        (
            with("stop", json!("x".repeat(257))),
            "stop",
            "string_above_max_length",
            "Invalid 'stop': string too long. Expected a string with maximum length 256 bytes, but got one with 257 bytes instead.",
        ),
        (
            with("messages", json!([])),
            "messages",
            "empty_array",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        ),
        (
            with("messages", json!("hi")),
            "messages",
            "invalid_type",
            "Invalid type for 'messages': expected an array, but got a string instead.",
        ),
        (
            with("messages", Value::Null),
            "messages",
            "missing_required_parameter",
            "Missing required parameter: 'messages'.",
        ),
    ]);
}

#[test]
fn wrong_shapes_get_openai_messages() {
    check_refusals(&[
        (
            with_message(json!({"role": "king", "content": "x"})),
            "messages[0].role",
            "invalid_value",
            "Invalid value for 'messages[0].role'. Supported values are: 'system', 'developer', 'user' and 'assistant'.",
        ),
        (
            with_message(json!({"role": "user"})),
            "messages[0].content",
            "missing_required_parameter",
            "Missing required parameter: 'messages[0].content'.",
        ),
        (
            with("model", json!(7)),
            "model",
            "invalid_type",
            "Invalid type for 'model': expected a string, but got an integer instead.",
        ),
        (
            with("metadata", json!({"team": 1})),
            "metadata",
            "invalid_type",
            "Invalid type for 'metadata': expected an object of strings, but got an integer instead.",
        ),
        (
            with("stream_options", json!({"include_usage": true})),
            "stream_options",
            "invalid_value",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ),
        (
            with("obsidian", json!({"speculation": "fast"})),
            "obsidian.speculation",
            "invalid_value",
            "Invalid value for 'obsidian.speculation'. Supported values are: 'auto', 'off' and 'sync'.",
        ),
    ]);
}

#[test]
fn broken_bodies_get_their_position() {
    let error = |body: &[u8]| error_parts(parse::chat(body).unwrap_err());
    let (status, _, param, code, message) = error(b"{\"model\": \"auto\",\n  oops}");
    assert_eq!((status, param, code), (400, Value::Null, json!("invalid_json")));
    assert_eq!(message, "We could not parse the JSON body of your request: it goes wrong at line 2, column 3.");
    let (_, _, _, code, message) = error(b"{\"model\": \"a\xFF\"}");
    assert_eq!(code, json!("invalid_utf8"));
    assert_eq!(message, "The request body is not UTF-8: the byte at offset 12 is wrong.");
    let (_, _, _, code, message) = error(b"[1]");
    assert_eq!(code, json!("invalid_type"));
    assert_eq!(message, "Invalid type for the request body: expected an object, but got an array instead.");
    let (_, _, _, code, _) = error(b"");
    assert_eq!(code, json!("invalid_json"));
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let (_, _, _, code, _) = error(deep.as_bytes());
    assert_eq!(code, json!("invalid_json"));
}

#[test]
fn a_long_name_is_cut_in_errors() {
    let name = "é".repeat(1000);
    let (_, _, param, _, message) = refusal_of(&with(&name, json!(1)));
    assert!(param.as_str().unwrap().len() < 200 && message.len() < 300);
}

fn outcome() -> Outcome {
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
        stages: StageTimes { sanitise: 1, mask: 2, route: 3, render: 4, first_token: 5, total: 6 },
    }
}

fn start() -> Start {
    Start { route: Tier::Hub, reason: "task:extract".to_owned(), model: "target".to_owned() }
}

fn identity() -> Identity {
    Identity { id: "chatcmpl-1".to_owned(), created: 7 }
}

fn extension() -> Value {
    json!({
        "route": "hub", "reason": "task:extract", "degraded": false, "accepted": 3, "rejected": 1,
        "wan_bytes_up": 100, "wan_bytes_down": 50,
        "stages_us": {"sanitise": 1, "mask": 2, "route": 3, "render": 4, "first_token": 5, "total": 6},
    })
}

fn usage() -> Value {
    json!({
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "completion_tokens_details": {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 1},
    })
}

#[test]
fn a_whole_answer_has_openai_shape() {
    let body = response::completion(&identity(), &start(), "hi", FinishReason::Stop, &outcome());
    assert_eq!(
        body,
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
fn a_stream_has_openai_shape() {
    let chunks = Chunks::new(identity(), &start(), true);
    let envelope = |choices: Value, usage: Value| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "target",
            "choices": choices, "usage": usage,
        })
    };
    let choice =
        |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    assert_eq!(chunks.role(), envelope(choice(json!({"role": "assistant", "content": ""}), Value::Null), Value::Null));
    assert_eq!(chunks.text("hi"), envelope(choice(json!({"content": "hi"}), Value::Null), Value::Null));
    let mut last = envelope(choice(json!({}), json!("stop")), Value::Null);
    last["obsidian"] = extension();
    assert_eq!(chunks.last(FinishReason::Stop, &outcome()), last);
    assert_eq!(chunks.usage(&outcome()), Some(envelope(json!([]), usage())));

    let plain = Chunks::new(identity(), &start(), false);
    assert!(plain.role().get("usage").is_none());
    assert_eq!(plain.usage(&outcome()), None);
}

#[test]
fn an_event_is_one_line_whatever_the_text() {
    let chunks = Chunks::new(identity(), &start(), false);
    let text = "a\nb\r\n\ndata: [DONE]\n\n\u{2028}é";
    let event = sse::event(&chunks.text(text));
    let event = std::str::from_utf8(&event).unwrap();
    let line = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    assert!(!line.contains(['\n', '\r']));
    let body: Value = serde_json::from_str(line).unwrap();
    assert_eq!(body["choices"][0]["delta"]["content"], text);
    assert_eq!(sse::DONE, b"data: [DONE]\n\n");
}

/// Any JSON, with the names a request has among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let names = ["model", "messages", "role", "content", "type", "text", "stop", "metadata", "obsidian", "stream", "n"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "secret-[a-z]{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["user", "text", "auto", "sync"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.to_vec()), inner), 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse::chat(&body);
    }

    #[test]
    fn errors_name_places_and_never_show_values(mut body in any_json()) {
        if let Value::Object(fields) = &mut body {
            fields.entry("model").or_insert_with(|| json!("auto"));
            fields.entry("messages").or_insert_with(|| json!([{"role": "user", "content": "secret"}]));
        }
        if let Err(error) = parse(&body) {
            prop_assert!(!error.body().to_string().contains("secret"), "{}", error.body());
        }
    }
}
