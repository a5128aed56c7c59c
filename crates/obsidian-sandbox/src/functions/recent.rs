//! What a figure was lately.

use std::sync::atomic::{AtomicU64, Ordering};

/// A mean that forgets: one in eight of the new, seven of the old.
#[derive(Debug, Default)]
pub(super) struct Recent(AtomicU64);

impl Recent {
    /// Takes one more figure in. A race between two requests loses one of them, no more.
    pub(super) fn note(&self, figure: u64) {
        let recent = self.get();
        self.0.store(recent - recent / 8 + figure / 8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
