//! How fast each pair of a head turns with the position, from a file's metadata.
//!
//! Source: the metadata keys of the GGUF specification; YaRN after Peng et al., 2023 (arXiv 2309.00071),
//! with the roundings that GGUF's own engine uses.

use std::f64::consts::PI;

use crate::architecture::{Architecture, Pairing};
use crate::error::ModelError;
use crate::gguf::{Gguf, Value};
use crate::math;

/// Rotation of queries and keys.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    pub(crate) pairing: Pairing,
    /// Radians per position of each rotated pair.
    pub(crate) frequencies: Vec<f64>,
    /// Factor on cosine and sine; 1 unless the context was stretched by YaRN.
    pub(crate) magnitude: f64,
}

/// The keys under an architecture's prefix.
struct Keys<'file> {
    gguf: &'file Gguf,
    bytes: &'file [u8],
    prefix: &'static str,
}

impl<'file> Keys<'file> {
    fn value(&self, key: &str) -> Option<&'file Value> {
        self.gguf.value(&format!("{}.rope.{key}", self.prefix))
    }

    /// A finite number from `low` to `high`, or `default` if the file has none.
    fn number(&self, key: &str, default: f64, low: f64, high: f64) -> Result<f64, ModelError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let value = value.float().filter(|value| (low..=high).contains(value));
        value.ok_or_else(|| ModelError::malformed(format!("{}.rope.{key} is out of range", self.prefix)))
    }

    fn text(&self, key: &str) -> Option<&'file str> {
        self.value(key).map(|value| value.text(self.bytes).unwrap_or("(not text)"))
    }
}

impl Rope {
    /// Reads the rotation of heads of `head_size`, trained on `context` positions. `factors` divide the
    /// frequencies (Llama 3's own scaling comes as a tensor of these).
    pub(crate) fn read(
        gguf: &Gguf,
        bytes: &[u8],
        architecture: Architecture,
        head_size: usize,
        context: usize,
        factors: impl FnOnce(usize) -> Result<Option<Vec<f32>>, ModelError>,
    ) -> Result<Self, ModelError> {
        let keys = Keys { gguf, bytes, prefix: architecture.name() };
        let rotated = keys.number("dimension_count", head_size as f64, 0.0, head_size as f64)?;
        if rotated < 2.0 || rotated % 2.0 != 0.0 {
            return Err(ModelError::malformed(format!("{}.rope.dimension_count is out of range", keys.prefix)));
        }
        let pairs = rotated as usize / 2;
        let base = keys.number("freq_base", 10_000.0, 1.0, 1e12)?;
        let step = math::ln(base) * 2.0 / rotated;
        let mut frequencies: Vec<f64> = (0..pairs).map(|pair| math::exp(-(pair as f64) * step)).collect();
        if let Some(factors) = factors(pairs)? {
            if !factors.iter().all(|factor| (1e-3..=1e6).contains(factor)) {
                return Err(ModelError::malformed("rope factors are out of range"));
            }
            frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= f64::from(factor));
        }
        let magnitude = scale(&keys, &mut frequencies, base, context)?;
        Ok(Self { pairing: architecture.pairing(), frequencies, magnitude })
    }
}

/// Stretches the frequencies for longer contexts as the file asks; returns the factor on cosine and sine.
fn scale(keys: &Keys<'_>, frequencies: &mut [f64], base: f64, context: usize) -> Result<f64, ModelError> {
    // Files from before the key `scaling.factor` have `scale_linear`; 0 means none in either.
    let old = keys.number("scale_linear", 0.0, 0.0, 1e6)?;
    let factor = keys.number("scaling.factor", old, 0.0, 1e6)?;
    let factor = if factor == 0.0 { 1.0 } else { factor };
    let attention = keys.number("scaling.attn_factor", 1.0, 1e-3, 1e3)?;
    match keys.text("scaling.type").unwrap_or("linear") {
        "none" => Ok(attention),
        "linear" => {
            frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            Ok(attention)
        }
        "yarn" => Ok(attention * stretch(keys, frequencies, base, context, factor)?),
        other => {
            let message = format!("rope scaling {other:?}; supported are none, linear, yarn");
            Err(ModelError::unsupported(message))
        }
    }
}

/// YaRN: slow pairs are divided by `factor`, fast ones kept, those between blended.
fn stretch(
    keys: &Keys<'_>,
    frequencies: &mut [f64],
    base: f64,
    context: usize,
    factor: f64,
) -> Result<f64, ModelError> {
    if factor < 1.0 || base <= 1.0 {
        return Err(ModelError::malformed("rope parameters are out of range for yarn"));
    }
    let original = keys.number("scaling.original_context_length", context as f64, 1.0, 1e9)?;
    let share = keys.number("scaling.yarn_ext_factor", 1.0, 0.0, 1.0)?;
    let fast = keys.number("scaling.yarn_beta_fast", 32.0, 1e-3, 1e6)?;
    let slow = keys.number("scaling.yarn_beta_slow", 1.0, 1e-3, 1e6)?;
    let dimensions = frequencies.len() as f64 * 2.0;
    // The pair that turns `turns` times over the original context.
    let pair_of = |turns: f64| dimensions * math::ln(original / (turns * 2.0 * PI)) / (2.0 * math::ln(base));
    let first = pair_of(fast).floor().max(0.0);
    let last = pair_of(slow).ceil().min(dimensions - 1.0);
    for (pair, frequency) in frequencies.iter_mut().enumerate() {
        let ramp = (pair as f64 - first) / (last - first).max(0.001);
        let kept = (1.0 - ramp.clamp(0.0, 1.0)) * share;
        *frequency = *frequency / factor * (1.0 - kept) + *frequency * kept;
    }
    Ok(if share == 0.0 { 1.0 } else { 1.0 + 0.1 * math::ln(factor) })
}
