//! Places, memory, prefixes, refusals, and how streams share passes.

use std::time::Duration;

use obsidian_hub::engine::{Engine, NativeEngine, Wanted};
use obsidian_types::limits::{MAX_HUB_AHEAD_IDS, MAX_PREFILL_TOKENS};
use obsidian_types::{FinishReason, Speculation};
use obsidian_wire::{Code, LinkError, Refusal};
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Site, Watched, alone, masked, options, random_model, speculated};

/// Not in any prompt here, and never emitted by these tests' models within their few tokens.
const NO_POISON: u32 = u32::MAX;

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|at| 3 + at * 7 % 200).collect()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, LinkError>) -> Refusal {
    match outcome {
        Err(LinkError::Refused(refusal)) => refusal,
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn the_next_turn_reuses_what_the_hub_holds() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 256)).await;
    let link = site.link(&hub).await;
    let off = || options(&hub, 0.8, Speculation::Off);
    let first = prompt(50);
    let (answer, _) = alone(&link, &first, off()).await;

    let second = [&first[..], &answer[..answer.len() - 1], &prompt(9)].concat();
    let mut stream = link.open(&masked(&second), off()).await.unwrap();
    let held = first.len() + answer.len() - 1;
    assert_eq!(stream.opened().reused_tokens as usize, held);
    let up = stream.wan_bytes().up;
    let mut reused = Vec::new();
    while let Some(batch) = stream.next().await.unwrap() {
        reused.extend(batch.ids);
    }
    // A hub that never saw the conversation says the same.
    let fresh = Site::new();
    let fresh_hub = fresh.hub(random_model(1, 256)).await;
    let fresh_link = fresh.link(&fresh_hub).await;
    assert_eq!(alone(&fresh_link, &second, off()).await.0, reused);

    // Another tenant gets nothing of it, and sends everything.
    let mut other = off();
    other.tenant_salt = [9; 16];
    let stream = link.open(&masked(&second), other).await.unwrap();
    assert_eq!(stream.opened().reused_tokens, 0);
    println!("open of {} ids: {up} bytes up, {} without a prefix", second.len(), stream.wan_bytes().up);
}

#[tokio::test]
async fn a_hub_that_forgot_the_prefix_asks_for_it() {
    let site = Site::new();
    // Room for one conversation only.
    let budget = NativeEngine::new(random_model(1, 256), [1; 32]).cache_bytes(100);
    let config = obsidian_hub::HubConfig { kv_budget_bytes: budget, ..site.config() };
    let hub = site.hub_with(config, Box::new(NativeEngine::new(random_model(1, 256), [1; 32]))).await;
    let link = site.link(&hub).await;
    let off = || options(&hub, 0.0, Speculation::Off);
    let first = prompt(50);
    alone(&link, &first, off()).await;
    // Another conversation takes its place.
    let other: Vec<u32> = prompt(50).into_iter().rev().collect();
    alone(&link, &other, off()).await;

    let mut second = first.clone();
    second.extend(prompt(9));
    let stream = link.open(&masked(&second), off()).await.unwrap();
    assert_eq!((stream.opened().reused_tokens, stream.opened().prompt_tokens), (0, second.len() as u32));
}

#[tokio::test]
async fn a_full_hub_refuses_with_a_hint_and_recovers() {
    let site = Site::new();
    let config = obsidian_hub::HubConfig { max_sessions: 1, ..site.config() };
    let hub = site.hub_with(config, Box::new(NativeEngine::new(random_model(1, 256), [1; 32]))).await;
    let link = site.link(&hub).await;
    let sync = || options(&hub, 0.0, Speculation::Sync);
    let first = link.open(&masked(&prompt(20)), sync()).await.unwrap();
    let refused = refusal(link.open(&masked(&prompt(20)), sync()).await);
    assert_eq!(refused.code, Code::Overloaded);
    assert!(refused.retry_after > Some(Duration::ZERO));
    first.close().await;
    link.open(&masked(&prompt(20)), sync()).await.unwrap();
}

#[tokio::test]
async fn memory_is_reserved_when_a_stream_opens() {
    let site = Site::new();
    let budget = NativeEngine::new(random_model(1, 256), [1; 32]).cache_bytes(100);
    let config = obsidian_hub::HubConfig { kv_budget_bytes: budget, ..site.config() };
    let hub = site.hub_with(config, Box::new(NativeEngine::new(random_model(1, 256), [1; 32]))).await;
    let link = site.link(&hub).await;
    let sync = || options(&hub, 0.0, Speculation::Sync);
    let first = link.open(&masked(&prompt(60)), sync()).await.unwrap();
    let refused = refusal(link.open(&masked(&prompt(60)), sync()).await);
    assert_eq!((refused.code, refused.retry_after.is_some()), (Code::Overloaded, true));
    first.close().await;
    link.open(&masked(&prompt(60)), sync()).await.unwrap();
    // One that could never fit is told so, without a hint to come back.
    let hopeless = refusal(link.open(&masked(&prompt(200)), sync()).await);
    assert_eq!((hopeless.code, hopeless.retry_after), (Code::Overloaded, None));
    let description = link.describe().await.unwrap();
    assert!(description.kv_bytes <= description.kv_budget_bytes);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 256)).await;
    let link = site.link(&hub).await;
    let sync = || options(&hub, 0.0, Speculation::Sync);
    let too_long = refusal(link.open(&masked(&prompt(256)), sync()).await);
    assert_eq!(too_long.code, Code::ContextFull);

    let mut foreign = sync();
    foreign.vocabulary_digest = "ab".repeat(32);
    let refused = refusal(link.open(&masked(&prompt(20)), foreign).await);
    assert_eq!(refused.code, Code::ModelMismatch);
    assert!(refused.message.contains("one tokenizer"), "{refused}");

    let mut other = sync();
    other.model = "another".to_owned();
    assert_eq!(refusal(link.open(&masked(&prompt(20)), other).await).code, Code::ModelMismatch);
    let mut other = sync();
    other.numerics_id = Some("gpu-7".to_owned());
    assert_eq!(refusal(link.open(&masked(&prompt(20)), other).await).code, Code::NumericsMismatch);
    assert_eq!(refusal(link.open(&masked(&[]), sync()).await).code, Code::InvalidMessage);
    assert_eq!(refusal(link.open(&masked(&[9_999]), sync()).await).code, Code::InvalidMessage);

    let mut stream = link.open(&masked(&prompt(20)), sync()).await.unwrap();
    assert_eq!(refusal(stream.verify(&[9_999]).await).code, Code::InvalidMessage);
}

#[tokio::test]
async fn the_context_length_ends_an_answer() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 64)).await;
    let link = site.link(&hub).await;
    let mut to_the_end = options(&hub, 0.8, Speculation::Off);
    (to_the_end.max_tokens, to_the_end.end_ids) = (10_000, Vec::new());
    let (ids, finish) = alone(&link, &prompt(50), to_the_end.clone()).await;
    assert_eq!((ids.len(), finish), (14, FinishReason::Length));
    to_the_end.speculation = Speculation::Sync;
    let answer = speculated(&link, &prompt(50), to_the_end, |_| vec![5; 16]).await.unwrap();
    assert_eq!(answer.ids, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_prompt_shares_passes_with_the_steps_of_others() {
    let site = Site::new();
    let (engine, passes) = Watched::new(random_model(1, 2_048), NO_POISON);
    let hub = site.hub_with(site.config(), engine).await;
    let link = site.link(&hub).await;
    let mut steady = options(&hub, 0.8, Speculation::Off);
    (steady.max_tokens, steady.end_ids) = (2_000, Vec::new());
    let mut first = link.open(&masked(&prompt(20)), steady.clone()).await.unwrap();
    first.next().await.unwrap();
    let mut reader = JoinSet::new();
    reader.spawn(async move { while first.next().await.unwrap().is_some() {} });
    steady.max_tokens = 1;
    alone(&link, &prompt(1_500), steady).await;
    reader.shutdown().await;

    let passes = passes.lock().unwrap().clone();
    let prefilled = |pass: &[(usize, Wanted)]| -> usize {
        pass.iter().filter(|lane| lane.1 == Wanted::None).map(|lane| lane.0).sum()
    };
    assert!(passes.iter().all(|pass| prefilled(pass) <= MAX_PREFILL_TOKENS));
    let slices: Vec<_> = passes.iter().filter(|pass| prefilled(pass) > 100).collect();
    assert!(slices.len() >= 11, "1,499 tokens in slices of 128");
    let shared = slices.iter().filter(|pass| pass.iter().any(|lane| lane.1 == Wanted::All)).count();
    assert_eq!(shared, slices.len(), "the other stream takes a step in every pass");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pop_that_does_not_read_makes_its_stream_pause() {
    let site = Site::new();
    let (engine, passes) = Watched::new(random_model(1, 4_096), NO_POISON);
    let hub = site.hub_with(site.config(), engine).await;
    let link = site.link(&hub).await;
    let mut endless = options(&hub, 0.0, Speculation::Off);
    (endless.max_tokens, endless.end_ids) = (4_000, Vec::new());
    let mut stream = link.open(&masked(&prompt(20)), endless).await.unwrap();
    let count = || passes.lock().unwrap().len();
    // One pass per id, after one for the prompt.
    let paused = async {
        while count() < MAX_HUB_AHEAD_IDS + 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::time::timeout(PATIENCE, paused).await.unwrap();
    assert_eq!(count(), MAX_HUB_AHEAD_IDS + 1, "ids are computed for nobody");

    let mut ids = 0;
    while let Some(batch) = stream.next().await.unwrap() {
        ids += batch.ids.len();
    }
    assert_eq!(ids, 4_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_pass_ends_its_streams_only() {
    let site = Site::new();
    let (engine, _) = Watched::new(random_model(1, 256), 7);
    let hub = site.hub_with(site.config(), engine).await;
    let link = site.link(&hub).await;
    let sync = || options(&hub, 0.0, Speculation::Sync);
    let mut bystander = link.open(&masked(&[20, 21, 22]), sync()).await.unwrap();
    bystander.verify(&[]).await.unwrap();
    let mut poisoned = link.open(&masked(&[20, 21, 22]), sync()).await.unwrap();
    assert_eq!(refusal(poisoned.verify(&[7]).await).code, Code::EngineFailed);
    bystander.verify(&[]).await.unwrap();
    assert!(hub.is_alive());
}
