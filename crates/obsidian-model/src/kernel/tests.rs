//! Every kernel against the portable one, and the portable one against plain mathematics.

use proptest::prelude::*;

use super::portable::{self, Attention};
use super::{BLOCK, BLOCK_BYTES, Kernel, QuantisedRows};
use crate::cache::{CacheShape, KvCache};
use crate::half;
use crate::threads::Columns;

/// Q8_0 rows from raw bytes, −128 included; scales are any half-precision bits with a small exponent.
fn weights(rows: usize, blocks: usize) -> impl Strategy<Value = Vec<u8>> {
    let block = (any::<u16>(), proptest::collection::vec(prop_oneof![Just(0x80_u8), any::<u8>()], BLOCK));
    let block = block.prop_map(|(scale, values)| {
        let mut bytes = (scale & 0xbfff).to_le_bytes().to_vec();
        bytes.extend(values);
        bytes
    });
    proptest::collection::vec(block, rows * blocks).prop_map(|blocks| blocks.concat())
}

fn floats(count: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(prop_oneof![Just(0.0_f32), -4.0_f32..4.0, -1e-30_f32..1e-30], count)
}

type Case = (usize, usize, usize, Vec<u8>, Vec<f32>);

fn cases() -> impl Strategy<Value = Case> {
    (1_usize..12, prop_oneof![4 => 1_usize..5, 1 => 8_usize..18], prop_oneof![8 => 1_usize..20, 1 => 60_usize..75])
        .prop_flat_map(|(rows, blocks, inputs)| {
            (Just(rows), Just(blocks), Just(inputs), weights(rows, blocks), floats(inputs * blocks * BLOCK))
        })
}

fn multiply(kernel: Kernel, (rows, blocks, inputs, weights, floats): &Case) -> Vec<f32> {
    let mut quantised = QuantisedRows::default();
    quantised.set(floats, blocks * BLOCK, kernel);
    let mut outputs = vec![f32::NAN; rows * inputs];
    kernel.multiply_q8(weights, &quantised, &mut Columns::all(&mut outputs, *inputs));
    outputs
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn products_are_equal_bit_for_bit(case in cases()) {
        let expected = bits(&multiply(Kernel::Portable, &case));
        for kernel in Kernel::available() {
            prop_assert_eq!(&bits(&multiply(kernel, &case)), &expected, "{:?}", kernel);
        }
    }

    #[test]
    fn a_product_is_the_sum_of_products(case in cases()) {
        let (rows, blocks, inputs, weights, floats) = &case;
        let mut quantised = QuantisedRows::default();
        quantised.set(floats, blocks * BLOCK, Kernel::Portable);
        let products = multiply(Kernel::Portable, &case);
        for input in 0..*inputs {
            for row in 0..*rows {
                let (mut exact, mut size) = (0.0_f64, 0.0_f64);
                for block in 0..*blocks {
                    let bytes = &weights[(row * blocks + block) * BLOCK_BYTES..][..BLOCK_BYTES];
                    let scale = f64::from(half::to_f32(u16::from_le_bytes([bytes[0], bytes[1]])));
                    let scale = scale * f64::from(quantised.scales(input)[block]);
                    for (at, value) in quantised.values(input)[block * BLOCK..][..BLOCK].iter().enumerate() {
                        let weight = f64::from((bytes[2 + at] as i8).max(-127));
                        exact += weight * f64::from(*value) * scale;
                        size += (weight * f64::from(*value) * scale).abs();
                    }
                }
                let product = f64::from(products[input * rows + row]);
                prop_assert!((product - exact).abs() <= size * 1e-5 + 1e-37, "{} {}", product, exact);
            }
        }
    }

    #[test]
    fn attention_and_gates_are_equal_bit_for_bit(
        positions in 1_usize..100,
        (head_size, heads) in (prop_oneof![Just(8_usize), Just(34), Just(64)], 1_usize..8),
        values in proptest::collection::vec(-3.0_f32..3.0, 1_000),
    ) {
        let shape = CacheShape { layers: 1, heads: 1, head_size, context: 128 };
        let mut cache = KvCache::new(shape);
        cache.reserve(128).unwrap();
        let value = |position: usize, at: usize| values[(position * 101 + at * 7) % values.len()];
        for position in 0..128 {
            let row = |offset: usize| (0..head_size).map(|at| value(position, at + offset)).collect::<Vec<_>>();
            cache.store(0, position, &row(0), &row(500));
        }
        let queries = &values[..head_size * heads];
        let attend = |kernel: Kernel| {
            let mut outputs = vec![0.0; queries.len()];
            kernel.attend(&mut Attention {
                queries, head_size, slabs: cache.slabs(0, 0), positions, scale: 0.1, scores: &mut Vec::new(),
                outputs: &mut outputs,
            });
            outputs
        };
        let gate = |kernel: Kernel| {
            let mut gates = values[..333].to_vec();
            kernel.gate(&mut gates, &values[333..666]);
            gates
        };
        let (attended, gated) = (attend(Kernel::Portable), gate(Kernel::Portable));
        for kernel in Kernel::available() {
            prop_assert_eq!(bits(&attend(kernel)), bits(&attended), "{:?}", kernel);
            prop_assert_eq!(bits(&gate(kernel)), bits(&gated), "{:?}", kernel);
        }
        for head in 0..heads {
            let query = &queries[head * head_size..][..head_size];
            // Plain softmax attention in double precision.
            let score = |position: usize| (0..head_size).map(|at| f64::from(query[at] * value(position, at))).sum::<f64>();
            let scores: Vec<f64> = (0..positions).map(|position| (score(position) * 0.1).exp()).collect();
            let total: f64 = scores.iter().sum();
            for at in 0..head_size {
                let exact: f64 = (0..positions).map(|position| scores[position] * f64::from(value(position, at + 500))).sum();
                let attended = f64::from(attended[head * head_size + at]);
                prop_assert!((attended - exact / total).abs() < 1e-3, "{attended} {}", exact / total);
            }
        }
    }
}

#[test]
fn a_weight_of_minus_128_counts_as_minus_127() {
    let mut bytes = half::from_f32(1.0).to_le_bytes().to_vec();
    bytes.extend([0x80; BLOCK]);
    for kernel in Kernel::available() {
        for sign in [1.0_f32, -1.0] {
            let case = (1, 1, 1, bytes.clone(), vec![127.0 * sign; BLOCK]);
            assert_eq!(multiply(kernel, &case), [-127.0 * 127.0 * 32.0 * sign], "{kernel:?}");
        }
    }
}

#[test]
fn broken_inputs_give_broken_products_everywhere() {
    let mut bytes = half::from_f32(1.0).to_le_bytes().to_vec();
    bytes.extend([1; BLOCK]);
    for kernel in Kernel::available() {
        let mut floats = vec![1.0; BLOCK];
        floats[3] = f32::NAN;
        assert!(multiply(kernel, &(1, 1, 1, bytes.clone(), floats))[0].is_nan(), "{kernel:?}");
    }
}

#[test]
fn normalising_gives_a_mean_square_of_one() {
    let row: Vec<f32> = (0..100).map(|index| (index as f32 - 31.0) / 7.0).collect();
    let mut output = vec![0.0; 100];
    portable::normalise(&row, &[1.0; 100], 1e-6, &mut output);
    assert!((portable::dot(&output, &output) / 100.0 - 1.0).abs() < 1e-5);
}
