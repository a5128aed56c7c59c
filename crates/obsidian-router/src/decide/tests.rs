//! Prompts with the tier they belong to, and the policy and health matrix.

use obsidian_types::Tier;
use proptest::prelude::*;

use super::{RouteError, decide};
use crate::features::{FEATURE_COUNT, RouteMessage, Surroundings};
use crate::weights::Weights;

fn everything_ready() -> Surroundings {
    Surroundings {
        prompt_tokens: 60,
        max_tokens: 256,
        turns: 0,
        masked_values: 0,
        edge_load: 0.1,
        edge_ready: true,
        hub_ready: true,
        core_ready: true,
        edge_allowed: true,
        hub_allowed: true,
        core_allowed: true,
        edge_context: 1024,
        hub_context: 1024,
    }
}

fn user(content: &str) -> Vec<RouteMessage> {
    vec![RouteMessage { role: "user".to_owned(), content: content.to_owned() }]
}

const PROMPTS: [(&str, Tier, &str); 46] = [
    ("Hello!", Tier::Edge, "task:greet"),
    ("hi there", Tier::Edge, "task:greet"),
    ("Good morning, how are you?", Tier::Edge, "task:greet"),
    ("Thanks a lot!", Tier::Edge, "task:greet"),
    ("Guten Tag", Tier::Edge, "task:greet"),
    ("Bonjour", Tier::Edge, "task:greet"),
    ("What is Obsidian?", Tier::Edge, "task:about"),
    ("Who are you?", Tier::Edge, "task:about"),
    ("What can you do for me?", Tier::Edge, "task:about"),
    ("Tell me about Obsidian.", Tier::Edge, "task:about"),
    ("Classify the intent: I want my money back.", Tier::Edge, "task:classify"),
    ("What is the sentiment of: great service, thank you", Tier::Edge, "task:classify"),
    ("Is this spam or not: win a prize now", Tier::Edge, "task:classify"),
    ("Which category fits: my parcel never came", Tier::Edge, "task:classify"),
    ("Extract the name and the city as JSON: Bob lives in Rome.", Tier::Hub, "task:extract"),
    ("Extract the email from: write to PII_EMAIL_7K3QX9 today", Tier::Hub, "task:extract"),
    ("Return JSON with the fields order and date: order 5 of 3 May", Tier::Hub, "task:extract"),
    ("Pull out all dates: we met on 3 May and 5 June.", Tier::Hub, "task:extract"),
    ("Rewrite this politely: send it now", Tier::Hub, "task:rewrite"),
    ("Make this more formal: hey, got your mail", Tier::Hub, "task:rewrite"),
    ("Summarise: the meeting moved from Monday to Friday.", Tier::Hub, "task:rewrite"),
    ("Please proofread: I has a apple", Tier::Hub, "task:rewrite"),
    ("Shorten: we would like to inform you that it is late", Tier::Hub, "task:rewrite"),
    ("List these as bullet points: apples, pears, plums", Tier::Hub, "task:list"),
    ("Put this into a table: Ann 3, Bob 5", Tier::Hub, "task:list"),
    ("Make a numbered list of: red, green, blue", Tier::Hub, "task:list"),
    ("Context: The shop opens at 9.\nQuestion: When does the shop open?", Tier::Hub, "task:context"),
    ("According to the note, who called? Note: Ann called at noon.", Tier::Hub, "task:context"),
    ("Answer using only the document: The fee is 5 EUR. What is the fee?", Tier::Hub, "task:context"),
    ("Write a function in Python that reverses a string", Tier::Core, "cue:code"),
    ("Fix this:\n```\nfn main() { let x = 1 }\n```", Tier::Core, "cue:code"),
    ("Why does this code not compile? let x: i32 = \"a\";", Tier::Core, "cue:code+cue:reasoning"),
    ("Give me the SQL to count users", Tier::Core, "cue:code"),
    ("Prove that there are infinitely many of them", Tier::Core, "cue:reasoning"),
    ("Why is the sky blue?", Tier::Core, "cue:reasoning"),
    ("Think step by step: who owns the fish?", Tier::Core, "cue:reasoning"),
    ("Compare the two plans and their trade-offs", Tier::Core, "cue:reasoning"),
    ("What is 17 * 23?", Tier::Core, "cue:maths"),
    ("Solve x^2 - 4 = 0", Tier::Core, "cue:maths"),
    ("Calculate 12 + 30", Tier::Core, "cue:maths"),
    ("What is the capital of France?", Tier::Core, "cue:knowledge"),
    ("Who wrote Faust?", Tier::Core, "cue:knowledge"),
    ("Write a poem on autumn", Tier::Core, "cue:knowledge"),
    ("Please note that down.", Tier::Hub, "default"),
    ("ok", Tier::Hub, "default"),
    ("Repeat PII_CARD_04K8MG exactly.", Tier::Hub, "task:rewrite"),
];

#[test]
fn prompts_go_where_they_belong() {
    let weights = Weights::default();
    let mut wrong = Vec::new();
    for (prompt, tier, reason) in PROMPTS {
        let decision = decide(&user(prompt), &everything_ready(), &weights).unwrap();
        if (decision.tier, decision.reason.as_str()) != (tier, reason) {
            wrong.push(format!("{prompt:?}: {} {} {:?}", decision.tier, decision.reason, decision.scores));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn surroundings_move_the_decision() {
    let weights = Weights::default();
    let routed = |prompt: &str, change: fn(&mut Surroundings)| {
        let mut surroundings = everything_ready();
        change(&mut surroundings);
        let decision = decide(&user(prompt), &surroundings, &weights).unwrap();
        (decision.tier, decision.reason)
    };
    let is = |tier, reason: &str| (tier, reason.to_owned());
    assert_eq!(routed("Classify the intent: refund please", |s| s.masked_values = 2), is(Tier::Hub, "masked"));
    assert_eq!(routed("Classify the intent: refund please", |s| s.edge_load = 1.0), is(Tier::Hub, "load:edge"));
    assert_eq!(routed("Hello!", |s| s.edge_load = 1.0), is(Tier::Edge, "task:greet"));
    assert_eq!(routed("Hello!", |s| s.edge_load = f32::NAN), is(Tier::Edge, "task:greet"));
    assert_eq!(routed("Hello!", |s| s.edge_ready = false), is(Tier::Hub, "health:edge-down"));
    assert_eq!(routed("What is 17 * 23?", |s| s.core_ready = false), is(Tier::Hub, "health:core-down"));
    assert_eq!(routed("What is 17 * 23?", |s| s.core_allowed = false), is(Tier::Hub, "policy:no-core"));
    assert_eq!(routed("Extract the name: Bob", |s| s.hub_ready = false), is(Tier::Core, "health:hub-down"));
    let only_edge = |s: &mut Surroundings| (s.hub_allowed, s.core_allowed) = (false, false);
    assert_eq!(routed("Extract the name: Bob", only_edge), is(Tier::Edge, "policy:edge-only"));
    assert_eq!(
        routed("Hello!", |s| (s.edge_allowed, s.core_allowed) = (false, false)),
        is(Tier::Hub, "policy:hub-only")
    );
    assert_eq!(
        routed("Hello!", |s| (s.edge_allowed, s.hub_allowed) = (false, false)),
        is(Tier::Core, "policy:core-only")
    );
    assert_eq!(routed("Hello!", |s| s.edge_context = 160), is(Tier::Hub, "overflow:edge"));
    assert_eq!(routed("Hello!", |s| s.max_tokens = 2_000), is(Tier::Edge, "task:greet"));
}

#[test]
fn a_system_message_can_bring_the_context() {
    let mut messages =
        vec![RouteMessage { role: "system".to_owned(), content: "Context: the shop opens at 9.".to_owned() }];
    messages.extend(user("When does the shop open?"));
    let decision = decide(&messages, &everything_ready(), &Weights::default()).unwrap();
    assert_eq!((decision.tier, decision.reason.as_str()), (Tier::Hub, "task:context"));
}

#[test]
fn equal_scores_go_to_the_cheaper_tier() {
    let flat = Weights::parse(r#"{"version":1,"edge":{},"hub":{},"core":{}}"#).unwrap();
    let decision = decide(&user("anything"), &everything_ready(), &flat).unwrap();
    assert_eq!((decision.tier, decision.fallbacks), (Tier::Edge, vec![Tier::Hub, Tier::Core]));
    assert_eq!(decision.reason, "default");
}

#[test]
fn a_prompt_longer_than_the_context_takes_the_tier_away() {
    let weights = Weights::parse(r#"{"version":1,"edge":{"bias":1},"hub":{},"core":{}}"#).unwrap();
    let mut surroundings = everything_ready();
    surroundings.edge_context = surroundings.prompt_tokens;
    let decision = decide(&user("anything"), &surroundings, &weights).unwrap();
    assert_eq!((decision.tier, decision.reason.as_str()), (Tier::Hub, "context:edge-full"));
    assert_eq!(decision.scores[0], f32::NEG_INFINITY);
}

#[test]
fn no_tier_says_what_took_each_away() {
    let mut surroundings = everything_ready();
    (surroundings.hub_allowed, surroundings.core_ready, surroundings.prompt_tokens) = (false, false, 5_000);
    let error = decide(&user("secret words"), &surroundings, &Weights::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no tier is left: the prompt is longer than edge's context, hub is not allowed by policy, core is not ready"
    );
}

#[test]
fn features_come_in_a_fixed_order() {
    let decision = decide(&user("Extract the name: Bob"), &everything_ready(), &Weights::default()).unwrap();
    let named: Vec<String> = decision.features.named().map(|(name, value)| format!("{name}={value:.2}")).collect();
    assert_eq!(named.len(), FEATURE_COUNT);
    insta::assert_snapshot!(named.join(" "), @"length:prompt=0.12 length:answer=0.00 turns=0.00 masked=0.00 load:edge=0.10 overflow:edge=0.00 overflow:hub=0.00 task:greet=0.00 task:about=0.00 task:classify=0.00 task:list=0.00 task:rewrite=0.00 task:extract=1.00 task:context=0.00 cue:code=0.00 cue:reasoning=0.00 cue:maths=0.00 cue:knowledge=0.00");
}

/// Every combination of policy and health.
#[test]
fn the_matrix_never_yields_a_tier_that_is_out() {
    let weights = Weights::default();
    for bits in 0..64_u32 {
        let bit = |index: u32| bits >> index & 1 == 1;
        let mut surroundings = everything_ready();
        (surroundings.edge_ready, surroundings.hub_ready, surroundings.core_ready) = (bit(0), bit(1), bit(2));
        (surroundings.edge_allowed, surroundings.hub_allowed, surroundings.core_allowed) = (bit(3), bit(4), bit(5));
        for (prompt, _, _) in PROMPTS {
            check(&user(prompt), &surroundings, &weights);
        }
    }
}

fn check(messages: &[RouteMessage], surroundings: &Surroundings, weights: &Weights) {
    let context = surroundings.prompt_tokens;
    let usable: Vec<Tier> = [
        (Tier::Edge, surroundings.edge_ready && surroundings.edge_allowed && context < surroundings.edge_context),
        (Tier::Hub, surroundings.hub_ready && surroundings.hub_allowed && context < surroundings.hub_context),
        (Tier::Core, surroundings.core_ready && surroundings.core_allowed),
    ]
    .into_iter()
    .filter_map(|(tier, is_usable)| is_usable.then_some(tier))
    .collect();
    match decide(messages, surroundings, weights) {
        Ok(decision) => {
            let mut offered = vec![decision.tier];
            offered.extend_from_slice(&decision.fallbacks);
            let score = |tier: Tier| decision.scores[tier as usize];
            assert!(offered.windows(2).all(|pair| score(pair[0]) >= score(pair[1])), "best first");
            offered.sort_unstable();
            assert_eq!(offered, usable, "all usable tiers, each once, and no other");
            for tier in [Tier::Edge, Tier::Hub, Tier::Core] {
                assert_eq!(decision.scores[tier as usize].is_finite(), usable.contains(&tier));
            }
            assert!(!decision.reason.is_empty());
        }
        Err(RouteError::NoTier { .. }) => assert!(usable.is_empty()),
    }
}

proptest! {
    #[test]
    fn no_weights_bring_a_tier_back(
        content in "\\PC{0,120}",
        numbers in (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<f32>()),
        flags in any::<[bool; 6]>(),
        contexts in (0..5_000_u32, 0..5_000_u32),
        weights in prop::collection::vec(-1_000.0..1_000.0_f32, 3),
    ) {
        let surroundings = Surroundings {
            prompt_tokens: numbers.0 % 6_000,
            max_tokens: numbers.1,
            turns: numbers.2,
            masked_values: numbers.3,
            edge_load: numbers.4,
            edge_ready: flags[0],
            hub_ready: flags[1],
            core_ready: flags[2],
            edge_allowed: flags[3],
            hub_allowed: flags[4],
            core_allowed: flags[5],
            edge_context: contexts.0,
            hub_context: contexts.1,
        };
        let json = format!(
            r#"{{"version":1,"edge":{{"bias":{0},"load:edge":{1}}},"hub":{{"bias":{1},"turns":{2}}},"core":{{"bias":{2},"length:prompt":{0}}}}}"#,
            weights[0], weights[1], weights[2]
        );
        check(&user(&content), &surroundings, &Weights::parse(&json).unwrap());
        check(&user(&content), &surroundings, &Weights::default());
    }
}
