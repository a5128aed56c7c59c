//! The router in a sandbox: a fresh instance for every decision.
//!
//! A decision is advice. Whether a tier may be used is the host's to say, so a decision for a tier that
//! policy or health has taken away is refused here, whatever the guest thought.

use obsidian_registry::{Artifact, Verified};
use obsidian_router::{Decision, FEATURE_NAMES, Features, RouteError, RouteMessage, Surroundings};
use obsidian_types::Tier;

use crate::call::{Alive, call};
use crate::engine::{EngineKind, Engines};
use crate::error::{Refusal, SandboxError};
use crate::function::Function;
use crate::generation::GuestVersion;
use crate::state::State;

use bindings::exports::obsidian::edge::routing;

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit", world: "router" });
}

/// Longest reason, bytes: it goes into a response header.
const MAX_REASON_BYTES: usize = 128;

/// A loaded router. Cloning is cheap; every call runs in an instance of its own.
///
/// Calls compute: make them on the [`ComputePool`](crate::ComputePool), never on tokio's workers.
#[derive(Clone)]
pub struct RouterSandbox {
    function: Function,
    guest: bindings::RouterPre<State>,
}

impl RouterSandbox {
    /// Compiles (or takes from the cache) and links the guest.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if it is no router or cannot run on this machine.
    pub fn load(engines: &Engines, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        let (function, guest) = Function::load(engines, EngineKind::Function, artifact)?;
        let guest = bindings::RouterPre::new(guest).map_err(|error| function.unfit(&error))?;
        Ok(Self { function, guest })
    }

    /// Loads another version, on the same engines.
    ///
    /// # Errors
    /// As for the first.
    pub fn successor(&self, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        Self::load(self.function.engines(), artifact)
    }

    /// Which build this is.
    pub fn version(&self) -> &GuestVersion {
        self.function.version()
    }

    /// Decides where a masked request runs; `weights` is the text of the weights file.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if no tier is left or the weights do not parse,
    /// [`SandboxError::Contract`] if the decision breaks policy or form, or the sandbox's failure.
    pub fn decide(
        &self,
        messages: &[RouteMessage],
        surroundings: &Surroundings,
        weights: &str,
    ) -> Result<Decision, SandboxError> {
        let name = self.function.name();
        let limits = self.function.limits();
        let mut store = self.function.store();
        let _alive = Alive::new(name);
        let messages: Vec<_> = messages.iter().map(message).collect();
        let decided = call(name, limits, &mut store, |store| {
            let guest = self.guest.instantiate(&mut *store)?;
            let routing = guest.obsidian_edge_routing();
            routing.call_decide(store, &messages, describe(surroundings), weights)
        });
        let decision = decided?.map_err(refusal)?;
        check(decision, surroundings).map_err(|rule| self.function.broken(rule))
    }
}

fn message(message: &RouteMessage) -> bindings::obsidian::edge::types::Message {
    bindings::obsidian::edge::types::Message { role: message.role.clone(), content: message.content.clone() }
}

fn describe(surroundings: &Surroundings) -> routing::Surroundings {
    let Surroundings {
        prompt_tokens,
        max_tokens,
        turns,
        masked_values,
        edge_load,
        edge_ready,
        hub_ready,
        core_ready,
        edge_allowed,
        hub_allowed,
        core_allowed,
        edge_context,
        hub_context,
    } = *surroundings;
    routing::Surroundings {
        prompt_tokens,
        max_tokens,
        turns,
        masked_values,
        edge_load,
        edge_ready,
        hub_ready,
        core_ready,
        edge_allowed,
        hub_allowed,
        core_allowed,
        edge_context,
        hub_context,
    }
}

fn refusal(error: routing::RouteError) -> Refusal {
    match error {
        routing::RouteError::NoTier(reason) => RouteError::NoTier { reason }.into(),
        routing::RouteError::InvalidWeights(reason) => Refusal::RouterWeights(reason),
    }
}

/// Turns what the guest returned into a decision, or names the rule it breaks.
fn check(decision: routing::Decision, surroundings: &Surroundings) -> Result<Decision, &'static str> {
    let tier = tier(decision.tier);
    let fallbacks: Vec<Tier> = decision.fallbacks.into_iter().map(self::tier).collect();
    let usable = |tier: &Tier| match tier {
        Tier::Edge => surroundings.edge_ready && surroundings.edge_allowed,
        Tier::Hub => surroundings.hub_ready && surroundings.hub_allowed,
        Tier::Core => surroundings.core_ready && surroundings.core_allowed,
    };
    if !std::iter::once(&tier).chain(&fallbacks).all(usable) {
        return Err("a decision names only tiers that are ready and allowed");
    }
    let repeated = |(index, fallback): (usize, &Tier)| *fallback == tier || fallbacks[..index].contains(fallback);
    if fallbacks.iter().enumerate().any(repeated) {
        return Err("a decision names no tier twice");
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":+-_.,".contains(&byte);
    if decision.reason.len() > MAX_REASON_BYTES || !decision.reason.bytes().all(plain) {
        return Err("a reason is short and machine-readable");
    }
    let names = decision.features.iter().map(|feature| feature.name.as_str());
    if !names.eq(FEATURE_NAMES) {
        return Err("the features come in their fixed order");
    }
    let values: Vec<f32> = decision.features.iter().map(|feature| feature.value).collect();
    let values = values.try_into().map_err(|_| "the features come in their fixed order")?;
    let (edge, hub, core) = decision.scores;
    Ok(Decision {
        tier,
        reason: decision.reason,
        features: Features::from_values(values),
        scores: [edge, hub, core],
        fallbacks,
    })
}

fn tier(tier: routing::Tier) -> Tier {
    match tier {
        routing::Tier::Edge => Tier::Edge,
        routing::Tier::Hub => Tier::Hub,
        routing::Tier::Core => Tier::Core,
    }
}
