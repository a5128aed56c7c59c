//! What the scheduler has for one stream, until the network takes it.
//!
//! The scheduler never waits for a POP: it puts messages here and goes on. Ids of a stream decoded alone that
//! wait together travel in one frame; how many can wait is bounded by `MAX_HUB_AHEAD_IDS`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use obsidian_wire::Refusal;
use obsidian_wire::proto::{Verdict, down};
use tokio::sync::Notify;

/// Between the scheduler (one end) and the gRPC response (the other).
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<down::Kind>,
    end: Option<Result<(), Refusal>>,
    abandoned: bool,
}

/// What the network gets.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// A message.
    Message(down::Kind),
    /// The stream ends, well or with a refusal.
    End(Result<(), Refusal>),
}

impl Outbox {
    /// Adds a message that is not part of an answer decoded alone.
    pub(crate) fn push(&self, kind: down::Kind) {
        self.lock().waiting.push_back(kind);
        self.ready.notify_one();
    }

    /// Adds ids decoded alone, to the last verdict if that still waits.
    pub(crate) fn push_alone(&self, verdict: Verdict) {
        let mut state = self.lock();
        match state.waiting.back_mut() {
            Some(down::Kind::Verdict(last)) => {
                last.next.extend(verdict.next);
                last.finish = verdict.finish;
            }
            _ => state.waiting.push_back(down::Kind::Verdict(verdict)),
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Ends the stream once the waiting messages are taken; the first end counts.
    pub(crate) fn end(&self, how: Result<(), Refusal>) {
        self.lock().end.get_or_insert(how);
        self.ready.notify_one();
    }

    /// Nobody reads any more.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    /// Whether anybody still reads.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Waits for the next message or the end. Cancelling it loses nothing.
    pub(crate) async fn take(&self) -> Taken {
        loop {
            let ready = self.ready.notified();
            if let Some(taken) = self.try_take() {
                return taken;
            }
            ready.await;
        }
    }

    fn try_take(&self) -> Option<Taken> {
        let mut state = self.lock();
        match state.waiting.pop_front() {
            Some(kind) => Some(Taken::Message(kind)),
            None => state.end.clone().map(Taken::End),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, Taken};
    use obsidian_wire::proto::{Finish, Verdict, down};

    fn alone(id: u32, finish: Finish) -> Verdict {
        Verdict { next: vec![id], position: 7 + id, finish: finish.into(), ..Verdict::default() }
    }

    #[tokio::test]
    async fn waiting_ids_travel_in_one_frame() {
        let outbox = Outbox::default();
        outbox.push_alone(alone(0, Finish::None));
        outbox.push_alone(alone(1, Finish::Length));
        outbox.end(Ok(()));
        let whole = Verdict { position: 7, next: vec![0, 1], finish: Finish::Length.into(), ..Verdict::default() };
        assert_eq!(outbox.take().await, Taken::Message(down::Kind::Verdict(whole)));
        assert_eq!(outbox.take().await, Taken::End(Ok(())));
    }
}
