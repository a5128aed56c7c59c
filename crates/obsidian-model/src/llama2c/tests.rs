use std::path::Path;

use proptest::prelude::*;

use super::{Header, Llama2cError, import};
use crate::gguf::Gguf;

/// A checkpoint of width 8, 2 layers, 2 heads, 1 key head, 300 tokens and context 16, weights counting up.
fn checkpoint(vocabulary: i32) -> Vec<u8> {
    let header = [8, 12, 2, 2, 1, vocabulary, 16];
    let mut bytes: Vec<u8> = header.iter().flat_map(|word: &i32| word.to_le_bytes()).collect();
    let length = header_of(&bytes).length();
    let weights = (length as usize - bytes.len()) / 4;
    bytes.extend((0..weights).flat_map(|index| (index as f32).to_le_bytes()));
    bytes
}

/// The header without the check of the length, which it is to tell.
fn header_of(bytes: &[u8]) -> Header {
    let word = |index: usize| i32::from_le_bytes(bytes[index * 4..][..4].try_into().unwrap());
    let size = |index: usize| u64::from(word(index).unsigned_abs());
    Header {
        width: size(0),
        feed_width: size(1),
        layers: size(2),
        heads: size(3),
        key_heads: size(4),
        vocabulary: size(5),
        context: size(6),
        tied: word(5) > 0,
    }
}

fn tokenizer(size: usize) -> Vec<u8> {
    let mut bytes = 8_i32.to_le_bytes().to_vec();
    for id in 0..size {
        let spelling = match id {
            0 => "<unk>".to_owned(),
            1 => "\n<s>\n".to_owned(),
            2 => "\n</s>\n".to_owned(),
            3..259 => format!("<0x{:02X}>", id - 3),
            _ => format!(" w{id}"),
        };
        bytes.extend((-(id as f32)).to_le_bytes());
        bytes.extend((spelling.len() as i32).to_le_bytes());
        bytes.extend(spelling.as_bytes());
    }
    bytes
}

fn imported(checkpoint: &[u8], tokenizer: &[u8]) -> Result<Vec<u8>, Llama2cError> {
    let mut file = Vec::new();
    import(&mut &*checkpoint, checkpoint.len() as u64, tokenizer, "tiny", &mut file)?;
    Ok(file)
}

fn floats(gguf: &Gguf, file: &[u8], name: &str) -> Vec<f32> {
    let tensor = &gguf.tensors()[name];
    file[tensor.range.clone()].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn every_weight_arrives_under_its_name() {
    for (vocabulary, tensors) in [(300, 20), (-300, 21)] {
        let source = checkpoint(vocabulary);
        let file = imported(&source, &tokenizer(300)).unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!(gguf.tensors().len(), tensors);
        let number = |at: usize| (at as f32, at);
        let (first, mut at) = number(0);
        assert_eq!(floats(&gguf, &file, "token_embd.weight")[0], first);
        at += 300 * 8;
        // Both layers' first norms come one after the other, then both layers' queries.
        assert_eq!(floats(&gguf, &file, "blk.0.attn_norm.weight")[0], at as f32);
        assert_eq!(floats(&gguf, &file, "blk.1.attn_norm.weight")[0], (at + 8) as f32);
        at += 16;
        assert_eq!(floats(&gguf, &file, "blk.1.attn_q.weight")[0], (at + 64) as f32);
        at += 2 * (64 + 32 + 32 + 64) + 16;
        assert_eq!(floats(&gguf, &file, "blk.0.ffn_gate.weight")[0], at as f32);
        assert_eq!(floats(&gguf, &file, "blk.1.ffn_down.weight")[0], (at + 192 + 96) as f32);
        assert_eq!(floats(&gguf, &file, "blk.0.ffn_up.weight")[0], (at + 384) as f32);
        at += 576;
        assert_eq!(floats(&gguf, &file, "output_norm.weight"), (at..at + 8).map(|x| x as f32).collect::<Vec<_>>());
        if vocabulary < 0 {
            // Past the tables of sines and cosines, to the very end.
            let output = floats(&gguf, &file, "output.weight");
            assert_eq!(output[0], (at + 8 + 64) as f32);
            assert_eq!(*output.last().unwrap(), ((source.len() - 28) / 4 - 1) as f32);
        }
    }
}

#[test]
fn the_tokenizer_is_respelled() {
    let file = imported(&checkpoint(300), &tokenizer(300)).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let spellings: Vec<_> = gguf.value("tokenizer.ggml.tokens").unwrap().texts(&file).unwrap().collect();
    assert_eq!(spellings.len(), 300);
    assert_eq!(&spellings[..4], [b"<unk>".as_slice(), b"<s>", b"</s>", b"<0x00>"]);
    assert_eq!(spellings[299], "▁w299".as_bytes());
    let classes: Vec<_> = gguf.value("tokenizer.ggml.token_type").unwrap().integers(&file).unwrap().collect();
    assert_eq!((&classes[..4], classes[258], classes[259]), ([2, 3, 3, 6].as_slice(), 6, 1));
    assert_eq!(gguf.value("tokenizer.ggml.add_bos_token").unwrap().unsigned(), Some(1));
}

#[test]
fn what_is_no_checkpoint_says_why() {
    let good = checkpoint(300);
    let changed = |word: usize, value: i32| {
        let mut bytes = good.clone();
        bytes[word * 4..][..4].copy_from_slice(&value.to_le_bytes());
        imported(&bytes, &tokenizer(300)).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [
            imported(&good[..20], &[]).unwrap_err().to_string(),
            imported(&good[..good.len() - 4], &tokenizer(300)).unwrap_err().to_string(),
            imported(&[good.as_slice(), &[0]].concat(), &tokenizer(300)).unwrap_err().to_string(),
            changed(0, -8),
            changed(0, i32::MAX),
            changed(0, 0x616b_3432),
            changed(2, 100_000),
            changed(3, 3),
            changed(4, 0),
            changed(5, i32::MIN),
            changed(6, i32::MAX),
        ]
        .join("\n"),
        @r"
    not a llama2.c checkpoint: it is shorter than its header
    not a llama2.c checkpoint: its header asks for 13884 bytes and the file has 13880; fetch it again if it is cut short
    not a llama2.c checkpoint: its header asks for 13884 bytes and the file has 13885; fetch it again if it is cut short
    not a llama2.c checkpoint: its width is -8, not from 1 to 131072
    not a llama2.c checkpoint: its width is 2147483647, not from 1 to 131072
    the checkpoint has llama2.c's layout 1 or 2: export the model again with `--version 0`
    not a llama2.c checkpoint: its number of layers is 100000, not from 1 to 512
    not a llama2.c checkpoint: 3 heads and 1 key heads do not divide a width of 8
    not a llama2.c checkpoint: its number of key heads is 0, not from 1 to 131072
    not a llama2.c checkpoint: its vocabulary is 2147483647, not from 1 to 1048576
    not a llama2.c checkpoint: its context length is 2147483647, not from 1 to 1048576
    "
    );
    let mut broken = good.clone();
    let at = broken.len() - 400;
    broken[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let reason = imported(&broken, &tokenizer(300)).unwrap_err().to_string();
    assert!(reason.contains("blk.1.ffn_up.weight"), "{reason}");
    let claimed = import(&mut &good[..1_000], good.len() as u64, &tokenizer(300), "tiny", &mut Vec::new());
    assert!(claimed.unwrap_err().to_string().contains("too early"));
}

#[test]
fn what_is_no_tokenizer_says_why() {
    let refused = |tokenizer: &[u8]| imported(&checkpoint(300), tokenizer).unwrap_err().to_string();
    let good = tokenizer(300);
    let mut long = good.clone();
    long[8..12].copy_from_slice(&i32::MAX.to_le_bytes());
    let mut negative = good.clone();
    negative[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    let mut unscored = good.clone();
    unscored[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let mut binary = good.clone();
    binary[12] = 0xff;
    insta::assert_snapshot!(
        [
            refused(&[]),
            refused(&good[..good.len() - 1]),
            refused(&tokenizer(299)),
            refused(&tokenizer(301)),
            refused(&long),
            refused(&negative),
            refused(&unscored),
            refused(&binary),
        ]
        .join("\n"),
        @r"
    not the checkpoint's llama2.c tokenizer: it is empty
    not the checkpoint's llama2.c tokenizer: it ends at token 299, and the checkpoint has 300 tokens
    not the checkpoint's llama2.c tokenizer: it ends at token 299, and the checkpoint has 300 tokens
    not the checkpoint's llama2.c tokenizer: it has more than the checkpoint's 300 tokens
    not the checkpoint's llama2.c tokenizer: token 0 has an impossible length
    not the checkpoint's llama2.c tokenizer: token 0 has an impossible length
    not the checkpoint's llama2.c tokenizer: token 0 has no finite score
    not the checkpoint's llama2.c tokenizer: token 0 is not UTF-8
    "
    );
}

/// stories260K and its tokenizer, where the shared data lies beside the checkout.
#[test]
fn real_checkpoints_are_imported() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/lm");
    let Ok(tokenizer) = std::fs::read(folder.join("tok512.bin")) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    for (name, feed) in [("stories260K.bin", 172), ("llama2xs_vocab512.bin", 192)] {
        let source = std::fs::read(folder.join(name)).unwrap();
        let file = imported(&source, &tokenizer).unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!(gguf.tensors().len(), 2 + 5 * 9);
        assert_eq!(gguf.tensors()["blk.4.ffn_up.weight"].dimensions, [64, feed]);
        let first = gguf.tensors()["token_embd.weight"].range.start;
        assert_eq!(file[first..first + 512 * 64 * 4], source[28..28 + 512 * 64 * 4]);
    }
}

proptest! {
    #[test]
    fn mutations_never_panic(
        changes in proptest::collection::vec((0_usize..100, any::<u8>()), 1..6),
        tokenizer_changes in proptest::collection::vec((0.0_f64..1.0, any::<u8>()), 0..6),
        cut in proptest::option::of(0.0_f64..1.0),
    ) {
        let (mut file, mut words) = (checkpoint(300), tokenizer(300));
        for (at, value) in changes {
            file[at] = value;
        }
        for (at, value) in tokenizer_changes {
            let at = (at * words.len() as f64) as usize;
            words[at] = value;
        }
        if let Some(cut) = cut {
            file.truncate((cut * file.len() as f64) as usize);
        }
        if let Ok(file) = imported(&file, &words) {
            prop_assert!(Gguf::parse(&file).is_ok());
        }
    }
}
