//! The models that are compared: every architecture in every format, and what stretches rotation.

use obsidian_model::Architecture;
use obsidian_model::gguf::TensorKind;
use obsidian_model::synthetic::{Stretch, Synthetic};

/// A random model and how far its logits may differ.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is, for a table.
    pub name: String,
    /// Its shape and weights.
    pub model: Synthetic,
    /// How far its logits may differ.
    pub tolerance: Tolerance,
}

/// How far logits may differ, in units of their spread.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Root mean square of the differences.
    pub typical: f32,
    /// The largest difference of all tokens at all positions.
    pub largest: f32,
}

/// How far logits may differ for matrices stored as `kind`: little more than the most that was measured over six seeds
/// (`cargo run --bin parity-table 6`).
///
/// - F32: the order of sums, and the exponential function.
/// - F16, BF16: llama.cpp rounds the activations to the weights' format before it multiplies; we do not.
/// - The others: both engines round activations to 8 bits. A difference in the last place before the rounding now and
///   then lands an activation on the next step, which is 10⁵ times as large, and the layers after it round differently
///   in turn. Where that does not happen, the K formats agree like F32 (the test `rounded_alike` demands it). Blocks of
///   32 always differ a little, because llama.cpp also rounds the scale of the activations to half precision; without
///   that, the typical difference was half as large, no less.
pub fn tolerance(kind: TensorKind) -> Tolerance {
    match kind {
        TensorKind::F32 => Tolerance { typical: 2e-6, largest: 1e-5 },
        TensorKind::F16 => Tolerance { typical: 7e-4, largest: 5e-3 },
        TensorKind::BF16 => Tolerance { typical: 6e-3, largest: 3e-2 },
        TensorKind::Q8_0 | TensorKind::Q4_0 | TensorKind::Q5_0 | TensorKind::Q4K | TensorKind::Q6K => {
            Tolerance { typical: 0.02, largest: 0.12 }
        }
    }
}

/// Every architecture in every format.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for architecture in Architecture::ALL {
        for kind in TensorKind::ALL {
            cases.push(case(kind.name(), Synthetic { kind, ..base(architecture) }, tolerance(kind)));
        }
        let tied = Synthetic { kind: TensorKind::F32, tied: true, ..base(architecture) };
        cases.push(case("F32, tied", tied, tolerance(TensorKind::F32)));
        // What the most common published files are: mostly Q4_K, the more sensitive matrices Q6_K.
        let mixed = Synthetic { kind: TensorKind::Q4K, finer_kind: Some(TensorKind::Q6K), ..base(architecture) };
        cases.push(case("Q4_K + Q6_K", mixed, tolerance(TensorKind::Q4K)));
    }
    for (name, stretch) in
        [("factors", Stretch::Factors), ("linear", Stretch::Linear(4.0)), ("yarn", Stretch::Yarn(4.0))]
    {
        for architecture in Architecture::ALL {
            // Only Llama's files have the tensor of factors.
            if stretch != Stretch::Factors || architecture == Architecture::Llama {
                let model = Synthetic { kind: TensorKind::F32, stretch, ..base(architecture) };
                cases.push(case(&format!("F32, {name}"), model, tolerance(TensorKind::F32)));
            }
        }
    }
    cases
}

fn case(name: &str, model: Synthetic, tolerance: Tolerance) -> Case {
    Case { name: format!("{} {name}", model.architecture.name()), model, tolerance }
}

/// Small, but with several layers, shared key heads, random norms, and heads whose size only Qwen 3's files give.
fn base(architecture: Architecture) -> Synthetic {
    Synthetic {
        architecture,
        width: 256,
        layers: 3,
        heads: 8,
        key_heads: 2,
        feed_width: 512,
        vocabulary: 512,
        context: 256,
        head_size: (architecture == Architecture::Qwen3).then_some(64),
        varied_norms: true,
        // Enough for the layers to make up most of the hidden state, little enough for the likely successor to win.
        residual_scale: 0.125,
        tied: false,
        successors: true,
        seed: 1,
        ..Synthetic::default()
    }
}

/// Models of one layer in the formats whose activations both engines round alike.
pub fn rounded_alike(kind: TensorKind, seed: u64) -> Synthetic {
    Synthetic { kind, layers: 1, seed, ..base(Architecture::Llama) }
}

/// A prompt for a random model, which has no language.
pub fn prompt() -> Vec<u32> {
    (0..24).map(|index| index * 37 % 256).collect()
}
