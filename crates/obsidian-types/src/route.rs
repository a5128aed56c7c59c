//! Where a request runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The three places that can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The POP's own model answers alone.
    Edge,
    /// The regional hub's target model, with the POP drafting.
    Hub,
    /// An OpenAI-compatible upstream.
    Core,
}

impl Tier {
    /// As spelled in headers, metrics and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Hub => "hub",
            Self::Core => "core",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How far a tenant's (masked) data may travel. Policy only ever narrows the router's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Residency {
    /// Stays on this POP.
    Edge,
    /// May go to the regional hub.
    Region,
    /// May go anywhere.
    #[default]
    Anywhere,
}

impl Residency {
    /// Whether a request with this residency may run on `tier`.
    pub fn allows(self, tier: Tier) -> bool {
        match self {
            Self::Edge => tier == Tier::Edge,
            Self::Region => tier != Tier::Core,
            Self::Anywhere => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Residency, Tier};

    #[test]
    fn residency_only_narrows() {
        assert!(Residency::Edge.allows(Tier::Edge) && !Residency::Edge.allows(Tier::Hub));
        assert!(Residency::Region.allows(Tier::Hub) && !Residency::Region.allows(Tier::Core));
        assert!(Residency::Anywhere.allows(Tier::Core));
    }
}
