//! Bodies for fuzzers: each takes any bytes and must neither panic nor hang. CI runs them under proptest.

use crate::openai::error::ApiError;
use crate::openai::{chat, completions, responses};

/// A body of `POST /v1/chat/completions`.
pub fn chat_request(data: &[u8]) {
    read(chat::parse(data).map(|parsed| drop(chat::ChatAnswer::new(&parsed))));
}

/// A body of `POST /v1/completions`.
pub fn completions_request(data: &[u8]) {
    read(completions::parse(data).map(|(parsed, echo)| drop(completions::TextAnswer::new(&parsed, echo))));
}

/// A body of `POST /v1/responses`.
pub fn responses_request(data: &[u8]) {
    read(responses::parse(data).map(|(parsed, echo)| drop(responses::ResponseAnswer::new(&parsed, echo))));
}

/// A refusal is one a client can read, and stays small however large the request was.
fn read(parsed: Result<(), ApiError>) {
    if let Err(error) = parsed {
        assert!(error.status.is_client_error() && error.code.is_some(), "{error:?}");
        assert!(error.body().to_string().len() < 4_096, "an error of {} bytes", error.body().to_string().len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Members that requests have, with values of many kinds.
    fn bodies() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            r#""model":"auto""#,
            r#""messages":[{"role":"user","content":"hi"}]"#,
            r#""messages":[{"role":"tool","content":[{"type":"text"}],"tool_call_id":"1"}]"#,
            r#""messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{}}]}]"#,
            r#""prompt":["a","b"]"#,
            r#""prompt":[1]"#,
            r#""input":"hi""#,
            r#""input":[{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}]"#,
            r#""input":[{"role":"user","content":[{"type":"input_text","text":"\ud83d\ude00"}]}]"#,
            r#""tools":[{"type":"function","function":{"name":"f","parameters":{}}}]"#,
            r#""tools":[{"type":"function","name":"f"}]"#,
            r#""tool_choice":{"type":"function","name":"f"}"#,
            r#""n":1e99"#,
            r#""n":8"#,
            r#""logit_bias":{"4294967295":-100}"#,
            r#""stop":[1]"#,
            r#""stream":true"#,
            r#""obsidian":{"residency":"edge"}"#,
            r#""text":{"format":null}"#,
        ]);
        prop::collection::vec(pieces, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    proptest! {
        #[test]
        fn no_bytes_break_a_parser(data in prop::collection::vec(any::<u8>(), 0..200), body in bodies()) {
            for data in [&data, body.as_bytes()] {
                super::chat_request(data);
                super::completions_request(data);
                super::responses_request(data);
            }
        }
    }
}
