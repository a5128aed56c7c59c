//! The decision: scores, what policy and health take away, the reason.

use obsidian_types::Tier;
use thiserror::Error;

use crate::features::{FEATURE_COUNT, FEATURE_NAMES, Features, RouteMessage, Surroundings};
use crate::weights::Weights;

/// Cheapest first; also how ties are decided.
const TIERS: [Tier; 3] = [Tier::Edge, Tier::Hub, Tier::Core];
/// A second feature is named in the reason when it did at least this share of the first one's work.
const SECOND_SHARE: f32 = 0.75;

/// Where a request runs, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Where.
    pub tier: Tier,
    /// Short and machine-readable: the features that made the difference (`task:extract`,
    /// `task:extract+masked`, `default` if none did), or the rule that took the better tier away
    /// (`policy:edge-only`, `policy:no-core`, `health:hub-down`, `context:edge-full`).
    pub reason: String,
    /// Every feature, in a fixed order.
    pub features: Features,
    /// Scores of edge, hub and core; negative infinity for a tier that is out.
    pub scores: [f32; 3],
    /// Usable tiers after `tier`, best first.
    pub fallbacks: Vec<Tier>,
}

/// Why no tier can take the request. Carries no prompt text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// Policy, health and context length together leave nothing.
    #[error("no tier is left: {reason}")]
    NoTier {
        /// What took each tier away.
        reason: String,
    },
}

/// What keeps a tier from being used; the first that applies is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Policy,
    Health,
    Context,
}

/// Decides where a masked request runs. The same arguments always give the same decision.
pub fn decide(
    messages: &[RouteMessage],
    surroundings: &Surroundings,
    weights: &Weights,
) -> Result<Decision, RouteError> {
    let features = Features::of(messages, surroundings);
    let raw = TIERS.map(|tier| weights.score(tier, &features));
    let obstacles = TIERS.map(|tier| obstacle(tier, surroundings));
    let mut order = [0, 1, 2];
    // Stable, so that equal scores keep the order of `TIERS`.
    order.sort_by(|&left, &right| raw[right].total_cmp(&raw[left]));
    let mut usable = order.into_iter().filter(|&index| obstacles[index].is_none());
    let Some(chosen) = usable.next() else {
        return Err(RouteError::NoTier { reason: describe(&obstacles) });
    };
    let fallbacks = usable.map(|index| TIERS[index]).collect();
    let [preferred, ..] = order;
    let reason = match obstacles[preferred] {
        None => dominant(weights, &features, TIERS[preferred]),
        Some(Obstacle::Policy) => policy_reason(surroundings, TIERS[preferred]),
        Some(Obstacle::Health) => format!("health:{}-down", TIERS[preferred]),
        Some(Obstacle::Context) => format!("context:{}-full", TIERS[preferred]),
    };
    let scores = [0, 1, 2].map(|index| if obstacles[index].is_none() { raw[index] } else { f32::NEG_INFINITY });
    Ok(Decision { tier: TIERS[chosen], reason, features, scores, fallbacks })
}

fn obstacle(tier: Tier, surroundings: &Surroundings) -> Option<Obstacle> {
    let (is_allowed, is_ready, context) = match tier {
        Tier::Edge => (surroundings.edge_allowed, surroundings.edge_ready, surroundings.edge_context),
        Tier::Hub => (surroundings.hub_allowed, surroundings.hub_ready, surroundings.hub_context),
        Tier::Core => (surroundings.core_allowed, surroundings.core_ready, u32::MAX),
    };
    if !is_allowed {
        return Some(Obstacle::Policy);
    }
    if !is_ready {
        return Some(Obstacle::Health);
    }
    // The prompt and one token of answer must fit; a longer answer is cut there, which only costs score.
    (surroundings.prompt_tokens >= context).then_some(Obstacle::Context)
}

fn policy_reason(surroundings: &Surroundings, refused: Tier) -> String {
    match (surroundings.edge_allowed, surroundings.hub_allowed, surroundings.core_allowed) {
        (true, false, false) => "policy:edge-only".to_owned(),
        (false, true, false) => "policy:hub-only".to_owned(),
        (false, false, true) => "policy:core-only".to_owned(),
        _ => format!("policy:no-{refused}"),
    }
}

fn describe(obstacles: &[Option<Obstacle>; 3]) -> String {
    let each = TIERS.iter().zip(obstacles).map(|(tier, obstacle)| match obstacle {
        Some(Obstacle::Policy) => format!("{tier} is not allowed by policy"),
        Some(Obstacle::Health) => format!("{tier} is not ready"),
        Some(Obstacle::Context) => format!("the prompt is longer than {tier}'s context"),
        None => format!("{tier} is usable"),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The one or two features that set the winner apart from the average of the other tiers.
fn dominant(weights: &Weights, features: &Features, winner: Tier) -> String {
    let apart = |of: &dyn Fn(Tier) -> f32| {
        let others: f32 = TIERS.into_iter().filter(|&tier| tier != winner).map(of).sum();
        of(winner) - others / 2.0
    };
    let advantage = |index: usize| apart(&|tier| weights.contribution(tier, index, features));
    let mut ranked: Vec<(usize, f32)> =
        (0..FEATURE_COUNT).map(|index| (index, advantage(index))).filter(|each| each.1 > 0.0).collect();
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
    let bias = apart(&|tier| weights.bias(tier));
    match ranked.as_slice() {
        // Nothing speaks louder than where requests go anyway.
        [] => "default".to_owned(),
        [first, ..] if first.1 <= bias => "default".to_owned(),
        [first, second, ..] if second.1 >= SECOND_SHARE * first.1 => {
            format!("{}+{}", FEATURE_NAMES[first.0], FEATURE_NAMES[second.0])
        }
        [first, ..] => FEATURE_NAMES[first.0].to_owned(),
    }
}

#[cfg(test)]
mod tests;
