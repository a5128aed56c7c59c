//! Starting, stopping, dying.

use obsidian_hub::{Hub, HubConfig};
use obsidian_model::Model;
use obsidian_types::Speculation;
use obsidian_wire::LinkError;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Site, alone, masked, options, random_model, shipped};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_serves_a_file_and_says_what_it_serves() {
    let site = Site::new();
    let path = shipped("obsidian-target.gguf");
    let model = Model::open(&path).unwrap();
    let hub = Hub::start(HubConfig { model_path: path, ..site.config() }).await.unwrap();
    let link = site.link(&hub).await;
    let description = link.describe().await.unwrap();
    assert_eq!(description.model, model.info().name);
    assert_eq!(description.vocabulary_digest, model.info().vocabulary_digest);
    assert_eq!(description.numerics_id, model.info().numerics_id);
    assert_eq!(description.context_length, model.info().context_length);
    assert_eq!(description.end_ids, model.info().end_ids);
    assert_ne!(description.model_digest, [0; 32]);
    assert_eq!(description.sessions, 0);
    let _stream = link.open(&masked(&[5, 6, 7]), options(&hub, 0.0, Speculation::Sync)).await.unwrap();
    assert_eq!(link.describe().await.unwrap().sessions, 1);
}

#[tokio::test]
async fn a_hub_without_its_model_does_not_start() {
    let site = Site::new();
    let error = Hub::start(HubConfig { model_path: "no/such.gguf".into(), ..site.config() }).await.unwrap_err();
    assert!(error.to_string().contains("no/such.gguf"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_dies_in_mid_stream_leaves_a_clean_error_and_the_next_one_is_used() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 256)).await;
    let address = hub.local_addr();
    let link = site.link(&hub).await;
    let sync = options(&hub, 0.8, Speculation::Sync);
    let mut stream = link.open(&masked(&[20, 21, 22]), sync.clone()).await.unwrap();
    stream.verify(&[]).await.unwrap();
    hub.abort().await;
    let error = tokio::time::timeout(PATIENCE, stream.verify(&[])).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Lost { .. }), "{error}");

    let engine = Box::new(obsidian_hub::engine::NativeEngine::new(random_model(1, 256), [1; 32]));
    let _hub = site.hub_with(HubConfig { listen: address, ..site.config() }, engine).await;
    let again = async {
        loop {
            // The link may still believe in a connection that is already gone.
            if let Ok(mut stream) = link.open(&masked(&[20, 21, 22]), sync.clone()).await {
                return stream.verify(&[]).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_streams_finish() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 4_096)).await;
    let link = site.link(&hub).await;
    let mut long = options(&hub, 0.8, Speculation::Off);
    (long.max_tokens, long.end_ids) = (1_000, Vec::new());
    let mut stream = link.open(&masked(&[20, 21, 22]), long).await.unwrap();
    let mut ids = stream.next().await.unwrap().unwrap().ids.len();
    let mut shutdown = JoinSet::new();
    shutdown.spawn(hub.shutdown());
    while let Some(batch) = stream.next().await.unwrap() {
        ids += batch.ids.len();
    }
    assert_eq!(ids, 1_000);
    drop(stream);
    tokio::time::timeout(PATIENCE, shutdown.join_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pop_that_hangs_up_frees_its_place() {
    let site = Site::new();
    let hub = site.hub(random_model(1, 4_096)).await;
    let link = site.link(&hub).await;
    let mut endless = options(&hub, 0.8, Speculation::Off);
    (endless.max_tokens, endless.end_ids) = (4_000, Vec::new());
    let mut stream = link.open(&masked(&[20, 21, 22]), endless).await.unwrap();
    stream.next().await.unwrap();
    assert_eq!(link.describe().await.unwrap().sessions, 1);
    drop(stream);
    let freed = async {
        while link.describe().await.unwrap().sessions > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.unwrap();
    alone(&link, &[20, 21, 22], options(&hub, 0.8, Speculation::Off)).await;
}
