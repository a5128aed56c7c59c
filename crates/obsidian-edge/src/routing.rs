//! The router's steps in the pipeline, and its fault rule: the sandbox, else the same router linked
//! natively (pure code on the same weights, so it always decides). What a guest answers is advice that the
//! sandbox checks: it can choose among the tiers that policy and health allow, never add one.

use metrics::counter;
use obsidian_router::{RouteMessage, Surroundings};
use obsidian_sandbox::{Drafter, Refusal, SandboxError};
use obsidian_shield::Prompt;
use obsidian_types::{ChatRequest, PromptText, Role, Tier};

use crate::account::Account;
use crate::capability;
use crate::fault::Fault;
use crate::local::Local;
use crate::pop::{AUTO, CORE, EDGE, HUB, HubView, Pop};
use crate::shielding::{Shielded, fault_kind};

/// Bytes of text that make a token, at the least; an estimate for the router, not a limit.
const BYTES_PER_TOKEN: usize = 3;
/// Tokens a chat template adds around a message; an estimate likewise.
const TEMPLATE_TOKENS: usize = 6;

/// Where a request may run: the model asked for and residency, before health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The tier the client asked for by name, if any.
    pub(crate) asked: Option<Tier>,
    /// Whether residency and configuration let it go to the hub.
    hub: bool,
    /// Whether residency and configuration let it go to an upstream.
    core: bool,
    /// It names token ids (`logit_bias`), which mean something in one vocabulary only: that of the upstream if it was
    /// asked for by name, else that of the POP and its hub.
    one_vocabulary: bool,
    /// It asks for something that no local model can do.
    core_only: bool,
    /// The index of the local model it names, if that is another than the draft model.
    pub(crate) shelf: Option<usize>,
}

impl Scope {
    /// Whether the request may be answered at the POP.
    pub(crate) fn allows_edge(&self) -> bool {
        !(self.core_only || self.one_vocabulary && self.asked == Some(Tier::Core))
    }

    /// Whether the request may go to the hub.
    pub(crate) fn allows_hub(&self) -> bool {
        self.hub && self.asked != Some(Tier::Edge) && self.allows_edge()
    }

    /// Whether the request may go to an upstream. Who named the POP or its hub meant that the text stays there.
    pub(crate) fn allows_core(&self) -> bool {
        self.core
            && match self.asked {
                Some(Tier::Core) => true,
                None => !self.one_vocabulary,
                Some(Tier::Edge | Tier::Hub) => false,
            }
    }
}

/// Reads the model name and the residency.
pub(crate) fn scope(pop: &Pop, request: &ChatRequest) -> Result<Scope, Fault> {
    let name = request.model.as_str();
    let has_hub = pop.parts.hub.is_some();
    let shelf = pop.parts.models.find(name);
    let is_target = || pop.hub_facts().is_some_and(|facts| facts.model == name);
    let asked = match name {
        AUTO => None,
        EDGE => Some(Tier::Edge),
        HUB if has_hub => Some(Tier::Hub),
        CORE if pop.parts.core.is_some() => Some(Tier::Core),
        CORE => return Err(Fault::CoreNotConfigured),
        _ if shelf.is_some() || name == pop.guests.drafter.current().guest().info().name => Some(Tier::Edge),
        _ if has_hub && is_target() => Some(Tier::Hub),
        _ if pop.parts.core.as_ref().is_some_and(|core| core.model(name).is_some()) => Some(Tier::Core),
        _ => return Err(Fault::ModelNotFound(name.to_owned())),
    };
    if request.logprobs.is_some() && asked == Some(Tier::Hub) {
        return Err(Fault::LogprobsAtHub);
    }
    let resident = |tier| pop.config.residency.allows(tier) && request.residency.allows(tier);
    if asked.is_some_and(|tier| !resident(tier)) {
        return Err(Fault::Residency);
    }
    let need = capability::need_of(request);
    let scope = Scope {
        asked,
        // The verify link carries no probabilities, so who asks for them is not sent there.
        hub: has_hub && resident(Tier::Hub) && request.logprobs.is_none(),
        core: pop.parts.core.is_some() && resident(Tier::Core),
        one_vocabulary: !request.sampling.logit_bias.is_empty(),
        core_only: need.is_some(),
        shelf,
    };
    match need {
        Some(need) if !scope.allows_core() => Err(Fault::NeedsUpstream(need)),
        _ => Ok(scope),
    }
}

/// Biased tokens must exist: a bias on another model's id would silently do nothing.
pub(crate) fn check_bias(local: &Local, request: &ChatRequest, scope: &Scope) -> Result<(), Fault> {
    // Only an upstream knows the ids of its own vocabulary.
    if scope.asked == Some(Tier::Core) {
        return Ok(());
    }
    let vocabulary_size = local.drafter().info().vocabulary_size;
    match request.sampling.logit_bias.last() {
        // Ids ascend.
        Some((id, _)) if *id >= vocabulary_size => Err(Fault::UnknownToken { id: *id, vocabulary_size }),
        _ => Ok(()),
    }
}

/// Whether an upstream can be asked for this request now.
pub(crate) fn core_ready(pop: &Pop, request: &ChatRequest) -> bool {
    let name = request.model.as_str();
    pop.parts.core.as_ref().is_some_and(|core| match core.model(name) {
        Some(model) => core.serves(&model),
        None => core.is_ready(),
    })
}

/// Where a request runs.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// Where.
    pub(crate) tier: Tier,
    /// Why: the router's own short reason.
    pub(crate) reason: String,
    /// What failed on the way: part and how.
    faults: Vec<(&'static str, &'static str)>,
}

impl Decision {
    /// Tells the account what failed.
    pub(crate) fn note_faults(&self, account: &Account) {
        for (part, what) in &self.faults {
            account.degrade(part, what);
        }
    }
}

/// Asks the router.
pub(crate) async fn decide(
    pop: &Pop,
    local: &Local,
    request: &ChatRequest,
    shielded: &Shielded,
    scope: &Scope,
) -> Result<Decision, Fault> {
    let messages = shown(shielded.prompt.get());
    let hub = pop.hub();
    let surroundings = surroundings(pop, local.drafter(), request, shielded, scope, &hub);
    let mut decision = ask(pop, messages.clone(), surroundings.clone()).await?;
    if scope.allows_core() && !surroundings.core_ready && wanted(pop, &messages, &surroundings, scope, Tier::Core) {
        decision.faults.push(("core", "unavailable"));
    }
    let missing = match hub {
        HubView::Down => "unreachable",
        HubView::Unfit => "unfit",
        HubView::Absent | HubView::Ready(_) => return Ok(decision),
    };
    if scope.allows_hub() && wanted(pop, &messages, &surroundings, scope, Tier::Hub) {
        decision.faults.push(("hub", missing));
    }
    Ok(decision)
}

/// What the router is shown: raw text as if a user had said it.
fn shown(prompt: &Prompt) -> Vec<RouteMessage> {
    let message =
        |role: &str, content: &PromptText| RouteMessage { role: role.to_owned(), content: content.expose().to_owned() };
    let raw = prompt.raw.iter().map(|raw| message(Role::User.as_str(), raw));
    prompt.messages.iter().map(|each| message(each.role.as_str(), &each.content)).chain(raw).collect()
}

/// Whether the request would run at the hub, or upstream, if that were there.
fn wanted(pop: &Pop, messages: &[RouteMessage], surroundings: &Surroundings, scope: &Scope, tier: Tier) -> bool {
    if scope.asked.is_some() {
        return scope.asked == Some(tier);
    }
    let around = surroundings.clone();
    let healthy = if tier == Tier::Hub {
        let hub_context = around.edge_context.max(around.hub_context);
        Surroundings { hub_ready: true, hub_context, ..around }
    } else {
        Surroundings { core_ready: true, ..around }
    };
    let weights = &pop.parts.router_weights.parsed;
    obsidian_router::decide(messages, &healthy, weights).is_ok_and(|decision| decision.tier == tier)
}

fn surroundings(
    pop: &Pop,
    drafter: &Drafter,
    request: &ChatRequest,
    shielded: &Shielded,
    scope: &Scope,
    hub: &HubView,
) -> Surroundings {
    let prompt = shielded.prompt.get();
    let messages = &prompt.messages;
    let tokens = prompt.text_bytes() / BYTES_PER_TOKEN + messages.len() * TEMPLATE_TOKENS;
    let turns = messages.iter().filter(|message| message.role == Role::Assistant).count();
    let (hub_ready, hub_context) = match hub {
        HubView::Ready(facts) => (true, facts.context_length),
        _ => (false, pop.hub_facts().map_or(0, |facts| facts.context_length)),
    };
    let hub_usable = hub_ready && scope.allows_hub();
    let edge_context = drafter.info().context_length;
    // An estimate must not take the last tier away: whether the prompt fits is decided on its tokens, in
    // [`fit`].
    let core_ready = core_ready(pop, request);
    let core_usable = core_ready && scope.allows_core();
    let widest = match (core_usable, hub_usable) {
        (true, _) => u32::MAX,
        (false, true) => edge_context.max(hub_context),
        (false, false) => edge_context,
    };
    let prompt_tokens = small(tokens).min(widest.saturating_sub(1));
    // Who asks for a tier that is away is answered elsewhere, if it can be, marked as degraded.
    let elsewhere = scope.asked != Some(Tier::Core) || !core_ready;
    Surroundings {
        prompt_tokens,
        max_tokens: request.max_tokens,
        turns: small(turns),
        masked_values: small(shielded.vault.len()),
        edge_load: drafter.load(),
        // A draft model that is being restarted is worth waiting for when nobody else can answer.
        edge_ready: drafter.is_alive() || !(hub_usable || core_usable),
        hub_ready,
        core_ready,
        edge_allowed: (scope.asked != Some(Tier::Hub) || !hub_ready) && elsewhere && scope.allows_edge(),
        hub_allowed: scope.allows_hub() && elsewhere,
        core_allowed: scope.allows_core(),
        edge_context,
        hub_context,
    }
}

async fn ask(pop: &Pop, messages: Vec<RouteMessage>, surroundings: Surroundings) -> Result<Decision, Fault> {
    let router = pop.guests.router.current();
    let (sandbox, weights) = (router.clone(), pop.parts.router_weights.text.clone());
    let (asked, around) = (messages.clone(), surroundings.clone());
    let sandboxed = pop
        .parts
        .pool
        .run(move || sandbox.guest().decide(&asked, &around, &weights))
        .await
        .unwrap_or_else(|error| Err(error.into()));
    let kind = match sandboxed {
        // The sandbox has checked that the tier is one that policy and health allow.
        Ok(decision) => {
            pop.router_health.note(true);
            return Ok(Decision { tier: decision.tier, reason: decision.reason, faults: Vec::new() });
        }
        Err(SandboxError::Refused(Refusal::Route(error))) => return Err(Fault::Route(error)),
        Err(error) => {
            tracing::warn!(%error, "router sandbox failed, deciding natively");
            pop.guests.router.note_sandbox_fault(&router, &error);
            fault_kind(&error)
        }
    };
    counter!("obsidian_router_faults_total", "kind" => kind).increment(1);
    pop.router_health.note(false);
    let faults = vec![("router", "native")];
    match obsidian_router::decide(&messages, &surroundings, &pop.parts.router_weights.parsed) {
        Ok(decision) => Ok(Decision { tier: decision.tier, reason: decision.reason, faults }),
        Err(error) => Err(Fault::Route(error)),
    }
}

/// Checks the rendered prompt against the context of the tier that was chosen on an estimate, and moves
/// it to the other one where it fits.
pub(crate) fn fit(
    pop: &Pop,
    local: &Local,
    request: &ChatRequest,
    mut decision: Decision,
    scope: &Scope,
    prompt_tokens: usize,
    account: &Account,
) -> Result<Decision, Fault> {
    let edge = local.drafter().info().context_length;
    let hub = match pop.hub() {
        HubView::Ready(facts) if scope.allows_hub() => Some(facts.context_length),
        _ => None,
    };
    let fits = |context: u32| prompt_tokens < context as usize;
    let chosen = if decision.tier == Tier::Hub { hub } else { Some(edge) };
    if chosen.is_none_or(fits) {
        return Ok(decision);
    }
    let edge_may = scope.asked != Some(Tier::Hub);
    decision.tier = match decision.tier {
        Tier::Edge if hub.is_some_and(fits) => Tier::Hub,
        Tier::Hub if edge_may && fits(edge) => Tier::Edge,
        _ if scope.allows_core() && core_ready(pop, request) => Tier::Core,
        _ => {
            let limit = if scope.asked == Some(Tier::Edge) { edge } else { edge.max(hub.unwrap_or(0)) };
            return Err(Fault::ContextExceeded { prompt: prompt_tokens, limit });
        }
    };
    decision.reason.push_str("+context");
    let reason = format!("{}+context", account.reason());
    account.routed(decision.tier, &reason);
    Ok(decision)
}

/// Checks a prompt that was rendered because the tier it was meant for is lost.
pub(crate) fn check_length(pop: &Pop, local: &Local, scope: &Scope, prompt_tokens: usize) -> Result<(), Fault> {
    let edge = local.drafter().info().context_length;
    let hub = match pop.hub() {
        HubView::Ready(facts) if scope.allows_hub() => facts.context_length,
        _ => 0,
    };
    let limit = edge.max(hub);
    if prompt_tokens < limit as usize { Ok(()) } else { Err(Fault::ContextExceeded { prompt: prompt_tokens, limit }) }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
