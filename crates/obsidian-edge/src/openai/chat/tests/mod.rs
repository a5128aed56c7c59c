//! Tables of requests with the exact errors.

pub(crate) mod answers;

use obsidian_types::{Residency, Role, Sampling, Speculation, ToolChoice};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::request::{Delivery, Parsed};

fn parse(body: &Value) -> Result<Parsed, ApiError> {
    super::parse(body.to_string().as_bytes())
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

fn error_parts(error: ApiError) -> (u16, String, Value, Value, String) {
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
    assert_eq!(parsed.extension.speculation, Speculation::Auto);
    assert_eq!(parsed.extension.residency, Residency::Anywhere);
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
    let roles: Vec<Role> = parsed.inputs[0].messages().iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!(parsed.inputs[0].messages()[1].content.expose(), "one\ntwo");
    assert_eq!(parsed.delivery, Delivery::Stream { include_usage: true });
    assert_eq!(parsed.stop.len(), 2);
    assert_eq!(parsed.max_tokens, Some(12));
    let sampling = parsed.sampling.or_seed(0);
    assert_eq!((sampling.temperature, sampling.top_p, sampling.seed), (0.5, 0.9, u64::MAX));
    assert_eq!(parsed.user.unwrap().expose(), "u-1");
    assert_eq!(parsed.metadata.len(), 1);
    assert_eq!(parsed.extension.speculation, Speculation::Off);
    assert_eq!(parsed.extension.residency, Residency::Region);
    assert_eq!(parsed.extension.conversation.unwrap().expose(), "c-1");
}

/// A minimal request with a tool `f` and more fields.
fn with_tools(more: Value) -> Value {
    let mut body = with("tools", json!([{"type": "function", "function": {"name": "f"}}]));
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn tools_calls_and_results_are_read() {
    let mut body = with_tools(json!({
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false, "n": 3,
        "logprobs": true, "top_logprobs": 5,
    }));
    body["tools"][0]["function"]["description"] = json!("does");
    body["tools"][0]["function"]["parameters"] = json!({"type": "object"});
    body["tools"][0]["function"]["strict"] = json!(true);
    body["messages"] = json!([
        {"role": "user", "content": "x", "name": "bob"},
        {"role": "assistant", "content": null, "annotations": [], "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "content": [{"type": "text", "text": "42"}], "tool_call_id": "c1"},
    ]);
    let parsed = parse(&body).unwrap();
    let tool = &parsed.tools[0];
    assert_eq!((tool.name.expose(), tool.strict), ("f", Some(true)));
    assert_eq!(tool.description.as_ref().unwrap().expose(), "does");
    assert_eq!(tool.parameters.expose(), "{\"type\":\"object\"}");
    assert_eq!((parsed.choices, parsed.logprobs, parsed.parallel_tool_calls), (3, Some(5), Some(false)));
    assert_eq!(parsed.tool_choice, ToolChoice::Function("f".into()));
    let messages = parsed.inputs[0].messages();
    assert_eq!(messages[0].name.as_ref().unwrap().expose(), "bob");
    let call = &messages[1].tool_calls[0];
    assert_eq!((call.id.expose(), call.name.expose(), call.arguments.expose()), ("c1", "f", "{}"));
    assert!(messages[1].content.is_empty());
    assert_eq!((messages[2].role, messages[2].content.expose()), (Role::Tool, "42"));
    let words = [("auto", ToolChoice::Auto), ("none", ToolChoice::None), ("required", ToolChoice::Required)];
    for (word, choice) in words {
        assert_eq!(parse(&with_tools(json!({"tool_choice": word}))).unwrap().tool_choice, choice);
    }
    assert_eq!(
        parse(&with_tools(json!({}))).unwrap().tools[0].parameters.expose(),
        r#"{"properties":{},"type":"object"}"#
    );
}

#[test]
fn wrong_tools_are_refused_with_their_place() {
    let function = |function: Value| with("tools", json!([{"type": "function", "function": function}]));
    let call = |call: Value| with_message(json!({"role": "assistant", "tool_calls": [call]}));
    let table = [
        (with("tools", json!([])), "tools", "empty_array"),
        (with("tools", json!({})), "tools", "invalid_type"),
        (with("tools", json!([{"type": "function"}])), "tools[0].function", "missing_required_parameter"),
        (function(json!({})), "tools[0].function.name", "missing_required_parameter"),
        (function(json!({"name": "a b"})), "tools[0].function.name", "invalid_value"),
        (function(json!({"name": "x".repeat(65)})), "tools[0].function.name", "invalid_value"),
        (function(json!({"name": "f", "parameters": []})), "tools[0].function.parameters", "invalid_type"),
        (function(json!({"name": "f", "extra": 1})), "tools[0].function.extra", "unknown_parameter"),
        (with("tool_choice", json!("auto")), "tool_choice", "invalid_value"),
        (with("parallel_tool_calls", json!(true)), "parallel_tool_calls", "invalid_value"),
        (with_tools(json!({"tool_choice": "all"})), "tool_choice", "invalid_value"),
        (
            with_tools(json!({"tool_choice": {"type": "function", "function": {"name": "g"}}})),
            "tool_choice",
            "invalid_value",
        ),
        (with("n", json!(9)), "n", "integer_above_max_value"),
        (with("n", json!(0)), "n", "integer_below_min_value"),
        (with("top_logprobs", json!(1)), "top_logprobs", "invalid_value"),
        (
            call(json!({"id": "1", "type": "function"})),
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
        ),
        (
            with_message(json!({"role": "tool", "content": "x", "tool_call_id": "1"})),
            "messages[0].tool_call_id",
            "invalid_value",
        ),
        (
            with_message(json!({"role": "tool", "content": "x"})),
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            with_message(json!({"role": "user", "content": "x", "tool_calls": []})),
            "messages[0].tool_calls",
            "unknown_parameter",
        ),
    ];
    for (body, param, code) in table {
        let (status, _, found, was, _) = refusal_of(&body);
        assert_eq!((status, found, was), (400, json!(param), json!(code)), "{body}");
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
        (with_message(json!({"role": "function", "content": "x", "name": "f"})), "messages[0].role"),
        (with_message(json!({"role": "assistant", "content": "x", "refusal": "no"})), "messages[0].refusal"),
        (with_message(json!({"role": "assistant", "content": "x", "audio": {}})), "messages[0].audio"),
        (with_message(json!({"role": "assistant", "function_call": {}})), "messages[0].function_call"),
        (with_message(json!({"role": "assistant", "content": "x", "annotations": [1]})), "messages[0].annotations"),
        (with("tools", json!([{"type": "custom", "custom": {"name": "f"}}])), "tools[0].type"),
        (with_tools(json!({"tool_choice": {"type": "allowed_tools"}})), "tool_choice.type"),
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
            "Invalid value for 'messages[0].role'. Supported values are: 'system', 'developer', 'user', 'assistant' and 'tool'.",
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
    let error = |body: &[u8]| error_parts(super::parse(body).unwrap_err());
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
        let _ = super::parse(&body);
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
