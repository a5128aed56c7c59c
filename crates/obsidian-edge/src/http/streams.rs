//! HTTP/2 streams whose client opens no window: each answer is a task of its own in hyper, and one that stands still
//! for too long is dropped, which resets that stream and no other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::Frame;
use hyper::rt::Executor;
use metrics::counter;
use tokio_util::task::TaskTracker;

tokio::task_local! {
    /// The progress of the answer that the current task sends.
    static PROGRESS: Arc<Progress>;
}

/// Whether an answer waits for us or for its client.
pub(super) struct Progress {
    born: Instant,
    /// Milliseconds after `born`, plus one, at which the last piece was handed over; 0 while more is being made.
    handed: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        Self { born: Instant::now(), handed: AtomicU64::new(0) }
    }

    /// The one of the current task, where it is an HTTP/2 stream's.
    pub(super) fn current() -> Option<Arc<Self>> {
        PROGRESS.try_with(Arc::clone).ok()
    }

    fn handed(&self) {
        let after = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.handed.store(after + 1, Ordering::Relaxed);
    }

    fn making(&self) {
        self.handed.store(0, Ordering::Relaxed);
    }

    fn stands_still(&self, patience: Duration) -> bool {
        match self.handed.load(Ordering::Relaxed) {
            0 => false,
            after => self.born.elapsed() > Duration::from_millis(after - 1) + patience,
        }
    }
}

/// Runs hyper's tasks, one an HTTP/2 stream.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) tasks: TaskTracker,
    pub(super) patience: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let progress = Arc::new(Progress::new());
        self.tasks.spawn(PROGRESS.scope(progress.clone(), watched(stream, progress, self.patience)));
    }
}

async fn watched<F: Future>(stream: F, progress: Arc<Progress>, patience: Duration) {
    tokio::pin!(stream);
    while tokio::time::timeout(patience, &mut stream).await.is_err() {
        if progress.stands_still(patience) {
            counter!("obsidian_stalled_total", "what" => "stream").increment(1);
            return;
        }
    }
}

/// A body that tells how it gets on, and holds `guard` until it is over.
pub(super) struct Told<G> {
    body: Body,
    progress: Option<Arc<Progress>>,
    _guard: G,
}

impl<G> Told<G> {
    pub(super) fn new(body: Body, progress: Option<Arc<Progress>>, guard: G) -> Self {
        Self { body, progress, _guard: guard }
    }
}

impl<G: Unpin> HttpBody for Told<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Some(progress) = &self.progress {
            match &polled {
                Poll::Ready(Some(Ok(_))) => progress.handed(),
                _ => progress.making(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
