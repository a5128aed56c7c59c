//! The drafter: batches equal single calls, failures end one instance and the next one works.

use std::io::Write;

use obsidian_model::synthetic::Synthetic;
use obsidian_sandbox::{Drafter, DrafterGuest, DrafterOptions, Refusal, SandboxError, WeightFile};
use obsidian_types::limits::MAX_DRAFTER_SESSIONS;
use obsidian_types::{Message, Role, Sampling};
use tokio::task::JoinSet;

use crate::{block_on, engines};

/// Tokens at which the make-believe model traps or loops.
const TRAP_TOKEN: u32 = 666;
const LOOP_TOKEN: u32 = 667;

fn sampling(seed: u64) -> Sampling {
    Sampling { temperature: 0.0, seed, ..Sampling::default() }
}

fn weights(head: &[u8]) -> WeightFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(head).expect("written");
    WeightFile::open(file.path(), None).expect("readable")
}

fn hostile() -> Drafter {
    let artifact = obsidian_guests::hostile_drafter().expect("embedded");
    Drafter::start(engines(), &artifact, weights(b"harmless")).expect("a drafter")
}

async fn command(drafter: &Drafter, text: &str) -> Result<Vec<u32>, SandboxError> {
    drafter.render(&[Message::new(Role::User, text)], &[]).await
}

async fn draft_alone(drafter: &Drafter, seed: u64, window: u32) -> Vec<u32> {
    let mut session = drafter.open(sampling(seed), 0).await.expect("a session");
    session.feed(&[1, 2, seed as u32 % 100]).await.expect("fed");
    session.draft(window).await.expect("drafted")
}

#[test]
fn sessions_feed_truncate_and_draft() {
    let drafter = hostile();
    block_on(async {
        let mut session = drafter.open(sampling(3), 0).await.expect("a session");
        session.feed(&[5, 6, 7]).await.expect("fed");
        let drafted = session.draft(4).await.expect("drafted");
        assert_eq!(drafted.len(), 4);
        assert_eq!(session.length().await.expect("alive"), 7);
        session.truncate(3).await.expect("truncated");
        assert_eq!(session.draft(4).await.expect("drafted"), drafted);
        session.truncate(3).await.expect("truncated");
        let logits = session.logits().await.expect("logits");
        let best = (0..logits.len()).max_by(|&left, &right| logits[left].total_cmp(&logits[right]));
        assert_eq!(best, Some(drafted[0] as usize));
        assert_eq!(drafter.detokenize(&[104, 105]).await.expect("bytes"), b"hi");
        assert_eq!(drafter.tokenize("hi").await.expect("ids"), [104, 105]);
    });
}

#[test]
fn concurrent_drafts_become_one_call_and_equal_single_ones() {
    let drafter = hostile();
    block_on(async {
        let mut expected = Vec::new();
        for seed in 0..24 {
            // Different windows must not be mixed up.
            expected.push(draft_alone(&drafter, seed, 3 + seed as u32 % 2).await);
        }
        assert_eq!(command(&drafter, "calls").await.expect("answers"), [24, 1]);

        let mut sessions = Vec::new();
        for seed in 0..24 {
            let mut session = drafter.open(sampling(seed), 0).await.expect("a session");
            session.feed(&[1, 2, seed as u32 % 100]).await.expect("fed");
            sessions.push(session);
        }
        let mut tasks = JoinSet::new();
        let busy = drafter.clone();
        tasks.spawn(async move { command(&busy, "busy").await.map(|_| None) });
        // Now the worker is busy, and the drafts queue up behind it.
        tokio::task::yield_now().await;
        for (seed, mut session) in sessions.into_iter().enumerate() {
            tasks.spawn(async move {
                let drafted = session.draft(3 + seed as u32 % 2).await?;
                Ok(Some((seed, drafted)))
            });
        }
        while let Some(done) = tasks.join_next().await {
            if let Some((seed, drafted)) = done.expect("no panic").expect("drafted") {
                assert_eq!(drafted, expected[seed], "seed {seed}");
            }
        }
        let calls = command(&drafter, "calls").await.expect("answers");
        assert!(calls[0] < 48 && calls[1] > 1, "calls, largest batch: {calls:?}");
    });
}

#[test]
fn one_bad_session_in_a_batch_does_not_spoil_the_others() {
    let drafter = hostile();
    block_on(async {
        let mut good = drafter.open(sampling(1), 0).await.expect("a session");
        good.feed(&[1, 2, 3]).await.expect("fed");
        let mut empty = drafter.open(sampling(2), 0).await.expect("a session");
        let (drafted, refused) = tokio::join!(good.draft(2), empty.draft(2));
        assert_eq!(drafted.expect("drafted").len(), 2);
        assert!(matches!(refused, Err(SandboxError::Refused(Refusal::InvalidUse(_)))));
        let unknown = good.feed(&[1_000]).await;
        assert!(matches!(unknown, Err(SandboxError::Refused(Refusal::InvalidToken(1_000)))));
        let long = good.feed(&[1; 64]).await;
        assert!(matches!(long, Err(SandboxError::Refused(Refusal::ContextFull(64)))));
        assert_eq!(good.draft(2).await.expect("unharmed").len(), 2);
        assert_eq!(drafter.restarts(), 0);
    });
}

#[test]
fn a_trap_ends_the_instance_and_the_next_one_works() {
    let drafter = hostile();
    let bystander = hostile();
    block_on(async {
        let mut lost = drafter.open(sampling(1), 0).await.expect("a session");
        let mut beside = bystander.open(sampling(1), 0).await.expect("a session");
        lost.feed(&[1]).await.expect("fed");
        beside.feed(&[1]).await.expect("fed");
        let mut culprit = drafter.open(sampling(2), 0).await.expect("a session");
        culprit.feed(&[TRAP_TOKEN]).await.expect("fed");
        assert!(matches!(culprit.draft(1).await, Err(SandboxError::Trap { .. })));

        assert!(matches!(lost.draft(1).await, Err(SandboxError::SessionLost)));
        assert!(matches!(culprit.feed(&[1]).await, Err(SandboxError::SessionLost)));
        let mut fresh = drafter.open(sampling(1), 0).await.expect("the supervisor started another");
        fresh.feed(&[1]).await.expect("fed");
        let recovered = fresh.draft(3).await.expect("drafted");
        assert_eq!(beside.draft(3).await.expect("unaffected"), recovered);
        assert!(drafter.is_alive() && drafter.restarts() == 1 && bystander.restarts() == 0);
        // A stale handle that closes late must not close a session of the new instance.
        drop(lost);
        assert_eq!(fresh.draft(1).await.expect("still open").len(), 1);
    });
}

#[test]
fn deadline_and_memory_are_contained_and_told_apart() {
    let drafter = hostile();
    block_on(async {
        let mut looping = drafter.open(sampling(1), 0).await.expect("a session");
        looping.feed(&[LOOP_TOKEN]).await.expect("fed");
        assert!(matches!(looping.draft(1).await, Err(SandboxError::Deadline { limit_ms: 2_000, .. })));
        assert!(drafter.load() > 0.5, "two seconds of looping is load: {}", drafter.load());
        let hoarded = command(&drafter, "allocate").await;
        assert!(matches!(hoarded, Err(SandboxError::Memory { .. })), "{hoarded:?}");
        assert_eq!(command(&drafter, "hi").await.expect("restarted"), [104, 105]);
        assert_eq!(drafter.restarts(), 2);
    });
}

#[test]
fn a_model_that_does_not_load_is_reported() {
    let artifact = obsidian_guests::hostile_drafter().expect("embedded");
    let start = |head: &[u8]| Drafter::start(engines(), &artifact, weights(head)).map(|_| ());
    assert!(matches!(start(b"TRAPLOAD"), Err(SandboxError::Trap { .. })));
    assert!(matches!(start(b"BADMODEL"), Err(SandboxError::Refused(Refusal::InvalidModel(_)))));
    let real = obsidian_guests::drafter().expect("embedded");
    let garbage = Drafter::start(engines(), &real, weights(b"this is no GGUF file")).map(|_| ());
    assert!(matches!(garbage, Err(SandboxError::Refused(Refusal::InvalidModel(_)))), "{garbage:?}");
}

#[test]
fn what_one_sandbox_found_on_a_file_is_told_to_the_next() {
    let guest = DrafterGuest::load(engines(), &obsidian_guests::hostile_drafter().expect("embedded")).expect("loads");
    let attach = |guest: &DrafterGuest, weights: &WeightFile| {
        Drafter::attach(guest.clone(), weights.clone(), DrafterOptions::workers(1)).expect("a drafter")
    };
    let (one, other) = (weights(b"harmless"), weights(b"harmless too"));
    block_on(async {
        let first = attach(&guest, &one);
        assert_eq!(command(&first, "known").await.expect("answers"), [0]);
        assert_eq!(command(&attach(&guest, &one), "known").await.expect("answers"), [1]);
        assert_eq!(command(&attach(&guest, &other), "known").await.expect("answers"), [0], "another file");
        let successor = guest.successor(&obsidian_guests::hostile_drafter().expect("embedded")).expect("loads");
        assert_eq!(command(&attach(&successor, &one), "known").await.expect("answers"), [0], "another guest");
        assert!(matches!(command(&first, "trap").await, Err(SandboxError::Trap { .. })));
        assert_eq!(command(&first, "known").await.expect("restarted"), [1]);
    });
}

#[test]
fn a_large_vocabulary_that_was_looked_through_before_gives_the_same_tokens() {
    let guest = DrafterGuest::load(engines(), &obsidian_guests::drafter().expect("embedded")).expect("loads");
    let weights = weights(&Synthetic { vocabulary: 20_000, ..Synthetic::default() }.file());
    let attach = || Drafter::attach(guest.clone(), weights.clone(), DrafterOptions::workers(1)).expect("a drafter");
    let (first, again) = (attach(), attach());
    assert_eq!(first.info(), again.info());
    block_on(async {
        for text in ["hello world, within", "grün <|im_end|> 🙂"] {
            let ids = command(&first, text).await.expect("rendered");
            assert_eq!(command(&again, text).await.expect("rendered"), ids);
            let mut drafts = Vec::new();
            for drafter in [&first, &again] {
                let mut session = drafter.open(sampling(3), ids.len() as u32).await.expect("a session");
                session.feed(&ids).await.expect("fed");
                drafts.push(session.draft(16).await.expect("drafted"));
            }
            assert_eq!(drafts[0], drafts[1]);
        }
    });
}

#[test]
fn closed_sessions_make_room() {
    let drafter = hostile();
    block_on(async {
        let mut open = Vec::new();
        for _ in 0..MAX_DRAFTER_SESSIONS {
            open.push(drafter.open(sampling(1), 0).await.expect("room"));
        }
        let refused = drafter.open(sampling(1), 0).await.map(|_| ());
        assert!(matches!(refused, Err(SandboxError::Overloaded { .. })));
        open.truncate(MAX_DRAFTER_SESSIONS / 2);
        // The worker closes sessions before it takes the next command.
        assert!(drafter.open(sampling(1), 0).await.is_ok());
    });
}

#[test]
fn an_answer_nobody_waits_for_leaves_no_session_open() {
    let drafter = hostile();
    block_on(async {
        for _ in 0..3 * MAX_DRAFTER_SESSIONS {
            // Polled once, so that the command is sent, then dropped.
            let open = drafter.open(sampling(1), 0);
            let _ = tokio::time::timeout(std::time::Duration::ZERO, open).await;
            command(&drafter, "hi").await.expect("alive");
        }
        assert!(drafter.open(sampling(1), 0).await.is_ok());
    });
}

#[test]
fn reasons_that_quote_the_prompt_are_not_shown() {
    let drafter = hostile();
    block_on(async {
        let refused = command(&drafter, "refuse").await.expect_err("refused");
        let shown = format!("{refused} {refused:?}");
        assert!(!shown.contains("refuse\""), "{shown}");
        assert!(matches!(refused, SandboxError::Refused(Refusal::Template(reason)) if reason.expose() == "refuse"));
    });
}

#[test]
fn more_scores_than_asked_for_are_a_broken_contract() {
    let drafter = hostile();
    block_on(async {
        let mut honest = drafter.open(sampling(1), 0).await.expect("a session");
        honest.feed(&[5]).await.expect("fed");
        let scored = honest.draft_scored(3, 2).await.expect("scored");
        assert!(scored.len() == 3 && scored.iter().all(|scored| scored.alternatives.len() == 2));
        let mut flood = drafter.open(sampling(666), 0).await.expect("a session");
        flood.feed(&[5]).await.expect("fed");
        let refused = flood.draft_scored(3, 2).await.map(|_| ());
        assert!(matches!(refused, Err(SandboxError::Contract { .. })), "{refused:?}");
    });
}
