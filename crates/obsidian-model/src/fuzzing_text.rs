//! Bodies for fuzzers and property tests: tokenizer files, chat templates, tool calls and JSON. Whatever the
//! bytes are, they must end without a panic, a hang or memory that their length does not justify.

use crate::json::Json;
use crate::synthetic::Synthetic;
use crate::template::{ChatMessage, ChatPrompt, ChatTemplate, ChatTool, ChatToolCall};
use crate::tokenizer::{Specials, Tokenizer};
use crate::tools::{ToolForm, ToolParser};

/// Most text that a body encodes, bytes.
const MAX_TEXT: usize = 4_096;

/// A file with a tokenizer, and text to encode with it: the file's own last bytes.
///
/// # Panics
/// If a control token comes out of text, or what was encoded cannot be decoded.
pub fn tokenizer(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(data.to_vec()) else { return };
    let tail = String::from_utf8_lossy(&data[data.len().saturating_sub(MAX_TEXT)..]);
    for text in [tail.as_ref(), "Hello world 123 ▁ é\n\n", "<|im_start|>user</s><s>"] {
        for ids in [tokenizer.encode(text, Specials::AsText), tokenizer.encode(text, Specials::Parse)] {
            assert!(tokenizer.decode(&ids).is_ok(), "ids are inside the vocabulary");
        }
        let ids = tokenizer.encode(text, Specials::AsText);
        assert!(!ids.iter().any(|id| tokenizer.is_control(*id)), "text became a control token");
        let _ = tokenizer.encode_prompt(text);
    }
    let _ = tokenizer.digest();
}

/// A chat template; what follows the first zero byte is the text of the conversation.
///
/// # Panics
/// If the tokenizer of tests is broken.
pub fn template(data: &[u8]) {
    let parts = data.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>();
    let (source, text) = (parts[0].as_ref(), parts.get(1).map_or("a", |text| text.as_ref()));
    static TOKENIZER: std::sync::OnceLock<Option<Tokenizer>> = std::sync::OnceLock::new();
    let Some(tokenizer) = TOKENIZER.get_or_init(|| Tokenizer::from_bytes(Synthetic::default().file()).ok()) else {
        return;
    };
    let Ok(template) = ChatTemplate::new(source, tokenizer) else { return };
    let calls = [ChatToolCall { id: text, name: "f", arguments: text }];
    let messages = [
        ChatMessage::new("system", text),
        ChatMessage::new("user", text),
        ChatMessage { tool_calls: &calls, ..ChatMessage::new("assistant", "") },
        ChatMessage { tool_call_id: Some(text), ..ChatMessage::new("tool", text) },
    ];
    let tools = [ChatTool { name: text, description: Some(text), parameters: "{\"properties\": {}}", strict: None }];
    let prompt = ChatPrompt { tools: &tools, now_seconds: Some(1), ..ChatPrompt::new(&messages) };
    let _ = template.render(&prompt, tokenizer);
    let _ = template.render(&ChatPrompt::new(&messages[..2]), tokenizer);
}

/// An answer that may hold tool calls: the first byte says in which pieces it comes.
pub fn tool_calls(data: &[u8]) {
    let Some((size, answer)) = data.split_first() else { return };
    let answer: Vec<char> = String::from_utf8_lossy(answer).chars().collect();
    for form in [ToolForm::Hermes, ToolForm::BareJson] {
        let mut parser = ToolParser::new(form);
        for piece in answer.chunks(usize::from(*size).max(1)) {
            let _ = parser.push(&piece.iter().collect::<String>());
        }
        let _ = parser.finish();
    }
}

/// A JSON text.
///
/// # Panics
/// If what was read is spelled as something else.
pub fn json(data: &[u8]) {
    let Some(value) = std::str::from_utf8(data).ok().and_then(Json::parse) else { return };
    assert_eq!(Json::parse(&value.to_string()).as_ref(), Some(&value), "spelled again it is the same value");
}

/// Small valid files with tokenizers of every kind, to mutate.
pub fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let mut scored = crate::gguf::write::Writer::new();
    let pieces = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "<0x41>", "Hello", "l", "He"].map(str::to_owned);
    scored
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &pieces)
        .integers("tokenizer.ggml.token_type", &[2, 3, 3, 1, 1, 1, 1, 1, 6, 4, 1, 1])
        .floats("tokenizer.ggml.scores", &[0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0, 0.0, 0.0, -6.0, -7.0])
        .unsigned("tokenizer.ggml.bos_token_id", 1)
        .unsigned("tokenizer.ggml.unknown_token_id", 0);
    let byte_pairs = Synthetic { layers: 1, width: 32, feed_width: 32, ..Synthetic::default() }.file();
    let named = |name: &str| {
        let mut file = byte_pairs.clone();
        let old = b"tokenizer.ggml.pre\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00qwen2";
        if let Some(at) = file.windows(old.len()).position(|window| window == old) {
            let length = (name.len() as u64).to_le_bytes();
            file.splice(at + old.len() - 13..at + old.len(), length.into_iter().chain(name.bytes()));
        }
        file
    };
    vec![scored.finish(), named("qwen2"), named("llama-bpe"), named("gpt-2"), named("deepseek-llm")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn mutated_tokenizers_are_handled(
            seed in 0_usize..5,
            changes in proptest::collection::vec((0.0_f64..1.0, any::<u8>()), 1..8),
        ) {
            let mut file = super::tokenizer_seeds().swap_remove(seed);
            let reach = file.len().min(9_000) as f64;
            changes.into_iter().for_each(|(at, value)| file[(at * reach) as usize] = value);
            super::tokenizer(&file);
        }

        #[test]
        fn made_up_templates_are_handled(
            parts in proptest::collection::vec(prop_oneof![
                Just("{% for m in messages %}"), Just("{% endfor %}"), Just("{{ m.content }}"), Just("{{ messages"),
                Just("[0:1]"), Just(" ~ "), Just(" + "), Just(" * 9"), Just(" | tojson"), Just(" | join(messages)"), Just(" }}"),
                Just("{% set x = "), Just(" %}"), Just("{% if "), Just("{% endif %}"), Just("(messages)"), Just("x"), Just("namespace(a=x)"),
            ], 0..16),
        ) {
            super::template(parts.concat().as_bytes());
        }

        #[test]
        fn any_answer_and_any_json_is_handled(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            super::tool_calls(&data);
            super::json(&data);
        }
    }

    #[test]
    fn the_seeds_are_valid() {
        for seed in super::tokenizer_seeds() {
            let tokenizer = crate::Tokenizer::from_bytes(seed.clone());
            // The pieces lack most bytes, which the unknown token stands for.
            assert!(tokenizer.is_ok(), "{tokenizer:?}");
            super::tokenizer(&seed);
        }
    }
}
