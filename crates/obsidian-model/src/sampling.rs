//! Picks the next token from logits: greedy, or temperature, top-k and top-p with coupled noise.
//!
//! The pick is `argmax(log p + g)`: exactly a draw from the processed distribution p, and the same draw
//! on every machine that has the same logits, seed, choice, position and answer so far.
//!
//! Order: bias, then penalties, both on the raw logits and in f32; then temperature; then top-k; then top-p;
//! then the noise. Penalties count what was generated, never the prompt (OpenAI's definition):
//! `logit + bias − count · frequency − (count > 0) · presence`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::math;
use crate::noise::{LARGEST_GUMBEL, Noise};

/// A bias this low (or lower) bans the token, however likely it is.
const BAN: f32 = -100.0;

/// How tokens are picked.
#[derive(Clone, Debug, PartialEq)]
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
    /// Taken from a token's logit for each time the answer holds it.
    pub frequency_penalty: f32,
    /// Taken from a token's logit once the answer holds it.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens; −100 bans one. Ids outside the vocabulary change nothing.
    pub logit_bias: Arc<[(u32, f32)]>,
}

impl Default for Sampling {
    /// The model's own distribution, seed 0.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            choice: 0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Arc::default(),
        }
    }
}

impl Sampling {
    fn penalises(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

/// Picks tokens under one [`Sampling`].
///
/// What it remembers is the answer, as counts: tell it with [`Sampler::count`] which tokens became part of the
/// answer, and with [`Sampler::uncount`] which were taken back. The same arguments and the same counts give the
/// same token, in whatever order the counts came about.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    noise: Noise,
    counts: BTreeMap<u32, u32>,
    kept: Vec<(f32, u32)>,
    adjusted: Vec<f32>,
}

impl Sampler {
    /// A sampler for one choice of one request, whose answer is still empty.
    pub fn new(sampling: Sampling) -> Self {
        let noise = Noise::new(sampling.seed, sampling.choice);
        Self { sampling, noise, counts: BTreeMap::new(), kept: Vec::new(), adjusted: Vec::new() }
    }

    /// The sampling it was made with.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Tokens that became part of the answer.
    pub fn count(&mut self, ids: &[u32]) {
        if !self.sampling.penalises() {
            return;
        }
        for id in ids {
            let count = self.counts.entry(*id).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Tokens that were counted and are no longer part of the answer, in any order.
    pub fn uncount(&mut self, ids: &[u32]) {
        for id in ids {
            let Some(count) = self.counts.get_mut(id) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(id);
            }
        }
    }

    /// The token for the absolute index `position` (the prompt's tokens counted). It is not counted by itself:
    /// a draft may not survive.
    ///
    /// Logits that are NaN count as negative infinity. Equal scores: the smallest id wins.
    pub fn pick(&mut self, logits: &[f32], position: u32) -> u32 {
        if self.sampling.logit_bias.is_empty() && self.counts.is_empty() {
            return self.choose(logits, position);
        }
        let mut adjusted = std::mem::take(&mut self.adjusted);
        adjusted.clear();
        adjusted.extend_from_slice(logits);
        self.adjust(&mut adjusted);
        let token = self.choose(&adjusted, position);
        self.adjusted = adjusted;
        token
    }

    /// Bias, then penalties. Each token by itself, so the order of the tokens does not matter.
    fn adjust(&self, logits: &mut [f32]) {
        for (token, bias) in self.sampling.logit_bias.iter() {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = if *bias <= BAN { f32::NEG_INFINITY } else { *logit + *bias };
            }
        }
        let Sampling { frequency_penalty, presence_penalty, .. } = self.sampling;
        for (token, count) in &self.counts {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = *logit - *count as f32 * frequency_penalty - presence_penalty;
            }
        }
    }

    fn choose(&mut self, logits: &[f32], position: u32) -> u32 {
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
        let tokens = logits.iter().zip(0_u32..).filter(|(logit, _)| **logit > f32::NEG_INFINITY);
        self.kept.extend(tokens.map(|(logit, token)| (*logit, token)));
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

/// The likelier first; of equals, the smaller id.
fn likelier(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
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

/// How likely the model found a token, by its own distribution: temperature 1, no bias, no penalty, nothing cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// ln p of the token; never less than [`Score::LEAST`].
    pub logprob: f32,
    /// The likeliest tokens and their ln p, likeliest first.
    pub alternatives: Vec<(u32, f32)>,
}

impl Score {
    /// Stands for everything less likely, as in OpenAI's API: JSON has no infinity.
    pub const LEAST: f32 = -9999.0;

    /// Scores `token` and the `count` likeliest tokens.
    pub fn of(logits: &[f32], token: u32, count: usize) -> Self {
        let finite = logits.iter().zip(0_u32..).filter(|(logit, _)| **logit > f32::NEG_INFINITY);
        let mut ranked: Vec<(f32, u32)> = finite.map(|(logit, token)| (*logit, token)).collect();
        let largest = ranked.iter().map(|(logit, _)| *logit).fold(f32::NEG_INFINITY, f32::max);
        let mass = |(logit, _): &(f32, u32)| math::exp(f64::from(*logit) - f64::from(largest));
        let all = f64::from(largest) + math::ln(ranked.iter().map(mass).sum());
        let logprob = |logit: f32| ((f64::from(logit) - all) as f32).max(Self::LEAST);
        let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        if count < ranked.len() {
            ranked.select_nth_unstable_by(count, likelier);
            ranked.truncate(count);
        }
        ranked.sort_unstable_by(likelier);
        let alternatives = ranked.into_iter().map(|(logit, token)| (token, logprob(logit))).collect();
        Self { logprob: logprob(own), alternatives }
    }
}
