//! The forward pass against a second implementation: double precision, textbook formulas, no cache.

use std::collections::BTreeMap;

use obsidian_model::gguf::{Gguf, TensorKind, Value};
use obsidian_model::synthetic::Synthetic;
use obsidian_model::{Architecture, Lane, Model, Wanted, Workspace};

type Rows = Vec<Vec<f64>>;

/// A model with all its weights as plain matrices of rows.
struct Reference {
    tensors: BTreeMap<String, Rows>,
    heads: usize,
    key_heads: usize,
    layers: usize,
    epsilon: f64,
    halves: bool,
}

fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude =
        if exponent == 0 { fraction * 2_f64.powi(-24) } else { (1024.0 + fraction) * 2_f64.powi(exponent - 25) };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn decode(kind: TensorKind, bytes: &[u8]) -> Vec<f64> {
    match kind {
        TensorKind::F32 => bytes.as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect(),
        TensorKind::F16 => bytes.as_chunks::<2>().0.iter().map(|two| half(u16::from_le_bytes(*two))).collect(),
        TensorKind::Q8_0 => {
            let blocks = bytes.as_chunks::<34>().0.iter();
            let block = |block: &[u8; 34]| {
                let scale = half(u16::from_le_bytes([block[0], block[1]]));
                block[2..].iter().map(|byte| scale * f64::from(*byte as i8)).collect::<Vec<f64>>()
            };
            blocks.flat_map(block).collect()
        }
        TensorKind::BF16 => {
            let float = |two: &[u8; 2]| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(*two)) << 16));
            bytes.as_chunks::<2>().0.iter().map(float).collect()
        }
        TensorKind::Q4_0 | TensorKind::Q5_0 => {
            let size = kind.block_bytes() as usize;
            bytes.chunks_exact(size).flat_map(|block| small(block, size == 22)).collect()
        }
        TensorKind::Q4K => bytes.as_chunks::<144>().0.iter().flat_map(four_bits).collect(),
        TensorKind::Q6K => bytes.as_chunks::<210>().0.iter().flat_map(six_bits).collect(),
    }
}

fn scale(block: &[u8], at: usize) -> f64 {
    half(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Q4_0, and Q5_0 with its fifth bits.
fn small(block: &[u8], fifth: bool) -> Vec<f64> {
    let (numbers, bits) = if fifth { (&block[6..], &block[2..6]) } else { (&block[2..], &block[..0]) };
    let value = |at: usize| {
        let nibble = f64::from(numbers[at % 16] >> (at / 16 * 4) & 15);
        let upper = if fifth { f64::from(bits[at / 8] >> (at % 8) & 1) * 16.0 - 16.0 } else { -8.0 };
        (nibble + upper) * scale(block, 0)
    };
    (0..32).map(value).collect()
}

/// Q4_K, from its description: six-bit scales and minimums packed in twelve bytes.
fn four_bits(block: &[u8; 144]) -> Vec<f64> {
    let packed = &block[4..16];
    let six = |part: usize| match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (packed[part + 4] & 15 | packed[part - 4] >> 6 << 4, packed[part + 4] >> 4 | packed[part] >> 6 << 4),
    };
    let value = |at: usize| {
        let (part_scale, part_minimum) = six(at / 32);
        let number = block[16 + at / 64 * 32 + at % 32] >> (at / 32 % 2 * 4) & 15;
        scale(block, 0) * f64::from(part_scale) * f64::from(number) - scale(block, 2) * f64::from(part_minimum)
    };
    (0..256).map(value).collect()
}

/// Q6_K, from its description.
fn six_bits(block: &[u8; 210]) -> Vec<f64> {
    let value = |at: usize| {
        let (half, quarter, place) = (at / 128, at % 128 / 32, at % 32);
        let lower = block[64 * half + 32 * (quarter % 2) + place] >> (quarter / 2 * 4) & 15;
        let upper = block[128 + 32 * half + place] >> (quarter * 2) & 3;
        scale(block, 208) * f64::from(block[192 + at / 16] as i8) * (f64::from(lower | upper << 4) - 32.0)
    };
    (0..256).map(value).collect()
}

fn product(matrix: &Rows, vector: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
}

/// Rotates every head by the angles of `position`: neighbouring pairs, or (`halves`) an element of the first half
/// with its counterpart in the second.
fn rotate(row: &mut [f64], size: usize, position: usize, halves: bool) {
    for head in row.chunks_exact_mut(size) {
        for pair in 0..size / 2 {
            let (one, other) = if halves { (pair, pair + size / 2) } else { (2 * pair, 2 * pair + 1) };
            let angle = position as f64 * 10_000_f64.powf(-2.0 * pair as f64 / size as f64);
            let (first, second) = (head[one], head[other]);
            head[one] = first * angle.cos() - second * angle.sin();
            head[other] = first * angle.sin() + second * angle.cos();
        }
    }
}

impl Reference {
    fn new(bytes: &[u8]) -> Self {
        let gguf = Gguf::parse(bytes).unwrap();
        let architecture = gguf.value("general.architecture").and_then(|value| value.text(bytes)).unwrap();
        let number = |key: &str| gguf.value(&format!("{architecture}.{key}")).and_then(Value::float).unwrap();
        let tensors = gguf.tensors().iter().map(|(name, tensor)| {
            let flat = decode(tensor.kind, &bytes[tensor.range.clone()]);
            let rows = flat.chunks_exact(tensor.dimensions[0] as usize).map(<[f64]>::to_vec).collect();
            (name.clone(), rows)
        });
        Self {
            tensors: tensors.collect(),
            heads: number("attention.head_count") as usize,
            key_heads: number("attention.head_count_kv") as usize,
            layers: number("block_count") as usize,
            epsilon: number("attention.layer_norm_rms_epsilon"),
            halves: architecture != "llama",
        }
    }

    fn normalise(&self, row: &[f64], weights: &str) -> Vec<f64> {
        let mean = row.iter().map(|value| value * value).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        row.iter().zip(&self.tensors[weights][0]).map(|(value, weight)| value * scale * weight).collect()
    }

    /// The product with a matrix, plus its bias if it has one.
    fn project(&self, name: &str, row: &[f64]) -> Vec<f64> {
        let mut output = product(&self.tensors[&format!("{name}.weight")], row);
        if let Some(bias) = self.tensors.get(&format!("{name}.bias")) {
            output.iter_mut().zip(&bias[0]).for_each(|(value, bias)| *value += bias);
        }
        output
    }

    /// Normalises each head by itself, if the model does.
    fn normalise_heads(&self, row: &mut [f64], size: usize, name: &str) {
        if self.tensors.contains_key(name) {
            row.chunks_exact_mut(size).for_each(|head| head.copy_from_slice(&self.normalise(head, name)));
        }
    }

    /// Attention of one query row over the keys and values of all positions up to its own.
    fn attend(&self, query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
        let size = query.len() / self.heads;
        let mut output = Vec::new();
        for (head, query) in query.chunks_exact(size).enumerate() {
            let from = head / (self.heads / self.key_heads) * size;
            let score = |key: &Vec<f64>| query.iter().zip(&key[from..]).map(|(a, b)| a * b).sum::<f64>();
            let weights: Vec<f64> = keys.iter().map(|key| (score(key) / (size as f64).sqrt()).exp()).collect();
            let total: f64 = weights.iter().sum();
            let value =
                |at: usize| values.iter().zip(&weights).map(|(row, weight)| row[from + at] * weight).sum::<f64>();
            output.extend((0..size).map(|at| value(at) / total));
        }
        output
    }

    fn logits(&self, ids: &[u32]) -> Vec<f64> {
        let mut hidden: Rows = ids.iter().map(|id| self.tensors["token_embd.weight"][*id as usize].clone()).collect();
        let size = self.tensors["blk.0.attn_q.weight"].len() / self.heads;
        for layer in 0..self.layers {
            let name = |tensor: &str| format!("blk.{layer}.{tensor}.weight");
            let matrix = |tensor: &str| &self.tensors[&name(tensor)];
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, row) in hidden.iter_mut().enumerate() {
                let normed = self.normalise(row, &name("attn_norm"));
                let project = |tensor: &str| self.project(&format!("blk.{layer}.{tensor}"), &normed);
                let (mut query, mut key) = (project("attn_q"), project("attn_k"));
                self.normalise_heads(&mut query, size, &name("attn_q_norm"));
                self.normalise_heads(&mut key, size, &name("attn_k_norm"));
                rotate(&mut query, size, position, self.halves);
                rotate(&mut key, size, position, self.halves);
                keys.push(key);
                values.push(project("attn_v"));
                let attended = product(matrix("attn_output"), &self.attend(&query, &keys, &values));
                row.iter_mut().zip(attended).for_each(|(value, more)| *value += more);
                let normed = self.normalise(row, &name("ffn_norm"));
                let gates = product(matrix("ffn_gate"), &normed).into_iter().map(|gate| gate / (1.0 + (-gate).exp()));
                let gated: Vec<f64> =
                    gates.zip(product(matrix("ffn_up"), &normed)).map(|(gate, up)| gate * up).collect();
                let fed = product(matrix("ffn_down"), &gated);
                row.iter_mut().zip(fed).for_each(|(value, more)| *value += more);
            }
        }
        let output = self.tensors.get("output.weight").unwrap_or(&self.tensors["token_embd.weight"]);
        product(output, &self.normalise(&hidden[ids.len() - 1], "output_norm.weight"))
    }
}

/// Largest difference of the logits, in units of their own spread.
fn difference(file: Vec<u8>) -> f64 {
    let ids: Vec<u32> = (0..45).map(|index| index * 37 % 267).collect();
    let expected = Reference::new(&file).logits(&ids);
    let model = Model::from_bytes(file).unwrap();
    let mut cache = model.new_cache();
    let mut workspace = Workspace::new();
    let mut lanes = [Lane { cache: &mut cache, ids: &ids, wanted: Wanted::Last }];
    let logits = model.forward(&mut lanes, &mut workspace).unwrap();
    let row = logits.lane(0).last();
    assert_eq!(row.len(), expected.len());
    let spread = (expected.iter().map(|logit| logit * logit).sum::<f64>() / expected.len() as f64).sqrt();
    let differences = row.iter().zip(&expected).map(|(logit, exact)| (f64::from(*logit) - exact).abs());
    differences.fold(0.0, f64::max) / spread
}

#[test]
fn floats_agree_to_their_precision() {
    for (kind, tied) in [(TensorKind::F32, false), (TensorKind::F16, true)] {
        let found = difference(Synthetic { kind, tied, ..Synthetic::default() }.file());
        assert!(found < 1e-4, "{found}");
    }
}

#[test]
fn every_architecture_and_format_is_close() {
    for architecture in Architecture::ALL {
        for kind in TensorKind::ALL {
            let head_size = (architecture == Architecture::Qwen3).then_some(128);
            let model = Synthetic { architecture, kind, head_size, varied_norms: true, ..wide() };
            let found = difference(model.file());
            let floats = matches!(kind, TensorKind::F32 | TensorKind::F16 | TensorKind::BF16);
            let allowed = if floats { 1e-4 } else { 0.1 };
            assert!(found > 0.0 && found < allowed, "{} {}: {found}", architecture.name(), kind.name());
        }
    }
}

/// Wide enough for blocks of 256.
fn wide() -> Synthetic {
    Synthetic { width: 256, feed_width: 256, layers: 1, ..Synthetic::default() }
}

#[test]
fn eight_bit_activations_stay_close() {
    let found = difference(Synthetic::default().file());
    assert!(found > 0.0 && found < 0.1, "{found}");
    for name in ["obsidian-target.gguf", "obsidian-draft.gguf"] {
        let path = format!("{}/../../models/{name}", env!("CARGO_MANIFEST_DIR"));
        let found = difference(std::fs::read(path).unwrap());
        assert!(found < 0.15, "{name}: {found}");
    }
}
