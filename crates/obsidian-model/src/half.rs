//! IEEE half precision by integer arithmetic, the same on every machine.

/// Moves a half-precision exponent to its place in single precision.
pub(crate) const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);

/// Half to single precision. Infinities and NaN, which no sane scale has, read as large finite numbers
/// (exponent 31 is treated like any other): one rule that every kernel can follow cheaply.
#[inline(always)]
pub(crate) fn to_f32(bits: u16) -> f32 {
    // The product with a power of two is exact, for subnormals too.
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * TWO_TO_112;
    f32::from_bits(magnitude.to_bits() | (u32::from(bits & 0x8000) << 16))
}

/// Single to half precision, to nearest even; magnitudes past 65,504 become 65,504, NaN becomes 0.
pub(crate) fn from_f32(value: f32) -> u16 {
    if value.is_nan() {
        return 0;
    }
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = value.abs().min(65_504.0);
    // Adding this power of two leaves exactly the bits that half precision keeps; the addition rounds.
    let exponent = (magnitude.to_bits() >> 23).max(113);
    let rounder = f32::from_bits((exponent + 13) << 23);
    let rounded = (magnitude + rounder) - rounder;
    let bits = (rounded / TWO_TO_112).to_bits() >> 13;
    sign | (bits.min(0x7bff) as u16)
}

/// The shortened single precision called bfloat16, to single precision: its bits are the upper half.
#[inline(always)]
pub(crate) fn from_brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Single precision to bfloat16, to nearest even; NaN becomes 0.
pub(crate) fn to_brain(value: f32) -> u16 {
    if value.is_nan() {
        return 0;
    }
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::{from_brain, from_f32, to_brain, to_f32};

    #[test]
    fn every_brain_number_survives_the_round_trip() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7f80 != 0x7f80) {
            assert_eq!(to_brain(from_brain(bits)), bits);
        }
        assert_eq!(to_brain(1.0 + 1.0 / 256.0), 0x3f80, "half way goes to even");
        assert_eq!(to_brain(1.0 + 3.0 / 256.0), 0x3f82, "half way goes to even");
    }

    #[test]
    fn every_finite_half_survives_the_round_trip() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(from_f32(to_f32(bits)), bits);
        }
        assert_eq!(to_f32(0x3c00), 1.0);
        assert_eq!(to_f32(0x0001), 2.0_f32.powi(-24));
        assert_eq!(from_f32(1.0 + 1.0 / 2048.0), 0x3c00, "half way goes to even");
        assert_eq!(from_f32(1e9), 0x7bff);
    }
}
