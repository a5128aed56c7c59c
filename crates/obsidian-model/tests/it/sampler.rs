//! The sampler draws from the distribution it says, and the noise is the one that is published.

use obsidian_model::{Noise, Sampler, Sampling, gumbel};

fn plain() -> Sampling {
    Sampling { seed: 42, ..Sampling::default() }
}

/// Draws at many positions and compares counts with `expected` probabilities by Pearson's χ².
fn chi_square(sampling: Sampling, logits: &[f32], expected: &[f64]) -> f64 {
    const DRAWS: u32 = 40_000;
    let mut sampler = Sampler::new(sampling);
    let mut counts = vec![0_u32; logits.len()];
    for position in 0..DRAWS {
        counts[sampler.pick(logits, position) as usize] += 1;
    }
    let term = |(count, probability): (&u32, &f64)| {
        let mean = probability * f64::from(DRAWS);
        if mean == 0.0 {
            assert_eq!(*count, 0, "a token outside the processed distribution was picked");
            return 0.0;
        }
        (f64::from(*count) - mean).powi(2) / mean
    };
    counts.iter().zip(expected).map(term).sum()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Keeps the given tokens and scales them to a sum of one.
fn only(probabilities: &[f64], kept: &[usize]) -> Vec<f64> {
    let total: f64 = kept.iter().map(|token| probabilities[*token]).sum();
    (0..probabilities.len())
        .map(|token| if kept.contains(&token) { probabilities[token] / total } else { 0.0 })
        .collect()
}

/// Quantile of χ² at 0.9999 with 9 degrees of freedom: a right sampler passes with these fixed seeds.
const LIMIT: f64 = 33.7;
const LOGITS: [f32; 10] = [1.0, 2.0, 0.5, -1.0, 1.5, 0.0, 2.2, -0.5, 0.9, 1.1];

#[test]
fn draws_follow_the_distribution() {
    for (temperature, seed) in [(1.0, 42), (0.8, 7), (1.7, u64::MAX)] {
        let sampling = Sampling { temperature, seed, ..plain() };
        let statistic = chi_square(sampling, &LOGITS, &softmax(&LOGITS, f64::from(temperature)));
        assert!(statistic < LIMIT, "χ² = {statistic}");
    }
    let probabilities = softmax(&LOGITS, 1.0);
    let top_k = Sampling { top_k: 3, ..plain() };
    assert!(chi_square(top_k, &LOGITS, &only(&probabilities, &[6, 1, 4])) < LIMIT);
    // The four likeliest reach 0.28 + 0.23 + 0.14 + 0.09 > 0.7; three do not.
    let top_p = Sampling { top_p: 0.7, ..plain() };
    assert!(chi_square(top_p, &LOGITS, &only(&probabilities, &[6, 1, 4, 9])) < LIMIT);
}

#[test]
fn a_wrong_distribution_is_noticed() {
    assert!(chi_square(plain(), &LOGITS, &softmax(&LOGITS, 1.1)) > LIMIT);
}

#[test]
fn picks_depend_on_nothing_but_their_arguments() {
    let mut sampler = Sampler::new(plain());
    let forward: Vec<u32> = (0..50).map(|position| sampler.pick(&LOGITS, position)).collect();
    let backward: Vec<u32> = (0..50).rev().map(|position| sampler.pick(&LOGITS, position)).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    let mut other_choice = Sampler::new(Sampling { choice: 1, ..plain() });
    let other: Vec<u32> = (0..50).map(|position| other_choice.pick(&LOGITS, position)).collect();
    assert_ne!(forward, other);
}

#[test]
fn greedy_takes_the_first_largest() {
    let mut greedy = Sampler::new(Sampling { temperature: 0.0, ..plain() });
    assert_eq!(greedy.pick(&[0.0, f32::NAN, 3.0, 3.0, 1.0], 0), 2);
    assert_eq!(greedy.pick(&[f32::NAN], 0), 0);
    let mut single = Sampler::new(Sampling { top_k: 1, ..plain() });
    assert_eq!(single.pick(&LOGITS, 3), 6);
    let mut broken = Sampler::new(plain());
    assert_eq!(broken.pick(&[f32::NAN, f32::NEG_INFINITY, 1.0], 3), 2);
}

#[test]
fn a_large_vocabulary_reads_the_same_words_in_any_order() {
    let mut noise = Noise::new(3, 4);
    let ascending: Vec<u64> = (0..100).map(|token| noise.word(9, token)).collect();
    let descending: Vec<u64> = (0..100).rev().map(|token| noise.word(9, token)).collect();
    assert!(ascending.iter().eq(descending.iter().rev()));
    let sparse: Vec<u64> = (0..100).step_by(13).map(|token| noise.word(9, token)).collect();
    assert!(sparse.iter().eq(ascending.iter().step_by(13)));
}

#[test]
fn the_ends_of_the_noise_are_finite() {
    assert!(gumbel(0) < -3.5 && gumbel(0).is_finite());
    assert!(gumbel(u64::MAX) > 36.7 && gumbel(u64::MAX) < 37.0);
}

/// `docs/noise.md` is the published contract: every vector in its table must come out of this code.
#[test]
fn the_published_vectors_hold() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/noise.md")).unwrap();
    let mut checked = 0;
    for line in document.lines().filter(|line| line.starts_with("| ") && line.contains("0x")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (seed, choice) = (cells[1].parse().unwrap(), cells[2].parse().unwrap());
        let (position, token) = (cells[3].parse().unwrap(), cells[4].parse().unwrap());
        let mut noise = Noise::new(seed, choice);
        let word = noise.word(position, token);
        assert_eq!(format!("0x{word:016x}"), cells[5], "{line}");
        assert_eq!(format!("0x{:016x}", gumbel(word).to_bits()), cells[6], "{line}");
        checked += 1;
    }
    assert_eq!(checked, 12);
}
