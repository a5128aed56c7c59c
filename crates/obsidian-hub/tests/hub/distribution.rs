//! χ²: what comes out of the hub with speculation on is distributed as the target says.

use std::collections::HashMap;
use std::sync::Arc;

use obsidian_model::{Lane, Model, Wanted, Workspace};
use obsidian_types::Speculation;

use crate::support::{Drafter, Site, masked, options, random_model};

const SEEDS: u64 = 3_000;
const KEPT: usize = 12;
/// The 1 − 10⁻⁶ quantile of χ² with 11 degrees of freedom.
const LIMIT: f64 = 49.3;

/// The processed distribution of the token after `prompt`: the `KEPT` likeliest, renormalised.
fn exact(model: &Model, prompt: &[u32], temperature: f64) -> Vec<(u32, f64)> {
    let mut cache = model.new_cache();
    let mut workspace = Workspace::new();
    let mut lanes = [Lane { cache: &mut cache, ids: prompt, wanted: Wanted::Last }];
    let logits = model.forward(&mut lanes, &mut workspace).unwrap();
    let mut sorted: Vec<(u32, f64)> = (0..).zip(logits.lane(0).last().iter().map(|logit| f64::from(*logit))).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    sorted.truncate(KEPT);
    let total: f64 = sorted.iter().map(|(_, logit)| (logit / temperature).exp()).sum();
    sorted.into_iter().map(|(id, logit)| (id, (logit / temperature).exp() / total)).collect()
}

fn chi_square(counts: &HashMap<u32, f64>, expected: impl Iterator<Item = (u32, f64)>) -> f64 {
    expected
        .map(|(id, share)| {
            let expected = share * SEEDS as f64;
            (counts.get(&id).copied().unwrap_or(0.0) - expected).powi(2) / expected
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_tokens_follow_the_targets_distribution() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 256)).await;
    let link = site.link(&hub).await;
    let (target, draft) = (random_model(1, 256), Arc::new(random_model(2, 256)));
    let prompt: Vec<u32> = target.tokenizer().encode("hello world, well", obsidian_model::Specials::AsText);
    let distribution = exact(&target, &prompt, 0.7);

    let (mut counts, mut accepted) = (HashMap::<u32, f64>::new(), 0);
    for seed in 0..SEEDS {
        let mut options = options(&hub, 0.7, Speculation::Sync);
        options.sampling.seed = seed;
        options.sampling.top_k = KEPT as u32;
        let window = Drafter::new(draft.clone(), options.sampling.clone(), prompt.len()).draft(&prompt, 2);
        let mut stream = link.open(&masked(&prompt), options).await.unwrap();
        let verdict = stream.verify(&window).await.unwrap();
        accepted += u32::from(verdict.accepted > 0);
        let first = verdict.emitted(&window).next().unwrap();
        assert!(distribution.iter().any(|(id, _)| *id == first), "a token that top-k excludes");
        *counts.entry(first).or_default() += 1.0;
    }
    let statistic = chi_square(&counts, distribution.iter().copied());
    assert!(statistic < LIMIT, "χ² = {statistic:.1}, {counts:?} against {distribution:?}");
    // The same counts must not pass for another distribution: the test can tell.
    let uniform = distribution.iter().map(|(id, _)| (*id, 1.0 / KEPT as f64));
    assert!(chi_square(&counts, uniform) > LIMIT, "{distribution:?}");
    println!("χ² = {statistic:.1} with 11 degrees of freedom; {accepted} of {SEEDS} first drafts accepted");
}
