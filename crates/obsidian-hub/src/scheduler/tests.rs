//! The scheduler without a network: what a POP of ours never sends, and what takes too long to wait for.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use obsidian_model::synthetic::Synthetic;
use obsidian_model::{Model, Sampling};
use obsidian_wire::prefix::{ChainKey, PrefixChain};
use obsidian_wire::proto::{Draft, Mode, Verdict, down};
use obsidian_wire::{Code, Refusal};

use super::{Command, Load, Scheduler};
use crate::engine::NativeEngine;
use crate::outbox::{Outbox, Taken};
use crate::session::{Reply, Request};

const SALT: [u8; 16] = [3; 16];

fn scheduler() -> (Scheduler, SyncSender<Command>) {
    let model = Model::from_bytes(Synthetic::default().file()).unwrap();
    let (sender, commands) = sync_channel(64);
    let scheduler = Scheduler {
        engine: Box::new(NativeEngine::new(model, [1; 32])),
        commands,
        sessions: Vec::new(),
        waiting: Default::default(),
        prefixes: Default::default(),
        kv_budget_bytes: 1 << 30,
        max_sessions: 8,
        patience: Duration::from_secs(3_600),
        load: Arc::new(Load::default()),
        pass: 0,
    };
    (scheduler, sender)
}

fn request(number: u64) -> (Request, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::default());
    let request = Request {
        number,
        reply: Reply::new(outbox.clone()),
        version: 1,
        mode: Mode::Sync,
        sampling: Sampling { temperature: 0.0, seed: 1, ..Sampling::default() },
        max_tokens: 50,
        end_ids: Vec::new(),
        salt: SALT,
        prefix: None,
        suffix: vec![10, 11, 12],
        answer_start: None,
    };
    (request, outbox)
}

/// Computes until no stream has work.
fn settle(scheduler: &mut Scheduler) {
    while scheduler.plan() > 0 {
        assert!(scheduler.compute().is_empty());
        assert!(scheduler.roll_back().is_empty());
    }
}

async fn verdict(outbox: &Outbox) -> Verdict {
    match outbox.take().await {
        Taken::Message(down::Kind::Verdict(verdict)) => verdict,
        other => panic!("not a verdict: {other:?}"),
    }
}

async fn refusal(outbox: &Outbox) -> Refusal {
    loop {
        match outbox.take().await {
            Taken::End(Err(refusal)) => return refusal,
            Taken::Message(_) => {}
            other => panic!("not a refusal: {other:?}"),
        }
    }
}

fn send(scheduler: &mut Scheduler, epoch: u32, position: u32, ids: &[u32]) {
    let draft = Draft { epoch, position, ids: ids.to_vec() };
    assert!(scheduler.obey(Command::Draft { session: 1, draft }).is_continue());
}

fn opened() -> (Scheduler, SyncSender<Command>, Arc<Outbox>) {
    let (mut scheduler, sender) = scheduler();
    let (request, outbox) = request(1);
    scheduler.admit(request);
    (scheduler, sender, outbox)
}

#[tokio::test]
async fn drafts_of_an_older_epoch_are_ignored() {
    let (mut scheduler, _sender, outbox) = opened();
    outbox.take().await;
    send(&mut scheduler, 0, 3, &[]);
    settle(&mut scheduler);
    let first = verdict(&outbox).await;
    assert_eq!((first.epoch, first.position, first.accepted), (0, 3, 0), "nothing drafted, nothing rejected");
    // What the target will not say: rejected, which begins a new epoch.
    let wrong = |next: &Verdict| (next.next[0] + 1) % 200;
    send(&mut scheduler, 0, 4, &[wrong(&first), 5]);
    settle(&mut scheduler);
    let second = verdict(&outbox).await;
    assert!(second.accepted < 2);
    assert_eq!(second.epoch, 1);
    // A window that was under way when the rejection happened, then a current one: one answer, to the latter.
    let position = 4 + second.accepted + 1;
    send(&mut scheduler, 0, 6, &[1, 2]);
    send(&mut scheduler, 1, position, &[]);
    settle(&mut scheduler);
    let third = verdict(&outbox).await;
    assert_eq!((third.epoch, third.position), (1, position));
    assert_eq!(scheduler.sessions.len(), 1);
}

#[tokio::test]
async fn drafts_that_make_no_sense_end_the_stream() {
    let nonsense: [(&str, u32, u32, &[u32]); 4] = [
        ("later epoch", 1, 3, &[1]),
        ("other position", 0, 4, &[1]),
        ("unknown id", 0, 3, &[9_999]),
        ("long window", 0, 3, &[1; 17]),
    ];
    for (what, epoch, position, ids) in nonsense {
        let (mut scheduler, _sender, outbox) = opened();
        send(&mut scheduler, epoch, position, ids);
        assert_eq!(refusal(&outbox).await.code, Code::InvalidMessage, "{what}");
        assert!(scheduler.sessions.is_empty(), "{what}");
    }
    let (mut scheduler, _sender, outbox) = opened();
    send(&mut scheduler, 0, 3, &[1]);
    send(&mut scheduler, 0, 3, &[1]);
    assert_eq!(refusal(&outbox).await.code, Code::InvalidMessage, "two windows at once");
}

#[tokio::test]
async fn only_the_prefix_that_was_named_is_taken() {
    let ids: Vec<u32> = (0..32).collect();
    let key = ChainKey { salt: SALT, model_digest: [1; 32] };
    let tip = *PrefixChain::of(key, &ids).tip().unwrap();
    for good in [true, false] {
        let (mut scheduler, _sender) = scheduler();
        let (mut request, outbox) = request(1);
        request.prefix = Some((tip, 2));
        scheduler.admit(request);
        let asked = outbox.take().await;
        assert!(matches!(asked, Taken::Message(down::Kind::NeedPrefix(_))), "{asked:?}");
        let mut sent = ids.clone();
        sent[5] += u32::from(!good);
        assert!(scheduler.obey(Command::Append { session: 1, position: 0, ids: sent }).is_continue());
        if good {
            assert!(matches!(outbox.take().await, Taken::Message(down::Kind::Opened(_))));
            assert_eq!(scheduler.sessions[0].ids.len(), 35);
        } else {
            assert_eq!(refusal(&outbox).await.code, Code::InvalidMessage);
        }
    }
}

#[tokio::test]
async fn silence_ends_a_stream_and_hanging_up_too() {
    let (mut scheduler, _sender, outbox) = opened();
    scheduler.retire_silent();
    assert_eq!(scheduler.sessions.len(), 1);
    scheduler.patience = Duration::ZERO;
    scheduler.retire_silent();
    assert_eq!(refusal(&outbox).await.code, Code::Idle);

    let (mut scheduler, _sender, outbox) = opened();
    outbox.abandon();
    scheduler.retire_silent();
    assert!(scheduler.sessions.is_empty());
}

#[tokio::test]
async fn stopping_tells_every_stream() {
    let (mut scheduler, sender, outbox) = opened();
    let (second, waiting) = request(2);
    scheduler.admit(Request { prefix: Some(([9; 32], 1)), ..second });
    sender.send(Command::Stop).unwrap();
    scheduler.run();
    assert_eq!(refusal(&outbox).await.code, Code::ShuttingDown);
    assert_eq!(refusal(&waiting).await.code, Code::ShuttingDown);
}

#[tokio::test]
async fn a_scheduler_that_is_gone_leaves_nobody_waiting() {
    let (scheduler, _sender, outbox) = opened();
    drop(scheduler);
    assert_eq!(refusal(&outbox).await.code, Code::EngineFailed);
}

#[tokio::test]
async fn a_prefix_outside_the_vocabulary_ends_its_own_stream_only() {
    let (mut scheduler, _sender, other) = opened();
    other.take().await;
    let foreign = vec![1_000_000; 16];
    let (mut hostile, outbox) = request(2);
    let tip = PrefixChain::of(ChainKey { salt: SALT, model_digest: [1; 32] }, &foreign).tip().copied();
    hostile.prefix = tip.map(|tip| (tip, 1));
    scheduler.admit(hostile);
    scheduler.append(2, 0, foreign);
    assert_eq!(refusal(&outbox).await.code, Code::InvalidMessage);
    send(&mut scheduler, 0, 3, &[]);
    settle(&mut scheduler);
    assert_eq!(verdict(&other).await.position, 3);
}
