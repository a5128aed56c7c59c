//! Guests exchanged between a POP and a hub that verifies its drafts: not a byte of any answer changes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use obsidian_edge::{Edge, EdgeConfig, EdgeHandle, EdgeParts, GuestKind, RouterWeights, TenantSecret};
use obsidian_hub::{Hub, HubConfig, HubHandle};
use obsidian_sandbox::{
    ComputePool, Drafter, DrafterOptions, EngineOptions, Engines, ModelShelf, RouterSandbox, ShieldSandbox, WeightFile,
};
use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkOptions, ServerTls};
use serde_json::{Value, json};
use xtask::fabric::client::{self, Answer};

use crate::signing::release;
use crate::support::held_out_prompts;

const PATIENCE: Duration = Duration::from_secs(60);
const STREAMS: usize = 6;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name)
}

/// A hub and a POP in this process, so that the POP's guests can be exchanged by hand.
async fn site(folder: &Path) -> (HubHandle, EdgeHandle) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = DevelopmentCa::create_or_open(&folder.join("authority")).unwrap();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let hub = Hub::start(HubConfig {
        listen: loopback,
        tls: ServerTls::new(&authority.issue("hub").unwrap()).unwrap(),
        model_path: shipped("obsidian-target.gguf"),
        threads: 1,
        kv_budget_bytes: 128 << 20,
        max_sessions: 64,
    })
    .await
    .unwrap();
    let tls = ClientTls::new(&authority.issue("pop").unwrap()).unwrap();
    let link = HubLink::new(&hub.local_addr().to_string(), tls, LinkOptions::default()).unwrap();
    link.ready(PATIENCE).await.unwrap();
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aot");
    let engines = Engines::new(&EngineOptions::new(cache)).unwrap();
    let weights = WeightFile::open(&shipped("obsidian-draft.gguf"), None).unwrap();
    let guest = obsidian_guests::drafter().unwrap();
    let parts = EdgeParts {
        pool: ComputePool::new(2).unwrap(),
        shield: ShieldSandbox::load(&engines, &obsidian_guests::shield().unwrap()).unwrap(),
        router: RouterSandbox::load(&engines, &obsidian_guests::router().unwrap()).unwrap(),
        router_weights: RouterWeights::parse(obsidian_router::Weights::default_json()).unwrap(),
        drafter: Drafter::start_with(&engines, &guest, weights, DrafterOptions::workers(2)).unwrap(),
        models: ModelShelf::default(),
        hub: Some(link),
        core: None,
        functions: None,
        metrics: PrometheusBuilder::new().build_recorder().handle(),
    };
    let pop = Edge::start(EdgeConfig::new(loopback, TenantSecret::new([7; 32])), parts).await.unwrap();
    (hub, pop)
}

fn asked(number: usize, messages: &Value, speculation: &str) -> Value {
    json!({
        "model": "hub", "messages": messages, "temperature": 0.8, "seed": 1_000 + number, "max_tokens": 24,
        "stream": true, "obsidian": {"speculation": speculation},
    })
}

fn answer(url: &str, body: &Value) -> Answer {
    let answer = client::chat(url, body, true, || Ok(())).unwrap();
    assert!(answer.route == "hub" && !answer.degraded, "it did not stay on its path");
    answer
}

#[test]
fn answers_verified_by_a_hub_are_the_same_while_every_guest_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (hub, pop) = runtime.block_on(site(folder.path()));
    let url = format!("http://{}", pop.local_addr());
    let questions: Vec<Value> = held_out_prompts()
        .iter()
        .take(STREAMS)
        .enumerate()
        .map(|(number, messages)| asked(number, messages, if number % 2 == 0 { "sync" } else { "off" }))
        .collect();
    let expected: Vec<String> = questions.iter().map(|question| answer(&url, question).text).collect();
    let (stop, answered, accepted) = (AtomicBool::new(false), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for (question, text) in questions.iter().zip(&expected) {
            let (url, stop, answered, accepted) = (&url, &stop, &answered, accepted.clone());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = answer(url, question);
                    assert_eq!(answer.text, *text);
                    accepted.fetch_add(answer.accepted as usize, Ordering::Relaxed);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let next = |kind, version| {
            let guest = match kind {
                GuestKind::Shield => obsidian_guests::shield(),
                GuestKind::Router => obsidian_guests::router(),
                GuestKind::Drafter => obsidian_guests::drafter(),
            };
            release(&guest.unwrap(), version)
        };
        for kind in [GuestKind::Drafter, GuestKind::Shield, GuestKind::Router, GuestKind::Drafter] {
            let begin = answered.load(Ordering::Relaxed);
            let swapped = runtime.block_on(pop.swap_guest(kind, next(kind, "2.0.0"))).unwrap();
            eprintln!("{}: {swapped:?}", kind.as_str());
            let waiting = Instant::now();
            while answered.load(Ordering::Relaxed) < begin + STREAMS {
                assert!(waiting.elapsed() < PATIENCE, "the clients do not get on");
                std::thread::sleep(Duration::from_millis(10));
            }
            runtime.block_on(pop.rollback_guest(kind)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(accepted.load(Ordering::Relaxed) > 0, "no drafts were used");
    runtime.block_on(async {
        pop.shutdown().await;
        hub.shutdown().await;
    });
}
