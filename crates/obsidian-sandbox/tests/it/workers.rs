//! Several workers of one drafter: sessions are spread, answers are the same, and what happens to one does not
//! happen to the others.

use std::io::Write;

use obsidian_model::synthetic::Synthetic;
use obsidian_sandbox::{DraftSession, Drafter, DrafterOptions, SandboxError, WeightFile};
use obsidian_types::limits::{MAX_DRAFTER_SESSIONS, MAX_DRAFTER_WORKERS};
use obsidian_types::{Message, Role, Sampling};

use crate::{block_on, engines};

/// Tokens at which the make-believe model traps or loops.
const TRAP_TOKEN: u32 = 666;
const LOOP_TOKEN: u32 = 667;

fn weights(bytes: &[u8]) -> WeightFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    WeightFile::open(file.path(), None).expect("readable")
}

fn hostile(workers: usize) -> Drafter {
    let artifact = obsidian_guests::hostile_drafter().expect("embedded");
    let options = DrafterOptions::workers(workers);
    Drafter::start_with(engines(), &artifact, weights(b"harmless"), options).expect("a drafter")
}

async fn open(drafter: &Drafter, ids: &[u32]) -> DraftSession {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let mut session = drafter.open(greedy, 0).await.expect("a session");
    session.feed(ids).await.expect("fed");
    session
}

#[test]
fn both_workers_give_what_one_gives() {
    let file = weights(&Synthetic::default().file());
    let artifact = obsidian_guests::drafter().expect("embedded");
    let one = Drafter::start(engines(), &artifact, file.clone()).expect("a drafter");
    let two = Drafter::start_with(engines(), &artifact, file, DrafterOptions::workers(2)).expect("a drafter");
    assert_eq!((one.workers(), two.workers()), (1, 2));
    assert_eq!(one.info(), two.info());
    block_on(async {
        let ids = [5, 6, 7, 8, 9];
        let mut alone = open(&one, &ids).await;
        let (mut left, mut right) = (open(&two, &ids).await, open(&two, &ids).await);
        for _ in 0..3 {
            let expected = alone.draft(8).await.expect("drafted");
            let (left, right) = tokio::join!(left.draft(8), right.draft(8));
            assert_eq!((left.expect("drafted"), right.expect("drafted")), (expected.clone(), expected));
        }
        let (expected, left, right) = (alone.logits().await, left.logits().await, right.logits().await);
        let bits = |logits: Result<Vec<f32>, _>| logits.expect("logits").into_iter().map(f32::to_bits).collect();
        let (expected, left, right): (Vec<u32>, Vec<u32>, Vec<u32>) = (bits(expected), bits(left), bits(right));
        assert!(expected == left && expected == right);
    });
}

#[test]
fn a_busy_worker_does_not_hold_up_the_other() {
    let drafter = hostile(2);
    block_on(async {
        let mut looping = open(&drafter, &[LOOP_TOKEN]).await;
        let mut beside = open(&drafter, &[1, 2]).await;
        // Two seconds, until the deadline ends it.
        let mut stuck = tokio::task::JoinSet::new();
        stuck.spawn(async move { looping.draft(1).await });
        tokio::task::yield_now().await;
        assert_eq!(beside.draft(4).await.expect("drafted").len(), 4);
        let hi = [Message::new(Role::User, "hi")];
        assert_eq!(drafter.render(&hi, &[]).await.expect("the idle worker renders"), [104, 105]);
        // A new session goes where fewer are: to neither in particular, so close one.
        drop(beside);
        let mut placed = open(&drafter, &[1, 2]).await;
        assert_eq!(placed.draft(4).await.expect("drafted").len(), 4);
        assert!(stuck.try_join_next().is_none(), "all this happened while one worker was stuck");
        let ended = stuck.join_next().await.expect("one task").expect("no panic");
        assert!(matches!(ended, Err(SandboxError::Deadline { .. })));
    });
}

#[test]
fn a_trap_takes_only_the_sessions_of_its_worker() {
    let drafter = hostile(2);
    block_on(async {
        let mut culprit = open(&drafter, &[TRAP_TOKEN]).await;
        let mut beside = open(&drafter, &[1, 2]).await;
        let mut lost = open(&drafter, &[3, 4]).await;
        let before = beside.draft(2).await.expect("drafted");
        assert!(matches!(culprit.draft(1).await, Err(SandboxError::Trap { .. })));
        assert!(drafter.is_alive(), "one worker is left");
        assert!(matches!(lost.draft(1).await, Err(SandboxError::SessionLost)));
        beside.truncate(2).await.expect("alive");
        assert_eq!(beside.draft(2).await.expect("unharmed"), before);
        // Sessions that died are counted until their handles go.
        drop((culprit, lost));
        let mut fresh = open(&drafter, &[1, 2]).await;
        assert_eq!(fresh.draft(2).await.expect("drafted"), before);
        assert_eq!((drafter.restarts(), drafter.workers()), (1, 2));
    });
}

#[test]
fn sessions_are_spread_evenly_and_both_workers_can_be_filled() {
    let drafter = hostile(2);
    block_on(async {
        let mut sessions = Vec::new();
        for _ in 0..2 * MAX_DRAFTER_SESSIONS {
            sessions.push(open(&drafter, &[1]).await);
        }
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let refused = drafter.open(greedy, 0).await.map(|_| ());
        assert!(matches!(refused, Err(SandboxError::Overloaded { .. })), "{refused:?}");
        drop(sessions.pop());
        open(&drafter, &[1]).await;
    });
}

#[test]
fn numbers_of_workers_out_of_range_are_refused() {
    let artifact = obsidian_guests::hostile_drafter().expect("embedded");
    for workers in [0, MAX_DRAFTER_WORKERS + 1] {
        let started = Drafter::start_with(engines(), &artifact, weights(b"harmless"), DrafterOptions::workers(workers));
        assert!(matches!(started.map(|_| ()), Err(SandboxError::Engine(reason)) if reason.contains("workers")));
    }
    assert!((1..=MAX_DRAFTER_WORKERS).contains(&DrafterOptions::default().workers));
}
