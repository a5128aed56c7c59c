//! Bias and penalties do what OpenAI documents, and remember nothing that was taken back.

use std::sync::Arc;

use obsidian_model::{Sampler, Sampling, Score};
use proptest::prelude::*;

const VOCABULARY: usize = 24;

/// The documented formula, written down plainly: every token by itself, the whole answer counted anew.
fn expected_logits(logits: &[f32], sampling: &Sampling, answer: &[u32]) -> Vec<f32> {
    let adjusted = logits.iter().zip(0_u32..).map(|(logit, token)| {
        let mut logit = *logit;
        for (id, bias) in sampling.logit_bias.iter() {
            if *id == token {
                logit = if *bias <= -100.0 { f32::NEG_INFINITY } else { logit + bias };
            }
        }
        let count = answer.iter().filter(|id| **id == token).count();
        if count > 0 {
            logit = logit - count as f32 * sampling.frequency_penalty - sampling.presence_penalty;
        }
        logit
    });
    adjusted.collect()
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0_f32), 0.1_f32..2.0];
    let bias =
        prop::collection::btree_map(0..VOCABULARY as u32 + 4, prop_oneof![Just(-100.0_f32), -5.0_f32..5.0], 0..6);
    let penalties = (-2.0_f32..=2.0, -2.0_f32..=2.0);
    (temperature, 0_u32..8, 0.2_f32..=1.0, any::<u64>(), penalties, bias).prop_map(
        |(temperature, top_k, top_p, seed, (frequency_penalty, presence_penalty), bias)| Sampling {
            temperature,
            top_k,
            top_p,
            seed,
            choice: 0,
            frequency_penalty,
            presence_penalty,
            logit_bias: bias.into_iter().collect(),
        },
    )
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(prop_oneof![9 => -8.0_f32..8.0, 1 => Just(f32::NAN)], VOCABULARY)
}

/// What happens to a session: tokens come, and some of the last ones go again.
#[derive(Clone, Debug)]
enum Move {
    Append(Vec<u32>),
    Truncate(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let ids = prop::collection::vec(0..VOCABULARY as u32, 0..6);
    prop::collection::vec(prop_oneof![ids.prop_map(Move::Append), (0..6_usize).prop_map(Move::Truncate)], 0..12)
}

proptest! {
    /// Counts kept along the way, with roll-backs, pick what a sampler without penalties picks from logits that
    /// the reference adjusted for the answer as it stands.
    #[test]
    fn picks_follow_the_formula_through_any_history(sampling in samplings(), logits in logits(), moves in moves()) {
        let mut sampler = Sampler::new(sampling.clone());
        let plain =
            Sampling { frequency_penalty: 0.0, presence_penalty: 0.0, logit_bias: Arc::default(), ..sampling.clone() };
        let mut reference = Sampler::new(plain);
        let mut answer: Vec<u32> = Vec::new();
        for step in moves {
            match step {
                Move::Append(ids) => {
                    sampler.count(&ids);
                    answer.extend(ids);
                }
                Move::Truncate(count) => {
                    let gone = answer.split_off(answer.len() - count.min(answer.len()));
                    sampler.uncount(&gone);
                }
            }
            let position = 100 + answer.len() as u32;
            let expected = reference.pick(&expected_logits(&logits, &sampling, &answer), position);
            prop_assert_eq!(sampler.pick(&logits, position), expected);
        }
    }

    /// Only what the answer holds counts: a roll-back to nothing is a fresh start.
    #[test]
    fn what_was_taken_back_leaves_no_trace(
        sampling in samplings(), logits in logits(), ids in prop::collection::vec(0..VOCABULARY as u32, 0..20),
    ) {
        let (mut used, mut fresh) = (Sampler::new(sampling.clone()), Sampler::new(sampling));
        used.count(&ids);
        used.uncount(&ids);
        prop_assert_eq!(used.pick(&logits, 7), fresh.pick(&logits, 7));
    }

    /// Probabilities that sum to at most one, in order, from the raw distribution whatever the sampling.
    #[test]
    fn scores_are_probabilities(logits in logits(), token in 0..VOCABULARY as u32, count in 0_usize..30) {
        let score = Score::of(&logits, token, count);
        let finite = logits.iter().filter(|logit| !logit.is_nan()).count();
        prop_assert_eq!(score.alternatives.len(), count.min(finite));
        prop_assert!(score.alternatives.is_sorted_by(|one, next| one.1 >= next.1));
        let everything = Score::of(&logits, token, VOCABULARY).alternatives;
        let total: f64 = everything.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        prop_assert!(finite == 0 || (total - 1.0).abs() < 1e-5, "{}", total);
        let own = everything.iter().find(|(id, _)| *id == token).map_or(Score::LEAST, |(_, logprob)| *logprob);
        prop_assert_eq!(score.logprob, own);
        prop_assert!(everything.starts_with(&score.alternatives));
    }
}

fn greedy(sampling: Sampling) -> Sampler {
    Sampler::new(Sampling { temperature: 0.0, ..sampling })
}

#[test]
fn a_ban_holds_and_a_force_wins() {
    let bias = |entries: &[(u32, f32)]| Sampling { logit_bias: entries.into(), ..Sampling::default() };
    let logits = [500.0, 1.0, 2.0];
    assert_eq!(greedy(bias(&[])).pick(&logits, 0), 0);
    // More than 100 above the others, and banned all the same.
    assert_eq!(greedy(bias(&[(0, -100.0)])).pick(&logits, 0), 2);
    assert_eq!(greedy(bias(&[(0, -99.9)])).pick(&logits, 0), 0);
    let mut forced = Sampler::new(Sampling { temperature: 2.0, ..bias(&[(1, 100.0)]) });
    assert!((0..2_000).all(|position| forced.pick(&[20.0, -20.0, 10.0], position) == 1));
    // Ids the model does not have change nothing; with every token banned there is still an answer.
    assert_eq!(greedy(bias(&[(9, 100.0)])).pick(&logits, 0), 0);
    let mut nothing = Sampler::new(bias(&[(0, -100.0), (1, -100.0), (2, -100.0)]));
    assert!(nothing.pick(&logits, 0) < 3);
}

#[test]
fn presence_counts_once_and_frequency_each_time() {
    let logits = [3.0, 2.0, 1.0];
    let mut presence = greedy(Sampling { presence_penalty: 1.5, ..Sampling::default() });
    presence.count(&[0, 0, 0, 0]);
    assert_eq!(presence.pick(&logits, 0), 1, "3 − 1.5 < 2");
    presence.count(&[1]);
    assert_eq!(presence.pick(&logits, 0), 0, "3 − 1.5 > 2 − 1.5, however often");
    let mut frequency = greedy(Sampling { frequency_penalty: 0.6, ..Sampling::default() });
    frequency.count(&[0]);
    assert_eq!(frequency.pick(&logits, 0), 0);
    frequency.count(&[0]);
    assert_eq!(frequency.pick(&logits, 0), 1);
    frequency.uncount(&[0]);
    assert_eq!(frequency.pick(&logits, 0), 0);
}
