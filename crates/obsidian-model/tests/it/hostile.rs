//! Broken and hostile files are errors: never a panic, never a large allocation.

use obsidian_model::gguf::write::Writer;
use obsidian_model::gguf::{Gguf, TensorKind};
use obsidian_model::synthetic::{Stretch, Synthetic};
use obsidian_model::{Architecture, ChatMessage, ChatPrompt, Lane, Model, ModelError, Wanted, Workspace};
use proptest::prelude::*;

use crate::rebuild::Rebuilt;

fn header(tensors: u64, entries: u64) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(tensors.to_le_bytes());
    file.extend(entries.to_le_bytes());
    file
}

fn refuse(file: &[u8], reason: &str) {
    let error = Gguf::parse(file).unwrap_err().to_string();
    assert!(error.contains(reason), "{error:?} does not say {reason:?}");
}

#[test]
fn counts_are_not_believed() {
    refuse(b"GGUX", "magic");
    refuse(b"GG", "truncated");
    refuse(&header(u64::MAX, 0), "too many");
    refuse(&header(0, u64::MAX), "too many");
    refuse(&header(60_000, 0), "truncated");
    refuse(&header(0, 60_000), "truncated");
    let mut array = header(0, 1);
    array.extend(1_u64.to_le_bytes());
    array.extend(b"a");
    array.extend(9_u32.to_le_bytes());
    for element in [4_u32, 8, 12] {
        let mut file = array.clone();
        file.extend(element.to_le_bytes());
        file.extend(u64::MAX.to_le_bytes());
        refuse(&file, "truncated");
    }
    let mut nested = array.clone();
    nested.extend(9_u32.to_le_bytes());
    nested.extend(1_u64.to_le_bytes());
    refuse(&nested, "nested");
    let mut version = b"GGUF".to_vec();
    version.extend(2_u32.to_le_bytes());
    refuse(&version, "version 2");
}

#[test]
fn names_are_unique() {
    let mut keys = Writer::new();
    keys.unsigned("a", 1).unsigned("a", 2);
    refuse(&keys.finish(), "twice");
    let mut tensors = Writer::new();
    tensors.tensor("t", &[1], TensorKind::F32, &[0; 4]).tensor("t", &[1], TensorKind::F32, &[0; 4]);
    refuse(&tensors.finish(), "twice");
}

/// A file with one tensor whose header is given field by field.
fn one_tensor(dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut file = header(1, 0);
    file.extend(1_u64.to_le_bytes());
    file.extend(b"t");
    file.extend((dimensions.len() as u32).to_le_bytes());
    dimensions.iter().for_each(|dimension| file.extend(dimension.to_le_bytes()));
    file.extend(kind.to_le_bytes());
    file.extend(offset.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 128, 0);
    file
}

#[test]
fn shapes_and_places_are_checked() {
    assert!(Gguf::parse(&one_tensor(&[32], 0, 0)).is_ok());
    refuse(&one_tensor(&[33], 0, 0), "past the end");
    refuse(&one_tensor(&[1], 0, 128), "past the end");
    refuse(&one_tensor(&[1], 0, u64::MAX - 31), "past the end");
    refuse(&one_tensor(&[1], 0, 4), "misaligned");
    refuse(&one_tensor(&[0], 0, 0), "impossible");
    refuse(&one_tensor(&[31], 8, 0), "impossible");
    refuse(&one_tensor(&[u64::MAX, u64::MAX], 0, 0), "impossible");
    refuse(&one_tensor(&[1 << 62, 2], 0, 0), "impossible");
    refuse(&one_tensor(&[], 0, 0), "0 dimensions");
    refuse(&one_tensor(&[1; 5], 0, 0), "5 dimensions");
    refuse(&one_tensor(&[1], 99, 0), "type 99");
}

#[test]
fn overlapping_tensors_are_refused() {
    let mut writer = Writer::new();
    writer.tensor("a", &[16], TensorKind::F32, &[0; 64]).tensor("b", &[16], TensorKind::F32, &[0; 64]);
    let mut file = writer.finish();
    assert!(Gguf::parse(&file).is_ok());
    // The second tensor's offset is the last field before the data, which is 64-aligned here.
    let at = file.windows(8).rposition(|window| window == 64_u64.to_le_bytes()).unwrap();
    file[at..at + 8].copy_from_slice(&32_u64.to_le_bytes());
    refuse(&file, "overlap");
}

#[test]
fn other_architectures_are_refused_by_name() {
    let mut writer = Writer::new();
    writer.text("general.architecture", "mamba");
    let error = Model::from_bytes(writer.finish()).unwrap_err();
    let message = "architecture \"mamba\"; supported are llama, qwen2, qwen3";
    assert_eq!(error, ModelError::Unsupported(message.to_owned()));
}

/// A small model with one metadata value put in or replaced.
fn changed(architecture: Architecture, key: &str, code: u32, value: &[u8]) -> Result<Model, ModelError> {
    let mut file = Rebuilt::from(&Synthetic { architecture, layers: 1, ..Synthetic::default() }.file());
    file.set(&format!("{}.{key}", architecture.name()), code, value);
    Model::from_bytes(file.write())
}

fn unsigned(key: &str, value: u32) -> Result<Model, ModelError> {
    changed(Architecture::Llama, key, 4, &value.to_le_bytes())
}

fn float(key: &str, value: f32) -> Result<Model, ModelError> {
    changed(Architecture::Qwen2, key, 6, &value.to_le_bytes())
}

fn text(key: &str, value: &str) -> Result<Model, ModelError> {
    let bytes = [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat();
    changed(Architecture::Qwen3, key, 8, &bytes)
}

#[test]
fn absurd_parameters_are_refused() {
    unsigned("context_length", 77).unwrap();
    assert_eq!(unsigned("attention.sliding_window", 0).unwrap().info().context_length, 256);
    assert_eq!(unsigned("attention.sliding_window", 99).unwrap().info().context_length, 99);
    float("rope.scaling.factor", 8.0).unwrap();
    text("rope.scaling.type", "none").unwrap();
    let refused = |result: Result<Model, ModelError>| result.unwrap_err().to_string();
    let mut errors = Vec::new();
    for (key, values) in [
        ("block_count", [0, u32::MAX]),
        ("context_length", [0, u32::MAX]),
        ("embedding_length", [0, u32::MAX]),
        ("embedding_length", [65, 1]),
        ("feed_forward_length", [0, u32::MAX]),
        ("attention.head_count", [0, u32::MAX]),
        ("attention.head_count", [3, 64]),
        ("attention.head_count_kv", [0, 3]),
        ("attention.key_length", [0, u32::MAX]),
        ("attention.key_length", [15, 1 << 17]),
        ("attention.value_length", [0, 8]),
        ("rope.dimension_count", [0, 18]),
        ("rope.dimension_count", [3, u32::MAX]),
        ("expert_count", [8, u32::MAX]),
    ] {
        errors.extend(values.map(|value| format!("{key} {value}: {}", refused(unsigned(key, value)))));
    }
    for (key, values) in [
        ("attention.layer_norm_rms_epsilon", [0.0, f32::NAN]),
        ("rope.freq_base", [0.0, f32::INFINITY]),
        ("rope.freq_base", [-1.0, f32::NAN]),
        ("rope.scaling.factor", [-2.0, f32::NAN]),
        ("rope.scaling.attn_factor", [0.0, f32::INFINITY]),
        ("attention.scale", [0.5, -1.0]),
    ] {
        errors.extend(values.map(|value| format!("{key} {value}: {}", refused(float(key, value)))));
    }
    errors.push(format!("rope.scaling.type: {}", refused(text("rope.scaling.type", "longrope"))));
    errors.push(format!("block_count of text: {}", refused(text("block_count", "2"))));
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn tensors_nobody_uses_and_tensors_of_the_wrong_kind_are_refused() {
    let mut file = Rebuilt::from(&Synthetic::default().file());
    file.tensors.push(("blk.0.attn_extra.weight".to_owned(), vec![4], TensorKind::F32, vec![0; 16]));
    let error = Model::from_bytes(file.write()).unwrap_err();
    assert_eq!(error, ModelError::Unsupported("tensor \"blk.0.attn_extra.weight\"".to_owned()));
    let mut file = Rebuilt::from(&Synthetic::default().file());
    let norm = file.tensors.iter_mut().find(|(name, ..)| name == "output_norm.weight").unwrap();
    (norm.2, norm.3) = (TensorKind::F16, vec![0; 128]);
    let error = Model::from_bytes(file.write()).unwrap_err();
    assert_eq!(error, ModelError::Unsupported("tensor \"output_norm.weight\" is F16, not F32".to_owned()));
    for factor in [0.0, f32::NAN, -1.0] {
        let stretched = Synthetic { stretch: Stretch::Factors, ..Synthetic::default() };
        let mut file = Rebuilt::from(&stretched.file());
        let factors = file.tensors.iter_mut().find(|(name, ..)| name == "rope_freqs.weight").unwrap();
        factors.3[..4].copy_from_slice(&f32::to_le_bytes(factor));
        assert!(matches!(Model::from_bytes(file.write()), Err(ModelError::Malformed(_))), "{factor}");
    }
}

/// Narrow matrices make a small file of a model whose cache would be enormous.
#[test]
fn a_small_file_cannot_ask_for_a_huge_cache() {
    let narrow = Synthetic {
        width: 32,
        heads: 64,
        key_heads: 64,
        head_size: Some(1_024),
        layers: 40,
        feed_width: 32,
        kind: TensorKind::Q4_0,
        ..Synthetic::default()
    };
    let error = Model::from_bytes(narrow.file()).unwrap_err();
    assert_eq!(error, ModelError::Unsupported("keys and values of this size".to_owned()));
}

#[test]
fn broken_weights_are_an_error() {
    let file = Synthetic { kind: TensorKind::F32, ..Synthetic::default() }.file();
    let mut broken = file.clone();
    let at = file.len() - 4;
    broken[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    let model = Model::from_bytes(broken).unwrap();
    let mut cache = model.new_cache();
    let mut lanes = [Lane { cache: &mut cache, ids: &[1, 2], wanted: Wanted::Last }];
    assert_eq!(model.forward(&mut lanes, &mut Workspace::new()).unwrap_err(), ModelError::NotFinite);
    assert_eq!(cache.len(), 0);
}

/// Whatever can be parsed is used as well.
fn exercise(file: Vec<u8>) {
    let Ok(model) = Model::from_bytes(file) else { return };
    let _ = model.render(&ChatPrompt::new(&[ChatMessage::new("user", "hello <|im_end|> world")]));
    let mut cache = model.new_cache();
    let mut lanes = [Lane { cache: &mut cache, ids: &[1, 2, 3], wanted: Wanted::All }];
    let _ = model.forward(&mut lanes, &mut Workspace::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn mutations_never_panic(
        changes in proptest::collection::vec((0.0_f64..1.0, any::<u8>()), 1..12),
        cut in proptest::option::weighted(0.2, 0.0_f64..1.0),
        header_only in any::<bool>(),
    ) {
        let mut file = Synthetic { layers: 1, ..Synthetic::default() }.file();
        let reach = if header_only { 8_000.0 } else { file.len() as f64 };
        for (at, value) in changes {
            let at = (at * reach) as usize;
            file[at] = value;
        }
        if let Some(cut) = cut {
            file.truncate((cut * file.len() as f64) as usize);
        }
        exercise(file);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut file = header(1, 2);
        file.extend(bytes);
        let _ = Gguf::parse(&file);
    }
}
