//! The products of every format: every kernel against the portable one, that one against plain mathematics.

use proptest::prelude::*;

use super::{Activations, Kernel, decode};
use crate::gguf::TensorKind;
use crate::threads::Columns;

/// Formats whose products the kernels compute.
const KINDS: [TensorKind; 5] = [TensorKind::Q8_0, TensorKind::Q4_0, TensorKind::Q5_0, TensorKind::Q4K, TensorKind::Q6K];

#[derive(Clone, Debug)]
struct Case {
    kind: TensorKind,
    rows: usize,
    columns: usize,
    inputs: usize,
    weights: Vec<u8>,
    floats: Vec<f32>,
}

/// Blocks of any bytes, but with half-precision scales whose exponents leave the sums finite.
fn tame(kind: TensorKind, weights: &mut [u8]) {
    let scales: &[usize] = match kind {
        TensorKind::Q4K => &[1, 3],
        TensorKind::Q6K => &[209],
        _ => &[1],
    };
    for block in weights.chunks_exact_mut(kind.block_bytes() as usize) {
        scales.iter().for_each(|at| block[*at] &= 0xbf);
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (proptest::sample::select(&KINDS[..]), 1_usize..7, 1_usize..3, 1_usize..11).prop_flat_map(
        |(kind, rows, blocks, inputs)| {
            let columns = blocks * kind.block_elements() as usize;
            let bytes = rows * blocks * kind.block_bytes() as usize;
            let float = prop_oneof![Just(0.0_f32), -4.0_f32..4.0, -1e-30_f32..1e-30];
            let weights = proptest::collection::vec(any::<u8>(), bytes);
            let floats = proptest::collection::vec(float, inputs * columns);
            (weights, floats).prop_map(move |(mut weights, floats)| {
                tame(kind, &mut weights);
                Case { kind, rows, columns, inputs, weights, floats }
            })
        },
    )
}

fn multiply(kernel: Kernel, case: &Case) -> Vec<f32> {
    let mut activations = Activations::default();
    activations.set(&case.floats, case.columns, kernel, [case.kind]);
    let mut outputs = vec![f32::NAN; case.rows * case.inputs];
    kernel.multiply(case.kind, &case.weights, &activations, &mut Columns::all(&mut outputs, case.inputs));
    outputs
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn products_are_equal_bit_for_bit(case in cases()) {
        let expected = bits(&multiply(Kernel::Portable, &case));
        for kernel in Kernel::available() {
            prop_assert_eq!(&bits(&multiply(kernel, &case)), &expected, "{:?} {}", kernel, case.kind.name());
        }
    }

    /// One input row alone gives the bits that it gives among others.
    #[test]
    fn a_row_does_not_see_the_others(case in cases()) {
        for kernel in Kernel::available() {
            let together = multiply(kernel, &case);
            for input in 0..case.inputs {
                let floats = case.floats[input * case.columns..][..case.columns].to_vec();
                let alone = multiply(kernel, &Case { inputs: 1, floats, ..case.clone() });
                prop_assert_eq!(bits(&alone), bits(&together[input * case.rows..][..case.rows]));
            }
        }
    }

    /// With inputs that need no rounding, a product is the sum of the decoded weights' products.
    #[test]
    fn a_product_is_the_sum_of_products(mut case in cases(), whole in proptest::collection::vec(-126_i8..=126, 512 * 11)) {
        let block = case.kind.block_elements() as usize;
        for (at, (float, whole)) in case.floats.iter_mut().zip(whole).enumerate() {
            *float = if at % block == 0 { 127.0 } else { f32::from(whole) };
        }
        let products = multiply(Kernel::Portable, &case);
        let mut weights = vec![0.0; case.columns];
        let width = case.weights.len() / case.rows;
        for row in 0..case.rows {
            decode(case.kind, &case.weights[row * width..][..width], &mut weights);
            for (input, floats) in case.floats.chunks_exact(case.columns).enumerate() {
                let terms = weights.iter().zip(floats).map(|(weight, float)| f64::from(*weight) * f64::from(*float));
                let exact: f64 = terms.clone().sum();
                // A minimum may cancel most of a weight, and a Q8_0 weight of -128 counts as -127.
                let size: f64 = terms.map(f64::abs).sum::<f64>() + 1e-30;
                let allowed = if case.kind == TensorKind::Q8_0 { 1.0 / 127.0 } else { 1e-4 };
                let product = f64::from(products[input * case.rows + row]);
                prop_assert!((product - exact).abs() <= size * allowed, "{} {product} {exact}", case.kind.name());
            }
        }
    }
}

/// Four and five bits are eight bits with room to spare: the same numbers give the same bits.
#[test]
fn small_blocks_are_q8_0_blocks() {
    let floats: Vec<f32> = (0..64).map(|at| (at as f32 * 0.7).sin()).collect();
    for (kind, bytes) in [(TensorKind::Q4_0, 18), (TensorKind::Q5_0, 22)] {
        let weights = crate::gguf::write::quantise(kind, &floats);
        let mut wide = Vec::new();
        for block in weights.chunks_exact(bytes) {
            let mut one = vec![0.0; 32];
            let unit = [[0, 0x3c].as_slice(), &block[2..]].concat();
            decode(kind, &unit, &mut one);
            wide.extend(&block[..2]);
            wide.extend(one.iter().map(|value| *value as i8 as u8));
        }
        let case = Case { kind, rows: 1, columns: 64, inputs: 1, weights, floats: floats.clone() };
        let expected = Case { kind: TensorKind::Q8_0, weights: wide, ..case.clone() };
        assert_eq!(bits(&multiply(Kernel::Portable, &case)), bits(&multiply(Kernel::Portable, &expected)));
    }
}

#[test]
fn broken_inputs_give_broken_products_everywhere() {
    for kind in KINDS {
        let columns = kind.block_elements() as usize;
        let weights = crate::gguf::write::quantise(kind, &vec![1.0; columns]);
        let mut floats = vec![1.0; columns];
        floats[3] = f32::NAN;
        let case = Case { kind, rows: 1, columns, inputs: 1, weights, floats };
        for kernel in Kernel::available() {
            assert!(multiply(kernel, &case)[0].is_nan(), "{kernel:?} {}", kind.name());
        }
    }
}
