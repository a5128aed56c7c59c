//! The inner loops, in one order of operations for every instruction set.
//!
//! [`portable`] is the definition. The other modules compute the same bits with the machine's vector
//! instructions; tests compare them. Nothing here allocates or knows what a model is.
//!
//! **The product of a Q8_0 row and a Q8 input** (numerics id `obsidian-q8-1`): for each block of 32, the
//! integer sum of lane `l` (0..4) runs over elements `4l..4l+4` and `16+4l..16+4l+4`; a weight of −128
//! counts as −127; the sum becomes f32 (exactly), is multiplied by `weight scale × input scale` (rounded
//! once) and added to the f32 lane `l`; blocks ascend; the result is `(s0 + s1) + (s2 + s3)`.
//! No multiplication is ever fused with an addition. The other formats' products are defined in [`small`],
//! [`q4_k`] and [`q6_k`]; F32, F16 and BF16 rows are products of floats ([`portable::dot`]).

/// The loops over floats that are compiled for each instruction set, for the macro `$with`. Macros, because
/// code gets its caller's instructions only where it is inlined, and closures are not for certain.
macro_rules! for_float_loops {
    ($with:ident) => {
        $with! {
            attend(attention: &mut crate::kernel::portable::Attention<'_>);
            gate(gates: &mut [f32], ups: &[f32]);
            normalise(row: &[f32], weights: &[f32], epsilon: f32, output: &mut [f32]);
            rotate(heads: &mut [f32], head_size: usize, angles: &[(f32, f32)], pairing: crate::architecture::Pairing);
        }
    };
}

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod decode;
#[cfg(test)]
mod formats;
mod input;
pub(crate) mod portable;
mod q4_k;
mod q6_k;
mod small;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
mod wasm;
mod wide;

pub(crate) use activations::Activations;
pub(crate) use decode::decode;
pub(crate) use input::QuantisedRows;
use wide::WideRows;

use crate::gguf::TensorKind;
use crate::threads::Columns;

/// Elements in a quantisation block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a Q8_0 block: a half-precision scale and 32 signed bytes.
pub(crate) const BLOCK_BYTES: usize = 34;
/// Independent partial sums of f32 reductions.
pub(crate) const LANES: usize = 8;

/// An implementation of the inner loops. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust, on any machine.
    Portable,
    /// x86-64 with AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// WebAssembly with simd128 and relaxed SIMD.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
    Wasm,
}

impl Kernel {
    /// The implementations this machine can run, slowest first.
    pub fn available() -> Vec<Self> {
        let mut kernels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::is_supported() {
                kernels.push(Self::Avx2);
            }
            if avx512::is_supported() {
                kernels.push(Self::Avx512);
            }
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
        kernels.push(Self::Wasm);
        kernels
    }

    /// The fastest implementation this machine can run.
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }

    /// Products of every row of `weights`, stored as `kind`, with every row of `inputs`: in the input's
    /// row of `outputs`, in the weight row's column. The inputs must have been set for that kind. (Products of floats are not the kernels' business.)
    pub(crate) fn multiply(self, kind: TensorKind, weights: &[u8], inputs: &Activations, outputs: &mut Columns<'_>) {
        match kind {
            TensorKind::F32 | TensorKind::F16 | TensorKind::BF16 => {}
            TensorKind::Q8_0 => self.multiply_q8(weights, &inputs.blocks, outputs),
            TensorKind::Q4_0 => small::multiply::<{ small::Q4_0_BYTES }>(self, weights, &inputs.blocks, outputs),
            TensorKind::Q5_0 => small::multiply::<{ small::Q5_0_BYTES }>(self, weights, &inputs.blocks, outputs),
            TensorKind::Q4K => q4_k::multiply(self, weights, &inputs.wide, outputs),
            TensorKind::Q6K => q6_k::multiply(self, weights, &inputs.wide, outputs),
        }
    }

    /// Values and scales of whole blocks of `floats`; see [`QuantisedRows`].
    fn quantise(self, floats: &[f32], values: &mut [i8], scales: &mut [f32]) {
        let blocks = floats.as_chunks::<BLOCK>().0.iter().zip(values.as_chunks_mut::<BLOCK>().0).zip(scales);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::quantise(blocks),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::quantise(blocks),
            _ => blocks.for_each(|((block, values), scale)| *scale = input::quantise(block, values)),
        }
    }

    /// Products of every row of `weights` with every row of `inputs`: in the input's row of `outputs`, in the
    /// weight row's column.
    pub(crate) fn multiply_q8(self, weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
        inputs.check(weights, outputs);
        match self {
            Self::Portable => portable::multiply_q8(weights, inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::multiply_q8(weights, inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::multiply_q8(weights, inputs, outputs),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
            Self::Wasm => wasm::multiply_q8(weights, inputs, outputs),
        }
    }
}

macro_rules! dispatch {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        impl Kernel {
            $(
                #[doc = concat!("See [`portable::", stringify!($name), "`].")]
                pub(crate) fn $name(self, $($argument: $kind),*) {
                    match self {
                        #[cfg(target_arch = "x86_64")]
                        Self::Avx2 => avx2::$name($($argument),*),
                        #[cfg(target_arch = "x86_64")]
                        Self::Avx512 => avx512::$name($($argument),*),
                        _ => portable::$name($($argument),*),
                    }
                }
            )*
        }
    };
}

for_float_loops!(dispatch);
