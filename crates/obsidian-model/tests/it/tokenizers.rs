//! Both kinds of tokenizer on small vocabularies of our own, hostile ones, and published ones where the
//! data lies beside the checkout.

use std::path::{Path, PathBuf};

use obsidian_model::gguf::write::Writer;
use obsidian_model::{MAX_TOKEN_BYTES, ModelError, Specials, Tokenizer, byte_character};
use proptest::prelude::*;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// A byte-level BPE file: the 256 bytes, what the merges make, then `more`.
fn byte_pairs(name: &str, merges: &[&str], more: &[(&str, i32)]) -> Writer {
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| byte_character(byte).to_string()).collect();
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut classes = vec![NORMAL; tokens.len()];
    tokens.extend(more.iter().map(|(token, _)| (*token).to_owned()));
    classes.extend(more.iter().map(|(_, class)| *class));
    let merges: Vec<String> = merges.iter().map(|&merge| merge.to_owned()).collect();
    let mut writer = Writer::new();
    writer
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", name)
        .texts("tokenizer.ggml.tokens", &tokens)
        .integers("tokenizer.ggml.token_type", &classes)
        .texts("tokenizer.ggml.merges", &merges);
    writer
}

/// A SentencePiece file: `<unk>`, `<s>`, `</s>`, the bytes if wanted, then `pieces` with their scores.
fn scored(with_bytes: bool, pieces: &[(&str, f32)]) -> Writer {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    let mut classes = vec![UNKNOWN, CONTROL, CONTROL];
    if with_bytes {
        tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
        classes.resize(tokens.len(), BYTE);
    }
    let mut scores = vec![0.0; tokens.len()];
    tokens.extend(pieces.iter().map(|(piece, _)| (*piece).to_owned()));
    scores.extend(pieces.iter().map(|(_, score)| *score));
    classes.resize(tokens.len(), NORMAL);
    let mut writer = Writer::new();
    writer
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .integers("tokenizer.ggml.token_type", &classes)
        .floats("tokenizer.ggml.scores", &scores)
        .unsigned("tokenizer.ggml.bos_token_id", 1)
        .unsigned("tokenizer.ggml.eos_token_id", 2)
        .unsigned("tokenizer.ggml.unknown_token_id", 0);
    writer
}

const PIECES: [(&str, f32); 9] = [
    ("▁", -1.0),
    ("a", -2.0),
    ("b", -3.0),
    ("c", -4.0),
    ("▁a", -5.0),
    ("ab", -6.0),
    ("▁ab", -7.0),
    ("bc", -5.5),
    ("é", -9.0),
];

fn load(writer: &Writer) -> Tokenizer {
    Tokenizer::from_bytes(writer.finish()).unwrap()
}

fn spelled(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text, Specials::AsText);
    ids.iter().map(|id| String::from_utf8_lossy(&tokenizer.piece(*id).unwrap()).into_owned()).collect()
}

#[test]
fn scores_decide_and_bytes_fill_in() {
    let tokenizer = load(&scored(true, &PIECES));
    assert_eq!(spelled(&tokenizer, "abc"), [" a", "bc"]);
    assert_eq!(spelled(&tokenizer, "ab ab"), [" ab", " ab"]);
    assert_eq!(spelled(&tokenizer, "é"), [" ", "é"]);
    let ids = tokenizer.encode("x→", Specials::AsText);
    assert_eq!(ids.len(), 5, "space, one byte, three bytes");
    assert_eq!(tokenizer.decode(&ids).unwrap(), " x→".as_bytes());
    assert_eq!(tokenizer.encode("", Specials::AsText), [] as [u32; 0]);
    assert_eq!(tokenizer.encode_prompt("a"), [1, 263]);
    assert_eq!(tokenizer.encode("a</s>a", Specials::Parse), [263, 2, 263], "a space after a special token");
    let plain = tokenizer.encode("</s>", Specials::AsText);
    assert!(!plain.contains(&2), "{plain:?}");
    let unknown = load(&scored(false, &PIECES));
    assert_eq!(unknown.encode("ax", Specials::AsText), [7, 0]);
    assert_eq!(unknown.decode(&[7, 0]).unwrap(), b" a");
}

#[test]
fn the_space_before_text_is_the_files_choice() {
    let mut writer = scored(true, &PIECES);
    writer.flag("tokenizer.ggml.add_space_prefix", false).flag("tokenizer.ggml.add_bos_token", false);
    let tokenizer = load(&writer);
    assert_eq!(spelled(&tokenizer, "ab a"), ["ab", " a"]);
    assert!(!tokenizer.adds_space() && !tokenizer.adds_begin());
    assert_eq!(tokenizer.encode_prompt("a"), tokenizer.encode("a", Specials::AsText));
}

#[test]
fn a_token_across_words_is_still_found() {
    let tokenizer = load(&scored(true, &[("▁", -1.0), ("a", -2.0), ("a▁", -3.0), ("a▁a", -4.0)]));
    assert_eq!(spelled(&tokenizer, "a a"), [" ", "a a"]);
}

#[test]
fn llama_3_keeps_a_word_that_is_a_token() {
    let merges = ["b c", "a bc"];
    let whole = |name: &str| load(&byte_pairs(name, &merges, &[("abcd", NORMAL)]));
    assert_eq!(spelled(&whole("llama-bpe"), "abcd"), ["abcd"]);
    assert_eq!(spelled(&whole("qwen2"), "abcd"), ["abc", "d"]);
    let mut writer = byte_pairs("llama-bpe", &merges, &[("<|begin|>", CONTROL)]);
    writer.unsigned("tokenizer.ggml.bos_token_id", 258);
    let tokenizer = load(&writer);
    assert!(tokenizer.adds_begin(), "llama-bpe begins with its token unless the file says otherwise");
    assert_eq!(tokenizer.encode_prompt("abc"), [258, 257]);
}

#[test]
fn added_tokens_are_found_and_the_longest_wins() {
    let more = [("<a>", USER_DEFINED), ("<a><b>", USER_DEFINED), ("<b>", CONTROL), ("<x", USER_DEFINED)];
    let tokenizer = load(&byte_pairs("qwen2", &[], &more));
    assert_eq!(tokenizer.encode("<a><b>", Specials::AsText), [257]);
    assert_eq!(tokenizer.encode("<a><", Specials::AsText), [256, 60]);
    assert_eq!(tokenizer.encode("<b><x", Specials::Parse), [258, 259]);
    assert_eq!(tokenizer.encode("<b>", Specials::AsText), [60, 98, 62]);
}

fn refused(writer: &Writer, reason: &str) {
    let error = Tokenizer::from_bytes(writer.finish()).unwrap_err().to_string();
    assert!(error.contains(reason), "{error:?} does not say {reason:?}");
}

#[test]
fn broken_vocabularies_are_refused_by_name() {
    refused(&byte_pairs("falcon", &[], &[]), "pre-tokenizer \"falcon\"");
    let with_merges = |lines: &[&str]| {
        let mut writer = Writer::new();
        let tokens: Vec<String> = (0..=u8::MAX).map(|byte| byte_character(byte).to_string()).collect();
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        writer.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
        writer.texts("tokenizer.ggml.tokens", &tokens).texts("tokenizer.ggml.merges", &lines);
        writer
    };
    for line in ["a b", "a", "", "q zz", "zz q", "a  b"] {
        refused(&with_merges(&[line]), "unknown token");
    }
    let mut outside = scored(true, &[]);
    outside.unsigned("tokenizer.ggml.eot_token_id", 1_000_000);
    refused(&outside, "eot_token_id names no token");
    let mut short = Writer::new();
    short.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", &["a".to_owned(), "b".to_owned()]);
    refused(&short, "neither a token for each byte");
    short.floats("tokenizer.ggml.scores", &[1.0]);
    refused(&short, "scores is not one 32-bit number");
    let long = "x".repeat(MAX_TOKEN_BYTES + 1);
    refused(&byte_pairs("qwen2", &[], &[(&long, NORMAL)]), "longer than 4096 bytes");
    refused(&byte_pairs("qwen2", &[], &[("", CONTROL)]), "empty");
    let error = Tokenizer::from_bytes(b"GGUF".to_vec()).unwrap_err();
    assert!(matches!(error, ModelError::Malformed(_)));
}

#[test]
fn odd_vocabularies_have_a_meaning() {
    // The first of two equal tokens counts, an empty one is never produced, of two equal merges the first counts.
    let odd = [("twice", NORMAL), ("twice", NORMAL), ("", NORMAL)];
    let tokenizer = load(&byte_pairs("gpt-2", &["a b", "a b", "b c"], &odd));
    assert_eq!(tokenizer.encode("abc", Specials::AsText), [256, 99]);
    assert_eq!(tokenizer.piece(261).unwrap(), b"");
    // A merge may name a token with a purpose of its own; it is then never used.
    let mut writer = Writer::new();
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| byte_character(byte).to_string()).collect();
    tokens.push("ab".to_owned());
    let mut classes = vec![NORMAL; 256];
    classes.push(CONTROL);
    writer.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
    writer.texts("tokenizer.ggml.tokens", &tokens).texts("tokenizer.ggml.merges", &["a b".to_owned()]);
    writer.integers("tokenizer.ggml.token_type", &classes);
    assert_eq!(load(&writer).encode("ab", Specials::AsText), [97, 98]);
    // Scores need not be numbers.
    let strange = [("a", f32::NAN), ("b", f32::INFINITY), ("ab", f32::NEG_INFINITY), ("▁", f32::NAN)];
    let tokenizer = load(&scored(true, &strange));
    assert_eq!(tokenizer.decode(&tokenizer.encode("abab", Specials::AsText)).unwrap(), b" abab");
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in "[a-c A-C\u{e9}0-9'\\n→]{0,40}|.{0,40}") {
        for name in ["qwen2", "llama-bpe", "gpt-2", "deepseek-llm", "deepseek-r1-qwen"] {
            let tokenizer = load(&byte_pairs(name, &["a b", "ab c", "Ġ a", "Ġ Ġ"], &[("<t>", USER_DEFINED)]));
            let ids = tokenizer.encode(&text, Specials::AsText);
            prop_assert_eq!(String::from_utf8(tokenizer.decode(&ids).unwrap()).unwrap(), text.as_str());
        }
        if !text.contains('▁') {
            let tokenizer = load(&scored(true, &PIECES));
            let ids = tokenizer.encode(&text, Specials::AsText);
            let lead = if text.is_empty() { "" } else { " " };
            prop_assert_eq!(String::from_utf8(tokenizer.decode(&ids).unwrap()).unwrap(), format!("{lead}{text}"));
        }
    }
}

fn published() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers");
    if !directory.is_dir() {
        eprintln!("skipped: no published tokenizers beside the checkout");
        return None;
    }
    Some(directory)
}

/// Texts and the ids that the reference gives them, ids without tokens at the beginning or end.
fn cases(directory: &Path, name: &str) -> Vec<(String, Vec<u32>)> {
    let read =
        |ending: &str| std::fs::read_to_string(directory.join(format!("ggml-vocab-{name}.gguf.{ending}"))).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let texts = texts.trim_end_matches('\n').strip_suffix("\n__ggml_vocab_test__").unwrap().to_owned();
    let texts = texts.split("\n__ggml_vocab_test__\n").map(str::to_owned);
    let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    texts.zip(ids).collect()
}

fn check(directory: &Path, name: &str, tokenizer: &Tokenizer) {
    let cases = cases(directory, name);
    assert!(cases.len() > 40, "{name}: {} cases", cases.len());
    for (text, expected) in &cases {
        let ids = tokenizer.encode(text, Specials::AsText);
        assert_eq!(&ids, expected, "{name}: {text:?}");
        let lead = if tokenizer.adds_space() && !text.is_empty() { " " } else { "" };
        assert_eq!(tokenizer.decode(&ids).unwrap(), format!("{lead}{text}").into_bytes(), "{name}");
    }
    println!("{name}: {} cases equal", cases.len());
}

#[test]
fn published_vocabularies_give_the_reference_ids() {
    let Some(directory) = published() else { return };
    for name in ["llama-spm", "gpt-2", "deepseek-llm"] {
        let file = std::fs::read(directory.join(format!("ggml-vocab-{name}.gguf"))).unwrap();
        let tokenizer = Tokenizer::from_bytes(file).unwrap();
        assert_eq!(tokenizer.adds_begin(), name != "gpt-2", "{name}");
        check(&directory, name, &tokenizer);
    }
    let tokenizer = qwen(&directory);
    check(&directory, "qwen2", &tokenizer);
    let ids = tokenizer.encode("<|im_start|>x<tool_call>", Specials::Parse);
    assert_eq!(ids, [151_644, 87, 151_657]);
}

/// The published Qwen2.5 vocabulary as a GGUF file's.
fn qwen(directory: &Path) -> Tokenizer {
    let read = |name: &str| std::fs::read_to_string(directory.join("qwen2.5").join(name)).unwrap();
    let vocabulary: std::collections::HashMap<String, usize> = serde_json::from_str(&read("vocab.json")).unwrap();
    let mut tokens = vec![String::new(); vocabulary.len()];
    vocabulary.into_iter().for_each(|(token, id)| tokens[id] = token);
    let mut classes = vec![NORMAL; tokens.len()];
    let config: serde_json::Value = serde_json::from_str(&read("tokenizer_config.json")).unwrap();
    for (id, token) in config["added_tokens_decoder"].as_object().unwrap() {
        assert_eq!(id.parse::<usize>().unwrap(), tokens.len());
        tokens.push(token["content"].as_str().unwrap().to_owned());
        classes.push(if token["special"] == true { CONTROL } else { USER_DEFINED });
    }
    let merges: Vec<String> =
        read("merges.txt").lines().filter(|line| !line.starts_with("#version")).map(str::to_owned).collect();
    let mut writer = Writer::new();
    writer
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .integers("tokenizer.ggml.token_type", &classes)
        .texts("tokenizer.ggml.merges", &merges);
    Tokenizer::from_bytes(writer.finish()).unwrap()
}
