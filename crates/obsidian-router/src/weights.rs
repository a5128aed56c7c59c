//! The weights file: JSON, one object per tier, one number per feature.

use std::collections::BTreeMap;

use obsidian_types::Tier;
use serde::Deserialize;
use thiserror::Error;

use crate::features::{FEATURE_COUNT, FEATURE_NAMES, Features};

const DEFAULT: &str = include_str!("../weights/default.json");
/// The only version of the file there is.
const VERSION: u32 = 1;
/// Largest weight that makes sense; a larger one is a slip of the pen.
const MAX_WEIGHT: f32 = 1_000.0;

/// Weights of every feature for every tier, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    edge: TierWeights,
    hub: TierWeights,
    core: TierWeights,
}

#[derive(Clone, Debug, PartialEq)]
struct TierWeights {
    bias: f32,
    features: [f32; FEATURE_COUNT],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsFile {
    version: u32,
    edge: BTreeMap<String, f32>,
    hub: BTreeMap<String, f32>,
    core: BTreeMap<String, f32>,
}

/// Why a weights file was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WeightsError {
    /// Not the JSON of a weights file.
    #[error("the weights file does not parse: {reason}")]
    Syntax {
        /// What and where, by line and column.
        reason: String,
    },
    /// A version this router does not know.
    #[error("`version` is {found}, but this router reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A feature that does not exist.
    #[error("`{key}` is no feature; the features are bias, {}", FEATURE_NAMES.join(", "))]
    UnknownFeature {
        /// Tier and feature as in the file.
        key: String,
    },
    /// A weight out of range.
    #[error("`{key}` must lie between -{MAX_WEIGHT} and {MAX_WEIGHT}")]
    OutOfRange {
        /// Tier and feature as in the file.
        key: String,
    },
}

impl Weights {
    /// Parses and validates a weights file. Features it does not name weigh nothing.
    pub fn parse(json: &str) -> Result<Self, WeightsError> {
        let file: WeightsFile =
            serde_json::from_str(json).map_err(|error| WeightsError::Syntax { reason: error.to_string() })?;
        if file.version != VERSION {
            return Err(WeightsError::Version { found: file.version });
        }
        Ok(Self {
            edge: TierWeights::from_map(Tier::Edge, &file.edge)?,
            hub: TierWeights::from_map(Tier::Hub, &file.hub)?,
            core: TierWeights::from_map(Tier::Core, &file.core)?,
        })
    }

    /// Text of the embedded weights file.
    pub fn default_json() -> &'static str {
        DEFAULT
    }

    /// The tier's score: bias plus the weighted sum.
    pub(crate) fn score(&self, tier: Tier, features: &Features) -> f32 {
        let weights = self.tier(tier);
        let products = weights.features.iter().zip(features.values()).map(|(weight, value)| weight * value);
        products.fold(weights.bias, |sum, product| sum + product)
    }

    /// The tier's score when every feature is 0.
    pub(crate) fn bias(&self, tier: Tier) -> f32 {
        self.tier(tier).bias
    }

    /// What feature `index` adds to the tier's score.
    pub(crate) fn contribution(&self, tier: Tier, index: usize, features: &Features) -> f32 {
        self.tier(tier).features[index] * features.values()[index]
    }

    fn tier(&self, tier: Tier) -> &TierWeights {
        match tier {
            Tier::Edge => &self.edge,
            Tier::Hub => &self.hub,
            Tier::Core => &self.core,
        }
    }
}

impl Default for Weights {
    /// The embedded file.
    #[expect(clippy::expect_used, reason = "the embedded file is a constant and a test parses it")]
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the embedded weights file is valid")
    }
}

impl TierWeights {
    fn from_map(tier: Tier, map: &BTreeMap<String, f32>) -> Result<Self, WeightsError> {
        let mut weights = Self { bias: 0.0, features: [0.0; FEATURE_COUNT] };
        for (name, &weight) in map {
            let key = || format!("{tier}.{name}");
            if !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight) {
                return Err(WeightsError::OutOfRange { key: key() });
            }
            match FEATURE_NAMES.iter().position(|feature| feature == name) {
                Some(index) => weights.features[index] = weight,
                None if name == "bias" => weights.bias = weight,
                None => return Err(WeightsError::UnknownFeature { key: key() }),
            }
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Weights::parse(json).unwrap_err().to_string()
    }

    #[test]
    fn the_embedded_file_is_valid() {
        assert_eq!(Weights::parse(Weights::default_json()), Ok(Weights::default()));
    }

    #[test]
    fn errors_name_the_key() {
        let unknown = error(r#"{"version":1,"edge":{"task:greeting":1},"hub":{},"core":{}}"#);
        assert!(
            unknown.starts_with("`edge.task:greeting` is no feature; the features are bias, length:prompt,"),
            "{unknown}"
        );
        let range = error(r#"{"version":1,"edge":{},"hub":{"turns":1e9},"core":{}}"#);
        assert_eq!(range, "`hub.turns` must lie between -1000 and 1000");
        assert!(
            error(r#"{"version":1,"edge":{},"hub":{"bias":1e39},"core":{}}"#).contains("hub.bias"),
            "infinite as f32"
        );
        assert!(error(r#"{"version":1,"edge":{},"hub":{},"core":{},"cloud":{}}"#).contains("unknown field `cloud`"));
        assert!(error(r#"{"version":1,"edge":{},"hub":{}}"#).contains("missing field `core`"));
        assert!(error("{\n  \"version\": \"one\"\n}").contains("line 2 column 18"));
        assert_eq!(
            error(r#"{"version":2,"edge":{},"hub":{},"core":{}}"#),
            "`version` is 2, but this router reads version 1"
        );
    }
}
