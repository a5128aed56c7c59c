//! The shipped models against golden files that the training recipe's own tokenizer wrote.

use std::path::PathBuf;

use obsidian_model::{ChatMessage, ChatPrompt, Model, Specials};
use serde_json::Value;

fn models() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"))
}

fn shipped() -> [Model; 2] {
    ["obsidian-target.gguf", "obsidian-draft.gguf"].map(|name| Model::open(models().join(name)).unwrap())
}

fn golden(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(models().join("golden").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn both_models_share_a_vocabulary() {
    let [target, draft] = shipped();
    assert_eq!(target.info().vocabulary_digest, draft.info().vocabulary_digest);
    assert_eq!(target.info().end_ids, draft.info().end_ids);
    assert!(target.info().parameters > draft.info().parameters);
}

#[test]
fn the_tokenizer_agrees() {
    let cases = golden("tokenizer.json");
    assert!(cases.len() > 50);
    for model in shipped() {
        let tokenizer = model.tokenizer();
        for case in &cases {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, Specials::AsText), ids(&case["ids"]), "{text:?}");
            let parsed = tokenizer.encode(text, Specials::Parse);
            assert_eq!(parsed, ids(&case["ids_with_specials_parsed"]), "{text:?} parsed");
            assert_eq!(tokenizer.decode(&ids(&case["ids"])).unwrap(), text.as_bytes());
        }
    }
}

#[test]
fn the_template_agrees() {
    let cases = golden("template.json");
    let (mut checked, mut attacks) = (0, 0);
    for model in shipped() {
        for case in cases.iter().filter(|case| case["add_generation_prompt"] == Value::Bool(true)) {
            let messages: Vec<ChatMessage<'_>> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|message| {
                    ChatMessage::new(message["role"].as_str().unwrap(), message["content"].as_str().unwrap())
                })
                .collect();
            let (text, rendered) = (case["text"].as_str().unwrap(), model.render(&ChatPrompt::new(&messages)).unwrap());
            assert_eq!(model.tokenizer().encode(text, Specials::Parse), ids(&case["ids"]), "{text}");
            if messages.iter().any(|message| message.content.contains("<|")) {
                // The golden file shows what an unguarded rendering does; ours must not.
                let controls = rendered.iter().filter(|id| model.tokenizer().is_control(**id)).count();
                assert_eq!(controls, 2 * messages.len() + 1, "{text}");
                attacks += 1;
            } else {
                assert_eq!(rendered, ids(&case["ids"]), "{text}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 6 && attacks >= 2);
}
