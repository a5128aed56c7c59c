//! The router: decides whether a masked request runs at the edge, the hub or the core, and says why.
//!
//! Pure and explainable: [`features`](Features) are numbers read off the request, every tier's score is
//! a weighted sum of them, the best usable tier wins, and the reason names the features that made the
//! difference, or the rule that took the better tier away. Policy, health and context length only ever
//! take tiers away; no weight can bring one back.
//!
//! It sees masked text only and puts none of it into reasons or errors. Start at [`decide`].

mod cues;
mod decide;
mod features;
mod weights;

pub use decide::{Decision, RouteError, decide};
pub use features::{FEATURE_COUNT, FEATURE_NAMES, Features, RouteMessage, Surroundings};
pub use obsidian_types::Tier;
pub use weights::{Weights, WeightsError};
