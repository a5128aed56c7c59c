//! Several models under one budget: who is attached, who makes room, and who is left alone.

use std::io::Write;

use obsidian_model::synthetic::Synthetic;
use obsidian_sandbox::{
    Drafter, DrafterGuest, DrafterOptions, ModelShelf, SandboxError, ShelfError, ShelfModel, WeightFile,
};

use crate::engines;

/// Weights that count for more than what a sandbox takes beside them.
fn model(name: &str, seed: u64) -> ShelfModel {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&Synthetic { seed, width: 256, layers: 12, feed_width: 1_024, ..Synthetic::default() }.file())
        .expect("written");
    let weights = WeightFile::open(file.path(), None).expect("readable");
    ShelfModel { name: name.to_owned(), weights, options: DrafterOptions::workers(1) }
}

fn guest() -> DrafterGuest {
    DrafterGuest::load(engines(), &obsidian_guests::drafter().expect("embedded")).expect("a drafter")
}

fn models() -> Vec<ShelfModel> {
    vec![model("a", 1), model("b", 2), model("c", 3)]
}

/// What a model takes when it is attached.
fn attached_bytes() -> u64 {
    let ShelfModel { weights, options, .. } = model("a", 1);
    let drafter = Drafter::attach(guest(), weights.clone(), options).expect("a drafter");
    weights.length() + drafter.private_bytes()
}

fn attached(shelf: &ModelShelf) -> String {
    shelf.states().into_iter().filter(|state| state.attached).map(|state| state.name).collect()
}

#[tokio::test]
async fn the_model_unused_the_longest_makes_room() {
    let guest = guest();
    // Two fit once they are measured; a third does not.
    let budget = 2 * attached_bytes() + obsidian_types::limits::MODEL_SANDBOX_BYTES;
    let shelf = ModelShelf::new(models(), budget).expect("each fits");
    for (taken, expected) in [(0, "a"), (1, "ab"), (0, "ab"), (2, "ac"), (1, "bc"), (1, "bc"), (0, "ab")] {
        let began = std::time::Instant::now();
        let lease = shelf.take(taken, &guest).await.expect("there is room");
        eprintln!("{taken}: {:?}, startup {:?}", began.elapsed(), lease.drafter().startup());
        drop(lease);
        assert_eq!(attached(&shelf), expected);
        assert!(shelf.used_bytes() <= budget);
    }
}

#[tokio::test]
async fn a_model_in_use_stays_and_the_next_is_refused_until_it_is_free() {
    let guest = guest();
    let shelf =
        ModelShelf::new(models(), attached_bytes() + obsidian_types::limits::MODEL_SANDBOX_BYTES).expect("each fits");
    let held = shelf.take(0, &guest).await.expect("there is room");
    let refused = shelf.take(1, &guest).await.map(|_| ());
    assert!(matches!(refused, Err(SandboxError::Overloaded { what: "the memory for models" })), "{refused:?}");
    let session = held.drafter().open(obsidian_types::Sampling::default(), 0).await.expect("a session");
    assert_eq!((attached(&shelf), shelf.states()[0].holds), ("a".to_owned(), 1));
    drop((session, held));
    shelf.take(1, &guest).await.expect("there is room now");
    assert_eq!(attached(&shelf), "b");
}

#[tokio::test]
async fn many_who_ask_at_once_attach_a_model_once() {
    let guest = guest();
    let shelf = ModelShelf::new(models(), 64 << 20).expect("each fits");
    let leases = futures::future::join_all((0..16).map(|_| shelf.take(1, &guest))).await;
    let leases: Vec<_> = leases.into_iter().map(|lease| lease.expect("there is room")).collect();
    assert_eq!(shelf.states()[1].holds, 16);
    drop(leases);
    assert_eq!(shelf.states()[1].holds, 0);
}

#[tokio::test]
async fn another_version_of_the_guest_takes_over_when_a_model_is_asked_for_again() {
    let guest = guest();
    let shelf = ModelShelf::new(models(), 64 << 20).expect("each fits");
    let old = shelf.take(0, &guest).await.expect("there is room");
    let artifact = obsidian_guests::hostile_drafter().expect("embedded");
    let other = DrafterGuest::load(engines(), &artifact).expect("a drafter");
    let new = shelf.take(0, &other).await.expect("there is room");
    assert_eq!((new.drafter().info().name.as_str(), old.drafter().info().name.as_str()), ("hostile", "synthetic"));
    // Both count until the old one's last user has left.
    let both = shelf.used_bytes();
    drop(old);
    assert!(shelf.used_bytes() < both);
}

#[tokio::test]
async fn a_model_that_does_not_run_gives_its_room_back() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"no model").expect("written");
    let weights = WeightFile::open(file.path(), None).expect("readable");
    let broken = ShelfModel { name: "broken".to_owned(), weights, options: DrafterOptions::workers(1) };
    let shelf = ModelShelf::new(vec![broken], 64 << 20).expect("it fits");
    let refused = shelf.take(0, &guest()).await.map(|_| ());
    assert!(matches!(refused, Err(SandboxError::Refused(_))), "{refused:?}");
    assert_eq!(shelf.used_bytes(), 0);
    assert!(shelf.take(7, &guest()).await.is_err());
}

#[test]
fn models_that_could_never_be_served_are_refused_at_once() {
    let refused = |models, budget| ModelShelf::new(models, budget).map(|_| ());
    assert!(matches!(refused(models(), 1 << 20), Err(ShelfError::Budget { name, .. }) if name == "a"));
    let twice = vec![model("a", 1), model("a", 2)];
    assert_eq!(refused(twice, 64 << 20), Err(ShelfError::Twice("a".to_owned())));
    let many = vec![model("a", 1); obsidian_types::limits::MAX_EDGE_MODELS + 1];
    assert!(matches!(refused(many, 64 << 20), Err(ShelfError::TooMany(_))));
}
