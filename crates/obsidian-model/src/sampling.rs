//! Picks the next token from logits: greedy, or temperature, top-k and top-p with coupled noise.
//!
//! The pick is `argmax(log p + g)`: exactly a draw from the processed distribution p, and the same draw
//! on every machine that has the same logits, seed, choice and position.

use crate::math;
use crate::noise::{LARGEST_GUMBEL, Noise};

/// How tokens are picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 (or less, or NaN) is greedy.
    pub temperature: f32,
    /// Keep the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose mass reaches `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Names the noise.
    pub seed: u64,
    /// Index of the choice within the request.
    pub choice: u32,
}

/// Picks tokens under one [`Sampling`]. Holds scratch memory only: the same arguments give the same
/// token whatever was picked before.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    noise: Noise,
    kept: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler for one choice of one request.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, noise: Noise::new(sampling.seed, sampling.choice), kept: Vec::new() }
    }

    /// The sampling it was made with.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The token for the absolute index `position` (the prompt's tokens counted).
    ///
    /// Logits that are NaN count as negative infinity. Equal scores: the smallest id wins.
    pub fn pick(&mut self, logits: &[f32], position: u32) -> u32 {
        if self.sampling.temperature.is_nan() || self.sampling.temperature <= 0.0 {
            return greedy(logits);
        }
        self.keep(logits);
        let temperature = f64::from(self.sampling.temperature);
        let mut best = (f64::NEG_INFINITY, greedy(logits));
        // Ascending ids: noise words lie in this order, and the first of equals is the smallest id.
        for (logit, token) in &self.kept {
            let scaled = f64::from(*logit) / temperature;
            if scaled + LARGEST_GUMBEL < best.0 {
                continue;
            }
            let score = scaled + self.noise.gumbel(position, *token);
            if score > best.0 {
                best = (score, *token);
            }
        }
        best.1
    }

    /// Fills `kept` with the tokens that top-k and top-p leave, in ascending order of id.
    fn keep(&mut self, logits: &[f32]) {
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        self.kept.clear();
        let tokens = logits.iter().zip(0_u32..).filter(|(logit, _)| !logit.is_nan());
        self.kept.extend(tokens.map(|(logit, token)| (*logit, token)));
        let likelier = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let top_k = top_k as usize;
        if top_k > 0 && top_k < self.kept.len() {
            self.kept.select_nth_unstable_by(top_k - 1, likelier);
            self.kept.truncate(top_k);
        }
        if top_p < 1.0 {
            self.kept.sort_unstable_by(likelier);
            let count = mass_reaches(&self.kept, f64::from(temperature), f64::from(top_p));
            self.kept.truncate(count);
        }
        self.kept.sort_unstable_by_key(|(_, token)| *token);
    }
}

/// How many of `sorted` (likeliest first) it takes until their mass reaches `top_p`; at least one.
fn mass_reaches(sorted: &[(f32, u32)], temperature: f64, top_p: f64) -> usize {
    let Some((largest, _)) = sorted.first() else { return 0 };
    let mass = |logit: f32| math::exp((f64::from(logit) - f64::from(*largest)) / temperature);
    let total: f64 = sorted.iter().map(|(logit, _)| mass(*logit)).sum();
    let mut reached = 0.0;
    for (index, (logit, _)) in sorted.iter().enumerate() {
        reached += mass(*logit);
        if reached >= top_p * total {
            return index + 1;
        }
    }
    sorted.len()
}

/// The first index of the largest logit.
fn greedy(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (logit, token) in logits.iter().zip(0_u32..) {
        if *logit > best.0 {
            best = (*logit, token);
        }
    }
    best.1
}
