//! What outside input is fed to by fuzzers, and by property tests: bodies that must end without a panic, a hang or an
//! allocation that the input's length does not justify, whatever the bytes are.

use crate::architecture::Architecture;
use crate::forward::{Lane, Wanted, Workspace};
use crate::gguf::{Gguf, TensorKind};
use crate::llama2c;
use crate::model::Model;
use crate::synthetic::{Stretch, Synthetic};

/// Models with more weights are parsed but not run: a pass over them takes long rather than finding anything.
const MAX_PARAMETERS: u64 = 1 << 20;

/// Parses `data` as a model file; what parses is read through, and run if it is small.
pub fn gguf(data: &[u8]) {
    let Ok(file) = Gguf::parse(data) else { return };
    for (_, value, range) in file.metadata() {
        let _ = (value.unsigned(), value.float(), value.text(data), data.get(range));
        let _ = (value.texts(data).map(Iterator::count), value.integers(data).map(Iterator::count));
    }
    let Ok(model) = Model::from_bytes(data.to_vec()) else { return };
    if model.info().parameters > MAX_PARAMETERS {
        return;
    }
    let mut cache = model.new_cache();
    let last = model.info().vocabulary_size.saturating_sub(1);
    let mut lanes = [Lane { cache: &mut cache, ids: &[0, last], wanted: Wanted::All }];
    let _ = model.forward(&mut lanes, &mut Workspace::new());
}

/// Small valid model files to mutate: every architecture, every format, every stretch of rotation.
pub fn gguf_seeds() -> Vec<Vec<u8>> {
    let stretches = [Stretch::None, Stretch::Factors, Stretch::Linear(2.0), Stretch::Yarn(4.0)];
    let architectures = Architecture::ALL.into_iter().cycle();
    let kinds = TensorKind::ALL.into_iter().zip(architectures).zip(stretches.into_iter().cycle());
    let seed = |((kind, architecture), stretch): ((TensorKind, Architecture), Stretch)| {
        let width = kind.block_elements().max(32) as u32;
        let stretch = if architecture == Architecture::Llama { stretch } else { Stretch::None };
        let head_size = (architecture == Architecture::Qwen3).then_some(width / 2);
        Synthetic {
            architecture,
            kind,
            stretch,
            head_size,
            width,
            feed_width: width,
            layers: 1,
            heads: 2,
            key_heads: 1,
            vocabulary: 267,
            tied: true,
            ..Synthetic::default()
        }
        .file()
    };
    kinds.map(seed).collect()
}

/// Imports a llama2.c checkpoint and its tokenizer, whose border the first four bytes of `data` name.
pub fn llama2c(data: &[u8]) {
    let Some((border, files)) = data.split_first_chunk::<4>() else { return };
    let border = u32::from_le_bytes(*border) as usize % (files.len() + 1);
    let (checkpoint, tokenizer) = files.split_at(border);
    let mut file = Vec::new();
    if llama2c::import(&mut &*checkpoint, checkpoint.len() as u64, tokenizer, "fuzzed", &mut file).is_ok() {
        gguf(&file);
    }
}

/// A small checkpoint with its tokenizer to mutate, with and without an output matrix of its own.
pub fn llama2c_seeds() -> Vec<Vec<u8>> {
    let seed = |vocabulary: i32| {
        let (width, feed, tokens) = (4, 4, vocabulary.unsigned_abs() as usize);
        let weights =
            tokens * width * if vocabulary < 0 { 2 } else { 1 } + width * (3 + 4 * width + 3 * feed) + 4 * width;
        let header = [width as i32, feed as i32, 1, 1, 1, vocabulary, 4];
        let mut checkpoint: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        checkpoint.resize(checkpoint.len() + weights * 4, 0);
        let mut tokenizer = 8_i32.to_le_bytes().to_vec();
        for id in 0..tokens {
            let spelling = if (3..259).contains(&id) { format!("<0x{:02X}>", id - 3) } else { format!(" {id}") };
            tokenizer.extend(0.5_f32.to_le_bytes());
            tokenizer.extend((spelling.len() as i32).to_le_bytes());
            tokenizer.extend(spelling.as_bytes());
        }
        [(checkpoint.len() as u32).to_le_bytes().to_vec(), checkpoint, tokenizer].concat()
    };
    vec![seed(262), seed(-262)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{gguf, gguf_seeds, llama2c, llama2c_seeds};
    use crate::model::Model;

    #[test]
    fn seeds_are_models() {
        for seed in gguf_seeds() {
            assert!(Model::from_bytes(seed).unwrap().info().parameters <= super::MAX_PARAMETERS);
        }
    }

    #[test]
    fn llama2c_seeds_are_imported() {
        for seed in llama2c_seeds() {
            let (border, files) = seed.split_first_chunk::<4>().unwrap();
            let (checkpoint, tokenizer) = files.split_at(u32::from_le_bytes(*border) as usize);
            let mut file = Vec::new();
            let length = checkpoint.len() as u64;
            crate::llama2c::import(&mut &*checkpoint, length, tokenizer, "seed", &mut file).unwrap();
            assert_eq!(Model::from_bytes(file).unwrap().info().vocabulary_size, 262);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn llama2c_survives_mutations(
            seed in 0_usize..2,
            changes in proptest::collection::vec((any::<bool>(), 0.0_f64..1.0, any::<u8>()), 0..8),
            cut in proptest::option::weighted(0.1, 0.0_f64..1.0),
        ) {
            let mut file = llama2c_seeds().swap_remove(seed);
            for (anywhere, at, value) in changes {
                let at = (at * if anywhere { file.len() } else { 40 } as f64) as usize;
                file[at] = value;
            }
            if let Some(cut) = cut {
                file.truncate((cut * file.len() as f64) as usize);
            }
            llama2c(&file);
        }

        /// Most changes go into the header, where there is something to misread.
        #[test]
        fn gguf_survives_mutations(
            seed in 0_usize..8,
            changes in proptest::collection::vec((any::<bool>(), 0.0_f64..1.0, any::<u8>()), 0..12),
            extreme in proptest::option::of((0.0_f64..1.0, prop_oneof![Just(0_u64), Just(u64::MAX), Just(1 << 31), any::<u64>()])),
            cut in proptest::option::weighted(0.2, 0.0_f64..1.0),
        ) {
            let mut file = gguf_seeds().swap_remove(seed);
            let place = |at: f64, anywhere: bool, length: usize| (at * if anywhere { length } else { length.min(6_000) } as f64) as usize;
            for (anywhere, at, value) in changes {
                let at = place(at, anywhere, file.len());
                file[at] = value;
            }
            if let Some((at, value)) = extreme {
                let at = place(at, false, file.len() - 8);
                file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            if let Some(cut) = cut {
                file.truncate((cut * file.len() as f64) as usize);
            }
            gguf(&file);
        }

        #[test]
        fn gguf_survives_anything(mut bytes in proptest::collection::vec(any::<u8>(), 24..400)) {
            bytes[..8].copy_from_slice(b"GGUF\x03\0\0\0");
            bytes[8..24].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
            gguf(&bytes);
        }
    }
}
