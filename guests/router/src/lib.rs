//! The router as a component: a thin adapter between `wit/router.wit` and `obsidian-router`.

use obsidian_router::{RouteMessage, Surroundings, Weights, decide};

wit_bindgen::generate!({ path: "../../wit", world: "router" });

use exports::obsidian::edge::routing;
use obsidian::edge::types::Message;

struct Router;

export!(Router);

impl routing::Guest for Router {
    fn decide(
        messages: Vec<Message>,
        surroundings: routing::Surroundings,
        weights: String,
    ) -> Result<routing::Decision, routing::RouteError> {
        let weights =
            Weights::parse(&weights).map_err(|error| routing::RouteError::InvalidWeights(error.to_string()))?;
        let messages: Vec<RouteMessage> =
            messages.into_iter().map(|message| RouteMessage { role: message.role, content: message.content }).collect();
        let decision = decide(&messages, &from_wit(&surroundings), &weights)
            .map_err(|error| routing::RouteError::NoTier(error.to_string()))?;
        let [edge, hub, core] = decision.scores;
        Ok(routing::Decision {
            tier: to_wit(decision.tier),
            reason: decision.reason,
            features: decision
                .features
                .named()
                .map(|(name, value)| routing::Feature { name: name.to_owned(), value })
                .collect(),
            scores: (edge, hub, core),
            fallbacks: decision.fallbacks.iter().map(|&tier| to_wit(tier)).collect(),
        })
    }
}

fn from_wit(surroundings: &routing::Surroundings) -> Surroundings {
    Surroundings {
        prompt_tokens: surroundings.prompt_tokens,
        max_tokens: surroundings.max_tokens,
        turns: surroundings.turns,
        masked_values: surroundings.masked_values,
        edge_load: surroundings.edge_load,
        edge_ready: surroundings.edge_ready,
        hub_ready: surroundings.hub_ready,
        core_ready: surroundings.core_ready,
        edge_allowed: surroundings.edge_allowed,
        hub_allowed: surroundings.hub_allowed,
        core_allowed: surroundings.core_allowed,
        edge_context: surroundings.edge_context,
        hub_context: surroundings.hub_context,
    }
}

fn to_wit(tier: obsidian_router::Tier) -> routing::Tier {
    match tier {
        obsidian_router::Tier::Edge => routing::Tier::Edge,
        obsidian_router::Tier::Hub => routing::Tier::Hub,
        obsidian_router::Tier::Core => routing::Tier::Core,
    }
}
