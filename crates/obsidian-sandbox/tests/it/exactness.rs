//! One arithmetic: the shipped models compute the same bits natively and in the sandbox.

use std::path::PathBuf;

use obsidian_model::gguf::TensorKind;
use obsidian_model::synthetic::Synthetic;
use obsidian_model::{Architecture, ChatMessage, ChatPrompt, KvCache, Lane, Model, Sampler, Score, Wanted, Workspace};
use obsidian_sandbox::{Candidate, Drafter, ScoredToken, WeightFile};
use obsidian_types::{Message, Role, Sampling};

use crate::{block_on, engines};

const PROMPTS: [&str; 3] = [
    "Hello!",
    "Classify the intent: my parcel PII_EMAIL_7K3QX9 has not arrived, where is it?",
    "Extract name and city as JSON: Ada Lovelace moved to London in 1835 and lived at St James's Square.",
];

fn shipped() -> [PathBuf; 2] {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    ["obsidian-draft.gguf", "obsidian-target.gguf"].map(|name| models.join(name))
}

fn start(path: &PathBuf) -> (Drafter, Model) {
    let weights = WeightFile::open(path, None).expect("a shipped model");
    let artifact = obsidian_guests::drafter().expect("embedded");
    let drafter = Drafter::start(engines(), &artifact, weights).expect("a drafter");
    (drafter, Model::open(path).expect("a shipped model"))
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

fn last_logits(model: &Model, cache: &mut KvCache, workspace: &mut Workspace, ids: &[u32]) -> Vec<f32> {
    let mut lanes = [Lane { cache, ids, wanted: Wanted::Last }];
    let logits = model.forward(&mut lanes, workspace).expect("a forward pass");
    logits.lane(0).last().to_vec()
}

#[test]
fn rendering_is_the_same() {
    for path in shipped() {
        let (drafter, model) = start(&path);
        for prompt in PROMPTS {
            let native = model.render(&ChatPrompt::new(&[ChatMessage::new("user", prompt)])).expect("rendered");
            let message = Message::new(Role::User, prompt);
            let sandboxed = block_on(drafter.render(&[message], &[])).expect("rendered");
            assert_eq!(sandboxed, native);
            let bytes = block_on(drafter.detokenize(&native)).expect("bytes");
            assert_eq!(bytes, model.tokenizer().decode(&native).expect("bytes"));
        }
        assert_eq!(drafter.info().vocabulary_digest, model.info().vocabulary_digest);
        assert_eq!(drafter.info().numerics_id, model.info().numerics_id);
    }
}

#[test]
fn logits_are_the_same_bits() {
    for path in shipped() {
        let (drafter, model) = start(&path);
        let mut workspace = Workspace::new();
        for prompt in PROMPTS {
            let ids = model.render(&ChatPrompt::new(&[ChatMessage::new("user", prompt)])).expect("rendered");
            let mut cache = model.new_cache();
            block_on(async {
                let mut session = drafter.open(greedy(), 0).await.expect("a session");
                // The whole prompt at once, then token by token.
                let native = last_logits(&model, &mut cache, &mut workspace, &ids);
                session.feed(&ids).await.expect("fed");
                assert_eq!(bits(&session.logits().await.expect("logits")), bits(&native));
                for id in ids.iter().rev().take(6) {
                    let native = last_logits(&model, &mut cache, &mut workspace, &[*id]);
                    session.feed(&[*id]).await.expect("fed");
                    assert_eq!(bits(&session.logits().await.expect("logits")), bits(&native));
                }
                // After a rollback the bits must not remember what was rolled back.
                let kept = ids.len() as u32;
                cache.truncate(kept).expect("shorter");
                session.truncate(kept).await.expect("shorter");
                let native = last_logits(&model, &mut cache, &mut workspace, &ids[..2]);
                session.feed(&ids[..2]).await.expect("fed");
                assert_eq!(bits(&session.logits().await.expect("logits")), bits(&native));
            });
        }
    }
}

/// Random models: the shipped ones know one architecture and one format.
#[test]
fn every_architecture_and_format_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    for architecture in Architecture::ALL {
        for kind in TensorKind::ALL {
            let name = format!("{}-{}.gguf", architecture.name(), kind.name());
            let path = folder.path().join(&name);
            let model = Synthetic {
                architecture,
                kind,
                width: 256,
                feed_width: 256,
                varied_norms: true,
                ..Synthetic::default()
            };
            std::fs::write(&path, model.file()).expect("written");
            let (drafter, model) = start(&path);
            let ids: Vec<u32> = (0..40).map(|index| index * 37 % 256).collect();
            let (mut cache, mut workspace) = (model.new_cache(), Workspace::new());
            block_on(async {
                let mut session = drafter.open(greedy(), 0).await.expect("a session");
                for ids in [&ids[..], &ids[..1]] {
                    session.feed(ids).await.expect("fed");
                    let native = last_logits(&model, &mut cache, &mut workspace, ids);
                    assert_eq!(bits(&session.logits().await.expect("logits")), bits(&native), "{name}");
                }
            });
        }
    }
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

fn native(sampling: &Sampling) -> obsidian_model::Sampling {
    obsidian_model::Sampling {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        seed: sampling.seed,
        choice: sampling.choice,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        logit_bias: sampling.logit_bias.clone(),
    }
}

/// Continues a prompt natively, one token at a time.
fn continue_natively(model: &Model, sampling: &Sampling, ids: &[u32], window: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(native(sampling));
    let (mut cache, mut workspace) = (model.new_cache(), Workspace::new());
    let mut drafted: Vec<u32> = Vec::new();
    let mut fresh = ids.to_vec();
    while drafted.len() < window {
        let logits = last_logits(model, &mut cache, &mut workspace, &fresh);
        let next = sampler.pick(&logits, (ids.len() + drafted.len()) as u32);
        sampler.count(&[next]);
        drafted.push(next);
        fresh = vec![next];
        if model.info().end_ids.contains(&next) {
            break;
        }
    }
    drafted
}

#[test]
fn drafts_of_a_batch_are_those_of_native_single_runs() {
    let [path, _] = shipped();
    let (drafter, model) = start(&path);
    let cases: Vec<(Vec<u32>, Sampling)> = (0..6)
        .map(|index| {
            let prompt = PROMPTS[index % PROMPTS.len()];
            let ids = model.render(&ChatPrompt::new(&[ChatMessage::new("user", prompt)])).expect("rendered");
            let temperature = [0.0, 0.8, 1.2][index / 2];
            let sampling = Sampling { temperature, top_p: 0.95, seed: index as u64, ..greedy() };
            // Half of them with the logits changed; a batch mixes both.
            let adjusted = Sampling {
                frequency_penalty: 0.7,
                presence_penalty: -0.4,
                logit_bias: [(5, 1.5), (40, -100.0)].into(),
                ..sampling.clone()
            };
            (ids, if index % 2 == 0 { sampling } else { adjusted })
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (index, (ids, sampling)) in cases.iter().cloned().enumerate() {
            let drafter = drafter.clone();
            tasks.spawn(async move {
                let mut session = drafter.open(sampling, ids.len() as u32).await.expect("a session");
                session.feed(&ids).await.expect("fed");
                let mut drafted = session.draft(5).await.expect("drafted");
                drafted.extend(session.draft(7).await.expect("drafted"));
                (index, drafted)
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (index, drafted) = done.expect("no panic");
            let (ids, sampling) = &cases[index];
            let native = continue_natively(&model, sampling, ids, drafted.len());
            assert_eq!(drafted[..native.len()], native, "case {index}");
        }
    });
}

/// The scores come from the raw distribution; the tokens are those of a plain draft. And a session that drafted
/// wrongly and was rolled back goes on as one that never did: its penalties count the answer alone.
#[test]
fn scored_drafts_and_rollbacks_are_exact_under_penalties() {
    let [path, _] = shipped();
    let (drafter, model) = start(&path);
    for temperature in [0.0, 0.9] {
        let sampling = Sampling {
            temperature,
            seed: 11,
            frequency_penalty: -0.8,
            presence_penalty: 0.5,
            logit_bias: [(7, 3.0), (11, -100.0)].into(),
            ..Sampling::default()
        };
        let prompt = model.render(&ChatPrompt::new(&[ChatMessage::new("user", PROMPTS[1])])).expect("rendered");
        let expected = continue_natively(&model, &sampling, &prompt, 12);
        let kept = expected.len() / 2;
        block_on(async {
            let open = || drafter.open(sampling.clone(), prompt.len() as u32);
            let mut session = open().await.expect("a session");
            session.feed(&prompt).await.expect("fed");
            let scored = session.draft_scored(12, 3).await.expect("scored");
            let ids: Vec<u32> = scored.iter().map(|scored| scored.token.id).collect();
            assert_eq!(ids, expected);
            compare_scores(&model, &prompt, &scored);

            // As after a verdict: the tail goes, others come, they go as well.
            session.truncate((prompt.len() + kept) as u32).await.expect("shorter");
            session.feed(&[expected[0], 7, 7]).await.expect("fed");
            session.draft(4).await.expect("drafted");
            session.truncate((prompt.len() + kept) as u32).await.expect("shorter");
            assert_eq!(session.draft(12 - kept as u32).await.expect("drafted"), expected[kept..]);

            // As after a fail-over: prompt and answer arrive as one.
            let mut taken_over = open().await.expect("a session");
            taken_over.feed(&[&prompt[..], &expected[..kept]].concat()).await.expect("fed");
            assert_eq!(taken_over.draft(12 - kept as u32).await.expect("drafted"), expected[kept..]);
        });
    }
}

fn compare_scores(model: &Model, prompt: &[u32], scored: &[ScoredToken]) {
    let (mut cache, mut workspace) = (model.new_cache(), Workspace::new());
    let mut fresh = prompt.to_vec();
    for scored in scored {
        let logits = last_logits(model, &mut cache, &mut workspace, &fresh);
        let native = Score::of(&logits, scored.token.id, 3);
        assert_eq!(scored.token.logprob.to_bits(), native.logprob.to_bits());
        let alternatives: Vec<(u32, f32)> =
            scored.alternatives.iter().map(|candidate| (candidate.id, candidate.logprob)).collect();
        assert_eq!(alternatives, native.alternatives);
        let decoded = |candidate: &Candidate| model.tokenizer().decode(&[candidate.id]).expect("bytes");
        assert!(scored.alternatives.iter().chain([&scored.token]).all(|it| it.bytes == decoded(it)));
        fresh = vec![scored.token.id];
    }
}
