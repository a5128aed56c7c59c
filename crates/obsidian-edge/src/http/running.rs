//! Pipelines at work for one HTTP request: their events as one sequence, their outcomes as one.

use std::sync::Arc;
use std::time::Instant;

use futures::stream::{BoxStream, SelectAll, StreamExt};
use obsidian_types::ChatRequest;
use obsidian_types::limits::MAX_STREAM_CHUNKS;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::entry::Seat;
use crate::fault::Fault;
use crate::outcome::{Event, Outcome};
use crate::pipeline;
use crate::pop::Pop;

/// The tasks of one HTTP request, which end with its client.
pub(super) struct Running {
    arriving: SelectAll<BoxStream<'static, Event>>,
    tasks: Vec<JoinHandle<Result<Outcome, Fault>>>,
    _abort: Vec<AbortOnDrop>,
}

impl Running {
    /// Starts a pipeline for each request. Their choices are counted through.
    pub(super) fn start(pop: &Arc<Pop>, requests: Vec<ChatRequest>, began: Instant, seat: Seat) -> Self {
        let mut running = Self { arriving: SelectAll::new(), tasks: Vec::new(), _abort: Vec::new() };
        // Given back when the last of them is done.
        let seat = Arc::new(seat);
        let mut offset = 0;
        for request in requests {
            let choices = request.choices;
            let (events, mut arriving) = mpsc::channel(MAX_STREAM_CHUNKS);
            let (worker, seat) = (pop.clone(), seat.clone());
            let task = pop.tasks.spawn(async move {
                let outcome = pipeline::serve(&worker, request, began, events).await;
                if let Ok(outcome) = &outcome {
                    seat.spent(u64::from(outcome.usage.prompt_tokens) + u64::from(outcome.usage.completion_tokens));
                }
                outcome
            });
            running._abort.push(AbortOnDrop(task.abort_handle()));
            running.tasks.push(task);
            let arriving = futures::stream::poll_fn(move |context| arriving.poll_recv(context));
            running.arriving.push(arriving.map(move |event| shifted(event, offset)).boxed());
            offset += choices;
        }
        running
    }

    /// What happens next; None when nothing more does.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.arriving.next().await
    }

    /// Waits for the tasks; a second call finds nothing.
    pub(super) async fn end(&mut self) -> Result<Outcome, Fault> {
        let mut sum: Option<Outcome> = None;
        for task in self.tasks.drain(..) {
            // A panic or an abort: the task has logged it.
            let outcome = task.await.unwrap_or(Err(Fault::Internal))?;
            sum = Some(match sum {
                Some(sum) => sum.and(&outcome),
                None => outcome,
            });
        }
        sum.ok_or(Fault::Internal)
    }
}

fn shifted(event: Event, offset: u32) -> Event {
    match event {
        Event::Start(start) => Event::Start(start),
        Event::Delta { choice, part } => Event::Delta { choice: choice + offset, part },
        Event::Finished { choice, reason } => Event::Finished { choice: choice + offset, reason },
    }
}

/// Ends a task when the response it works for is dropped: the client is gone.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
