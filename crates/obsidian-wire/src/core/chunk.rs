//! From one event of an upstream's stream to what it adds to the answer.

use std::collections::{BTreeMap, VecDeque};

use obsidian_types::limits::{MAX_CHOICES, MAX_TOOL_CALLS, MAX_TOP_LOGPROBS};
use obsidian_types::{FinishReason, PromptText};
use serde::Deserialize;

/// One thing an upstream adds to an answer. Text is masked: placeholders are not restored yet.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreDelta {
    /// Text of the answer.
    Text {
        /// Which of the answers, from 0.
        choice: u32,
        /// May be empty beside log probabilities.
        text: PromptText,
        /// Of the tokens in it, if they were asked for.
        logprobs: Vec<CoreLogprob>,
    },
    /// Text the model thinks aloud before it answers (`reasoning_content`).
    Reasoning {
        /// Which of the answers.
        choice: u32,
        /// Never empty.
        text: PromptText,
    },
    /// A piece of a tool call.
    ToolCall {
        /// Which of the answers.
        choice: u32,
        /// Which call of that answer, from 0.
        index: u32,
        /// In the first piece.
        id: Option<PromptText>,
        /// In the first piece.
        name: Option<PromptText>,
        /// The next part of the arguments' JSON text.
        arguments: PromptText,
    },
    /// One of the answers is complete.
    Finished {
        /// Which of the answers.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
    /// What the upstream counted, last of all; not every upstream tells.
    Usage {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens of all answers, reasoning included.
        completion_tokens: u32,
    },
}

/// Log probability of one token, with the likeliest alternatives in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreLogprob {
    /// The token.
    pub token: CoreToken,
    /// The likeliest first; at most as many as were asked for.
    pub top: Vec<CoreToken>,
}

/// One token and its log probability.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreToken {
    /// Its text.
    pub text: PromptText,
    /// Its bytes, if the upstream tells them.
    pub bytes: Option<Vec<u8>>,
    /// Natural logarithm.
    pub logprob: f32,
}

/// What an event is, when it is no part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// `{"error": …}`: the upstream failed.
    Error,
    /// Not what the API's documents describe.
    Malformed(&'static str),
}

/// Reads one event's data and appends what it adds.
pub(super) fn read(data: &[u8], deltas: &mut VecDeque<CoreDelta>) -> Result<(), Odd> {
    let event: Event = serde_json::from_slice(data).map_err(|_| Odd::Malformed("an event is no chunk in JSON"))?;
    if event.error.is_some_and(|error| !error.is_null()) {
        return Err(Odd::Error);
    }
    if event.choices.is_none() && event.usage.is_none() {
        return Err(Odd::Malformed("an event has neither choices nor usage"));
    }
    for choice in event.choices.unwrap_or_default() {
        read_choice(choice, deltas)?;
    }
    if let Some(usage) = event.usage {
        let (prompt_tokens, completion_tokens) = (usage.prompt_tokens, usage.completion_tokens.unwrap_or(0));
        deltas.push_back(CoreDelta::Usage { prompt_tokens, completion_tokens });
    }
    Ok(())
}

/// Joins pieces of one answer's text that stand side by side: what has arrived together is restored and sent
/// together.
pub(super) fn join(deltas: &mut VecDeque<CoreDelta>) {
    let mut joined: VecDeque<CoreDelta> = VecDeque::with_capacity(deltas.len());
    for delta in deltas.drain(..) {
        let (last, more) = match (joined.back_mut(), &delta) {
            (
                Some(CoreDelta::Text { choice, text, logprobs }),
                CoreDelta::Text { choice: same, text: more, logprobs: none },
            ) if choice == same && logprobs.is_empty() && none.is_empty() => (text, more),
            (Some(CoreDelta::Reasoning { choice, text }), CoreDelta::Reasoning { choice: same, text: more })
                if choice == same =>
            {
                (text, more)
            }
            _ => {
                joined.push_back(delta);
                continue;
            }
        };
        let mut whole = std::mem::take(last).into_inner();
        whole.push_str(more.expose());
        *last = PromptText::from(whole);
    }
    *deltas = joined;
}

fn read_choice(chunk: Choice, deltas: &mut VecDeque<CoreDelta>) -> Result<(), Odd> {
    let choice = chunk.index;
    if choice >= MAX_CHOICES {
        return Err(Odd::Malformed("a choice's number is out of range"));
    }
    let delta = chunk.delta.unwrap_or_default();
    let some = |text: Option<String>| text.filter(|text| !text.is_empty()).map(PromptText::from);
    if let Some(text) = some(delta.reasoning_content).or_else(|| some(delta.reasoning)) {
        deltas.push_back(CoreDelta::Reasoning { choice, text });
    }
    let logprobs = logprobs(chunk.logprobs);
    // A refusal is what the model says instead of an answer.
    let text = some(delta.content).or_else(|| some(delta.refusal)).or_else(|| some(chunk.text));
    if text.is_some() || !logprobs.is_empty() {
        deltas.push_back(CoreDelta::Text { choice, text: text.unwrap_or_default(), logprobs });
    }
    for call in delta.tool_calls.unwrap_or_default() {
        let index = call.index.unwrap_or(0);
        if index as usize >= MAX_TOOL_CALLS {
            return Err(Odd::Malformed("a tool call's number is out of range"));
        }
        let function = call.function.unwrap_or_default();
        deltas.push_back(CoreDelta::ToolCall {
            choice,
            index,
            id: some(call.id),
            name: some(function.name),
            arguments: function.arguments.unwrap_or_default().into(),
        });
    }
    if let Some(reason) = chunk.finish_reason {
        deltas.push_back(CoreDelta::Finished { choice, reason: finish(&reason)? });
    }
    Ok(())
}

fn finish(reason: &str) -> Result<FinishReason, Odd> {
    match reason {
        "stop" | "eos" | "end_turn" | "stop_sequence" => Ok(FinishReason::Stop),
        "length" | "max_tokens" => Ok(FinishReason::Length),
        "tool_calls" | "function_call" => Ok(FinishReason::ToolCalls),
        "content_filter" => Ok(FinishReason::ContentFilter),
        // `abort` and `insufficient_system_resource` are how servers say that they gave up.
        _ => Err(Odd::Error),
    }
}

fn logprobs(logprobs: Option<Logprobs>) -> Vec<CoreLogprob> {
    let token = |token: Token| CoreToken { text: token.token.into(), bytes: token.bytes, logprob: token.logprob };
    let each = |mut entry: Entry| {
        entry.top_logprobs.truncate(MAX_TOP_LOGPROBS.into());
        let chosen = Token { token: entry.token, logprob: entry.logprob, bytes: entry.bytes };
        CoreLogprob { token: token(chosen), top: entry.top_logprobs.into_iter().map(token).collect() }
    };
    let Some(logprobs) = logprobs else { return Vec::new() };
    match logprobs.content {
        Some(content) => content.into_iter().map(each).collect(),
        None => columns(logprobs),
    }
}

/// Raw completions tell the same in columns.
fn columns(logprobs: Logprobs) -> Vec<CoreLogprob> {
    let token = |text: String, logprob| CoreToken { text: text.into(), bytes: None, logprob };
    let mut top = logprobs.top_logprobs.unwrap_or_default().into_iter();
    let tokens = logprobs.tokens.unwrap_or_default().into_iter().zip(logprobs.token_logprobs.unwrap_or_default());
    tokens
        .filter_map(|(text, logprob)| {
            let mut top: Vec<CoreToken> =
                top.next().flatten().into_iter().flatten().map(|(text, logprob)| token(text, logprob)).collect();
            top.sort_by(|left, right| right.logprob.total_cmp(&left.logprob));
            top.truncate(MAX_TOP_LOGPROBS.into());
            // The first token of an echoed prompt has none.
            Some(CoreLogprob { token: token(text, logprob?), top })
        })
        .collect()
}

#[derive(Deserialize)]
struct Event {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    delta: Option<Delta>,
    /// Of raw completions.
    text: Option<String>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    /// The same under the name newer servers use.
    reasoning: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    index: Option<u32>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Entry>>,
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
}

#[derive(Deserialize)]
struct Entry {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::{CoreDelta, Odd, join, read};
    use obsidian_types::FinishReason;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn deltas(data: &str) -> Result<Vec<CoreDelta>, Odd> {
        let mut deltas = VecDeque::new();
        read(data.as_bytes(), &mut deltas).map(|()| deltas.into())
    }

    #[test]
    fn text_reasoning_tools_finish_and_usage_are_read() {
        let read = deltas(
            r#"{"id":"x","unknown":1,"choices":[{"index":1,"delta":{"role":"assistant","content":"hi","reasoning_content":"hm"}},
            {"index":0,"delta":{"content":null,"tool_calls":[{"index":2,"id":"c","type":"function","function":{"name":"f","arguments":"{"}}]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        )
        .unwrap();
        assert_eq!(
            read,
            [
                CoreDelta::Reasoning { choice: 1, text: "hm".into() },
                CoreDelta::Text { choice: 1, text: "hi".into(), logprobs: Vec::new() },
                CoreDelta::ToolCall {
                    choice: 0,
                    index: 2,
                    id: Some("c".into()),
                    name: Some("f".into()),
                    arguments: "{".into()
                },
                CoreDelta::Finished { choice: 0, reason: FinishReason::ToolCalls },
                CoreDelta::Usage { prompt_tokens: 3, completion_tokens: 4 },
            ]
        );
        assert!(deltas(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#).unwrap().is_empty());
        assert!(deltas(r#"{"choices":[],"usage":null}"#).unwrap().is_empty());
    }

    #[test]
    fn pieces_that_arrived_together_are_joined_within_one_answer() {
        let text = |choice, text: &str| CoreDelta::Text { choice, text: text.into(), logprobs: Vec::new() };
        let finished = CoreDelta::Finished { choice: 0, reason: FinishReason::Stop };
        let mut deltas = VecDeque::from([text(0, "a"), text(0, "b"), text(1, "c"), text(0, "d"), finished.clone()]);
        join(&mut deltas);
        assert_eq!(deltas, [text(0, "ab"), text(1, "c"), text(0, "d"), finished]);
    }

    #[test]
    fn log_probabilities_come_with_their_alternatives() {
        let read = deltas(
            r#"{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[
            {"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1.5,"bytes":null}]}]}}]}"#,
        )
        .unwrap();
        let [CoreDelta::Text { logprobs, .. }] = &read[..] else { panic!("{read:?}") };
        assert_eq!((logprobs[0].token.logprob, logprobs[0].token.bytes.as_deref()), (-0.5, Some(&b"a"[..])));
        assert_eq!(logprobs[0].top[0].text.expose(), "b");
    }

    #[test]
    fn raw_completions_tell_text_and_log_probabilities_in_columns() {
        let read = deltas(
            r#"{"choices":[{"index":0,"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[null,-0.5],
            "top_logprobs":[null,{"b":-0.5,"c":-0.1}]}}]}"#,
        )
        .unwrap();
        let [CoreDelta::Text { text, logprobs, .. }] = &read[..] else { panic!("{read:?}") };
        assert_eq!((text.expose(), logprobs.len(), logprobs[0].top[0].text.expose()), ("ab", 1, "c"));
    }

    #[test]
    fn what_is_no_part_of_an_answer_is_told_apart() {
        assert_eq!(deltas(r#"{"error":{"message":"boom"}}"#), Err(Odd::Error));
        assert_eq!(
            deltas(r#"{"choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}"#),
            Err(Odd::Error)
        );
        for malformed in ["{\"choices\":[", "[]", "{}", r#"{"choices":[{"index":4000000000,"delta":{}}]}"#] {
            assert!(matches!(deltas(malformed), Err(Odd::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn debug_shows_no_text() {
        let shown = format!("{:?}", deltas(r#"{"choices":[{"delta":{"content":"alice@example.com"}}]}"#).unwrap());
        assert!(!shown.contains("alice"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = read(&bytes, &mut VecDeque::new());
        }
    }
}
