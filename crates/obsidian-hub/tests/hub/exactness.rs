//! Speculation changes when ids come, never which: at any temperature, whoever drafts, however many
//! streams share a pass.

use std::sync::Arc;

use obsidian_model::{ChatMessage, ChatPrompt, Model};
use obsidian_types::{FinishReason, Sampling, Speculation};
use obsidian_wire::HubLink;
use tokio::task::JoinSet;

use crate::support::{Drafter, Site, alone, options, random_model, shipped, speculated};

const TEMPERATURES: [f32; 3] = [0.0, 0.8, 1.2];

const QUESTIONS: [&str; 20] = [
    "Hello!",
    "Good morning, who are you?",
    "What can you do?",
    "The shop opens at nine and closes at six. When does the shop open?",
    "Context: The bridge was built in 1932. Question: When was the bridge built?",
    "Extract the name and the city as JSON: Maria lives in Lisbon.",
    "Extract the order number as JSON: my order 4711 has not arrived.",
    "Classify the intent: I want my money back.",
    "Classify the intent: where is my parcel?",
    "Make a list of apples, pears and plums.",
    "Make a table of city and country: Paris France, Rome Italy.",
    "Rewrite politely: send me the file now.",
    "Rewrite shorter: I would be very grateful if you could send me the file.",
    "Write to PII_EMAIL_7K3QX9 that the meeting is moved.",
    "Repeat exactly: PII_PHONE_0A1B2C",
    "Thank you, that is all.",
    "Summarise: the train was late because of snow, and the passengers waited for two hours.",
    "Is the meeting on Monday or on Tuesday? It is on Tuesday.",
    "{\"a\": 1}",
    "1 2 3 4 5 6 7",
];

fn prompts(model: &Model) -> Vec<Vec<u32>> {
    QUESTIONS
        .iter()
        .map(|content| model.render(&ChatPrompt::new(&[ChatMessage::new("user", content)])).unwrap())
        .collect()
}

/// What changes the logits, a different way for each prompt.
fn adjust(number: usize, sampling: Sampling) -> Sampling {
    match number % 4 {
        0 => sampling,
        1 => Sampling { frequency_penalty: 0.9, presence_penalty: 0.6, ..sampling },
        // Repeats itself: what was accepted must count for what is drafted next.
        2 => Sampling { frequency_penalty: -1.1, presence_penalty: -0.3, ..sampling },
        _ => {
            let logit_bias = (0..150).map(|id| (id * 3, if id % 2 == 0 { -100.0 } else { 2.5 })).collect();
            Sampling { frequency_penalty: 2.0, logit_bias, ..sampling }
        }
    }
}

/// Without the hub: the target's own answer, one token at a time.
fn reference(target: Arc<Model>, prompt: &[u32], options: &obsidian_wire::OpenOptions) -> Vec<u32> {
    let mut decoder = Drafter::new(target, options.sampling.clone(), prompt.len());
    let mut sequence = prompt.to_vec();
    loop {
        let id = decoder.draft(&sequence, 1)[0];
        sequence.push(id);
        if options.end_ids.contains(&id) || sequence.len() == prompt.len() + options.max_tokens as usize {
            return sequence.split_off(prompt.len());
        }
    }
}

/// Whose window, and how long.
#[derive(Clone, Copy, Debug)]
enum Who {
    Draft(usize),
    Target(usize),
    Nonsense,
    Nobody,
}

async fn check(link: HubLink, case: Case) -> (Who, usize, usize) {
    let Case { who, prompt, options, draft, target, expected } = case;
    let vocabulary = target.info().vocabulary_size;
    let model = if matches!(who, Who::Target(_)) { target } else { draft };
    let mut drafter = Drafter::new(model, options.sampling.clone(), prompt.len());
    let answer = speculated(&link, &prompt, options, |sequence| match who {
        Who::Draft(window) | Who::Target(window) => drafter.draft(sequence, window),
        Who::Nonsense => (0..5).map(|step| (sequence.len() as u32 * 31 + step * 17) % vocabulary).collect(),
        Who::Nobody => Vec::new(),
    })
    .await
    .unwrap();
    assert_eq!(answer.ids, expected, "{who:?}");
    (who, answer.accepted, answer.drafted)
}

struct Case {
    who: Who,
    prompt: Vec<u32>,
    options: obsidian_wire::OpenOptions,
    draft: Arc<Model>,
    target: Arc<Model>,
    expected: Vec<u32>,
}

async fn exact(target: impl Fn() -> Model, draft: Arc<Model>, everyone: &[Who]) -> Vec<(Who, usize, usize)> {
    let site = Site::new();
    let hub = site.hub(target()).await;
    let link = site.link(&hub).await;
    let target = Arc::new(target());
    assert_eq!(target.info().vocabulary_digest, draft.info().vocabulary_digest);
    // All at once, so that passes mix prefill, windows and single steps of many streams.
    let mut cases = JoinSet::new();
    let mut changed = 0;
    for (number, prompt) in prompts(&target).into_iter().enumerate() {
        for temperature in TEMPERATURES {
            let mut off = options(&hub, temperature, Speculation::Off);
            off.sampling = adjust(number, Sampling { seed: number as u64, ..off.sampling });
            off.answer_start = prompt.len() as u32;
            let (ids, finish) = alone(&link, &prompt, off.clone()).await;
            assert_eq!(ids, reference(target.clone(), &prompt, &off), "the hub alone, {temperature}, prompt {number}");
            check_takeover(&link, &prompt, &ids, &off).await;
            if off.sampling.adjusts() {
                let sampling = Sampling { temperature, seed: number as u64, ..Sampling::default() };
                let plain = obsidian_wire::OpenOptions { sampling, ..off.clone() };
                changed += usize::from(reference(target.clone(), &prompt, &plain) != ids);
                let banned = |id: &u32| off.sampling.logit_bias.iter().any(|bias| *bias == (*id, -100.0));
                assert!(!ids.iter().any(banned));
            }
            assert_eq!(finish == FinishReason::Length, ids.len() == 24 && !off.end_ids.contains(&ids[23]));
            for who in everyone.iter().copied() {
                let case = Case {
                    who,
                    prompt: prompt.clone(),
                    options: obsidian_wire::OpenOptions { speculation: Speculation::Sync, ..off.clone() },
                    draft: draft.clone(),
                    target: target.clone(),
                    expected: ids.clone(),
                };
                cases.spawn(check(link.clone(), case));
            }
        }
    }
    assert!(changed >= 10, "penalties and bias changed only {changed} answers: the test shows nothing");
    cases.join_all().await
}

/// A hub that takes over in the middle goes on as the one before it would have: penalties count the answer's
/// beginning, which comes with the prompt.
async fn check_takeover(link: &HubLink, prompt: &[u32], ids: &[u32], options: &obsidian_wire::OpenOptions) {
    let half = ids.len() / 2;
    let (begun, rest) = ids.split_at(half);
    let options = obsidian_wire::OpenOptions { max_tokens: options.max_tokens - half as u32, ..options.clone() };
    let (taken_over, _) = alone(link, &[prompt, begun].concat(), options).await;
    assert_eq!(taken_over, rest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_model_answers_alike_with_speculation_on_and_off() {
    let draft = Arc::new(random_model(2, 256));
    let everyone = [Who::Draft(4), Who::Target(3), Who::Nonsense];
    let outcomes = exact(|| random_model(1, 256), draft, &everyone).await;
    for (who, accepted, drafted) in outcomes {
        if let Who::Target(_) = who {
            // Only the last window may reach past the end of the answer.
            assert!(drafted - accepted < 3, "{accepted} of the target's own {drafted} drafts were accepted");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_models_answer_alike_with_speculation_on_and_off() {
    let draft = Arc::new(Model::open(shipped("obsidian-draft.gguf")).unwrap());
    let everyone = [Who::Draft(4), Who::Draft(7), Who::Nobody];
    let outcomes = exact(|| Model::open(shipped("obsidian-target.gguf")).unwrap(), draft, &everyone).await;
    let accepted: usize = outcomes.iter().map(|(_, accepted, _)| accepted).sum();
    let drafted: usize = outcomes.iter().map(|(_, _, drafted)| drafted).sum();
    println!("accepted {accepted} of {drafted} drafted ids");
    assert!(accepted > 0);
}
