//! Counts the bytes of TLS records on a socket and shares them out to the streams that use it.
//!
//! [`Counted`] sits below TLS, so what it sees is what the WAN carries less TCP/IP headers: record headers,
//! authentication tags, HTTP/2 frames, pings. [`Ledger`] attributes every byte that passes while at least
//! one stream is open: a stream alone on its connection gets the exact difference of the counters; streams
//! that share one get each stretch of time's bytes in proportion to the protobuf bytes they sent (for up)
//! and received (for down) in that stretch. Handshakes and pings of an idle connection belong to nobody. A
//! frame that is still in a buffer when its stream closes counts for the next stream or for nobody, so a
//! stream's figure may miss its closing frames (some tens of bytes); sums over streams never exceed the socket's total.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of TLS records, seen from the POP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WanBytes {
    /// From the POP.
    pub up: u64,
    /// To the POP.
    pub down: u64,
}

impl WanBytes {
    /// What has been added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { up: self.up.saturating_sub(earlier.up), down: self.down.saturating_sub(earlier.down) }
    }
}

impl std::ops::Add for WanBytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { up: self.up + other.up, down: self.down + other.down }
    }
}

/// Totals of one socket.
#[derive(Debug, Default)]
pub(crate) struct SocketBytes {
    up: AtomicU64,
    down: AtomicU64,
}

impl SocketBytes {
    pub(crate) fn read(&self) -> WanBytes {
        WanBytes { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }
}

/// A socket that counts what passes.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    socket: S,
    bytes: Arc<SocketBytes>,
}

impl<S> Counted<S> {
    pub(crate) fn new(socket: S) -> (Self, Arc<SocketBytes>) {
        let bytes = Arc::new(SocketBytes::default());
        (Self { socket, bytes: bytes.clone() }, bytes)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        let read = (buffer.filled().len() - before) as u64;
        self.bytes.down.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(context, data);
        if let Poll::Ready(Ok(written)) = &polled {
            self.bytes.up.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Who used a connection, and how much.
#[derive(Debug)]
pub(crate) struct Ledger {
    socket: Arc<SocketBytes>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: WanBytes,
    next_account: u64,
    accounts: HashMap<u64, Entry>,
}

/// What one stream sent and received since the last settlement, and what it was attributed so far.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    encoded: WanBytes,
    attributed: WanBytes,
}

impl Ledger {
    pub(crate) fn new(socket: Arc<SocketBytes>) -> Arc<Self> {
        Arc::new(Self { socket, state: Mutex::default() })
    }

    /// Opens the account of a new stream.
    pub(crate) fn open(self: &Arc<Self>) -> Account {
        let mut state = self.lock();
        state.settle(self.socket.read());
        let number = state.next_account;
        state.next_account += 1;
        state.accounts.insert(number, Entry::default());
        Account { ledger: self.clone(), number }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, total: WanBytes) {
        let delta = WanBytes { up: total.up - self.settled.up, down: total.down - self.settled.down };
        self.settled = total;
        let up: Vec<u64> = self.accounts.values().map(|entry| entry.encoded.up).collect();
        let down: Vec<u64> = self.accounts.values().map(|entry| entry.encoded.down).collect();
        let shares = apportion(delta.up, &up).into_iter().zip(apportion(delta.down, &down));
        for (entry, (up, down)) in self.accounts.values_mut().zip(shares) {
            entry.attributed = entry.attributed + WanBytes { up, down };
            entry.encoded = WanBytes::default();
        }
    }
}

/// Splits `total` in proportion to `weights`, evenly when all are zero; the parts sum to `total`.
fn apportion(total: u64, weights: &[u64]) -> Vec<u64> {
    let even = weights.iter().all(|weight| *weight == 0);
    let weight_at = |index: usize| if even { 1 } else { u128::from(weights[index]) };
    let sum: u128 = (0..weights.len()).map(weight_at).sum();
    let (mut passed, mut given) = (0u128, 0u64);
    (0..weights.len())
        .map(|index| {
            passed += weight_at(index);
            let until = (u128::from(total) * passed / sum) as u64;
            let part = until - given;
            given = until;
            part
        })
        .collect()
}

/// One stream's account; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Account {
    pub(crate) fn sent(&self, encoded_bytes: usize) {
        if let Some(entry) = self.ledger.lock().accounts.get_mut(&self.number) {
            entry.encoded.up += encoded_bytes as u64;
        }
    }

    pub(crate) fn received(&self, encoded_bytes: usize) {
        if let Some(entry) = self.ledger.lock().accounts.get_mut(&self.number) {
            entry.encoded.down += encoded_bytes as u64;
        }
    }

    /// Settles up to now and returns the stream's bytes so far.
    pub(crate) fn read(&self) -> WanBytes {
        let mut state = self.ledger.lock();
        state.settle(self.ledger.socket.read());
        state.accounts.get(&self.number).map(|entry| entry.attributed).unwrap_or_default()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        state.settle(self.ledger.socket.read());
        state.accounts.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, SocketBytes, WanBytes, apportion};
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    fn pass(socket: &SocketBytes, up: u64, down: u64) {
        socket.up.fetch_add(up, Ordering::Relaxed);
        socket.down.fetch_add(down, Ordering::Relaxed);
    }

    #[test]
    fn alone_is_exact_and_shared_is_proportional() {
        let socket = Arc::new(SocketBytes::default());
        let ledger = Ledger::new(socket.clone());
        pass(&socket, 1_000, 2_000); // the handshake: nobody's
        let first = ledger.open();
        first.sent(10);
        pass(&socket, 50, 70);
        assert_eq!(first.read(), WanBytes { up: 50, down: 70 });

        let second = ledger.open();
        first.sent(10);
        second.sent(30);
        second.received(5);
        pass(&socket, 100, 40);
        assert_eq!(first.read(), WanBytes { up: 75, down: 70 });
        assert_eq!(second.read(), WanBytes { up: 75, down: 40 });

        drop(first);
        pass(&socket, 7, 7);
        assert_eq!(second.read(), WanBytes { up: 82, down: 47 });
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole(total in 0u64..1 << 40, weights in prop::collection::vec(0u64..1 << 30, 1..20)) {
            prop_assert_eq!(apportion(total, &weights).iter().sum::<u64>(), total);
        }
    }
}
