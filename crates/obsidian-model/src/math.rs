//! Transcendental functions whose bits are the same everywhere.
//!
//! Only additions, multiplications, divisions and bit operations, in one written order: the standard
//! library's versions may differ between platforms and releases. The series are truncated Taylor
//! expansions after argument reduction; errors are stated at each function and checked by tests.

use std::f64::consts::{FRAC_PI_2, LOG2_E, SQRT_2};

/// Adding and subtracting this rounds an f32 of magnitude below 2^22 to an integer, ties to even.
const ROUND_F32: f32 = 12_582_912.0;
/// The same for f64, magnitudes below 2^51.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;

/// e^x in single precision within 3 units in the last place; arguments are clamped to −87..88, NaN
/// reads as −87. Free of branches, so that loops over it vectorise.
#[inline(always)]
pub(crate) fn exp_f32(x: f32) -> f32 {
    // ln 2 in two parts: the product of the first with a whole number below 2^9 is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let shifted = x * (LOG2_E as f32) + ROUND_F32;
    let whole = shifted - ROUND_F32;
    let rest = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let mut sum = 1.0 / 5040.0;
    sum = sum * rest + 1.0 / 720.0;
    sum = sum * rest + 1.0 / 120.0;
    sum = sum * rest + 1.0 / 24.0;
    sum = sum * rest + 1.0 / 6.0;
    sum = sum * rest + 0.5;
    sum = sum * rest + 1.0;
    sum = sum * rest + 1.0;
    // The low bits of `shifted` are the whole number in two's complement.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    sum * scale
}

/// e^x in double precision, relative error below 1e-15; arguments are clamped to −700..700, NaN reads
/// as −700.
pub(crate) fn exp(x: f64) -> f64 {
    let x = if x > -700.0 { x } else { -700.0 };
    let x = if x < 700.0 { x } else { 700.0 };
    let whole = (x * LOG2_E + ROUND_F64) - ROUND_F64;
    let rest = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let mut sum = 1.0;
    for term in (1..=14).rev() {
        sum = sum * rest / f64::from(term) + 1.0;
    }
    sum * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}

/// First 32 bits of ln 2, so that products with exponents are exact, and the rest.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Natural logarithm of a positive normal number, relative error below 1e-15 (absolute near 1).
/// Zero, negative, subnormal and NaN arguments read as the smallest positive normal number.
pub(crate) fn ln(x: f64) -> f64 {
    let x = if x >= f64::MIN_POSITIVE { x } else { f64::MIN_POSITIVE };
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m − 1) / (m + 1)).
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for term in (0..12).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (exponent * LN_2_LOW + 2.0 * ratio * sum)
}

/// Sine and cosine of an angle in radians, absolute error below 1e-14 for angles up to 2^20.
pub(crate) fn sin_cos(x: f64) -> (f64, f64) {
    // π/2 in three parts of at most 33 bits, so that products with a quadrant below 2^20 are exact.
    const FIRST: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
    const SECOND: f64 = f64::from_bits(0x3dd0_b461_1a60_0000);
    const THIRD: f64 = f64::from_bits(0x3ba3_198a_2e03_7073);
    let quadrant = (x / FRAC_PI_2 + ROUND_F64) - ROUND_F64;
    let rest = ((x - quadrant * FIRST) - quadrant * SECOND) - quadrant * THIRD;
    let square = rest * rest;
    let mut sine = 1.0;
    let mut cosine = 1.0;
    for term in (1..=9).rev() {
        let twice = f64::from(2 * term);
        sine = 1.0 - sine * square / (twice * (twice + 1.0));
        cosine = 1.0 - cosine * square / (twice * (twice - 1.0));
    }
    sine *= rest;
    match (quadrant as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use super::{LN_2_HIGH, LN_2_LOW, exp, exp_f32, ln, sin_cos};

    /// Angles and arguments spread over many magnitudes.
    fn samples(limit: f64) -> impl Iterator<Item = f64> {
        (0..20_000).map(move |index| (f64::from(index) / 10_000.0 - 1.0) * limit)
    }

    #[test]
    fn they_are_as_exact_as_they_say() {
        assert_eq!(LN_2_HIGH + LN_2_LOW, LN_2);
        for x in samples(600.0) {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "exp {x}");
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 1e-15 * y.ln().abs().max(1.0), "ln {y}");
        }
        for x in samples(1_000_000.0).chain(samples(7.0)) {
            let (sine, cosine) = sin_cos(x);
            assert!((sine - x.sin()).abs() < 1e-14 && (cosine - x.cos()).abs() < 1e-14, "sin_cos {x}");
        }
        for x in samples(86.0).map(|x| x as f32) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp_f32(x)) / exact - 1.0).abs() < 3.0 * f64::from(f32::EPSILON), "exp_f32 {x}");
        }
    }

    #[test]
    fn edges_are_defined() {
        assert_eq!(exp_f32(f32::NAN).to_bits(), exp_f32(-87.0).to_bits());
        assert_eq!(exp_f32(f32::NEG_INFINITY).to_bits(), exp_f32(-87.0).to_bits());
        assert_eq!(exp_f32(0.0), 1.0);
        assert!(exp_f32(f32::INFINITY).is_finite());
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(f64::NAN), ln(0.0));
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
    }

    /// The bits themselves are the contract: a change here is a new numerics id.
    #[test]
    fn bits_are_pinned() {
        let bits: Vec<String> = [0.5, 1.0, 3.25, 123.456]
            .iter()
            .map(|x: &f64| {
                let (sine, cosine) = sin_cos(*x);
                let (sine, cosine) = (sine.to_bits(), cosine.to_bits());
                let single = exp_f32(-*x as f32).to_bits();
                format!("{:016x} {:016x} {sine:016x} {cosine:016x} {single:08x}", exp(*x).to_bits(), ln(*x).to_bits())
            })
            .collect();
        insta::assert_snapshot!(bits.join("\n"));
    }
}
