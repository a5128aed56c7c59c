//! Where a model's bytes lie: mapped from a file, in a guest's attached region, or in memory.
//!
//! One of the few modules with `unsafe`: mapping a file is only sound while nobody changes the file.

use std::sync::Arc;

/// The bytes of a model file. Cloning shares them.
#[derive(Clone)]
pub(crate) enum Source {
    /// There for good.
    Static(&'static [u8]),
    /// Read into memory.
    Owned(Arc<Vec<u8>>),
    /// Mapped read-only.
    #[cfg(not(target_family = "wasm"))]
    Mapped(Arc<memmap2::Mmap>),
}

impl Source {
    /// Takes a file that was read into memory.
    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        Self::Owned(Arc::new(bytes))
    }

    /// Maps a file read-only.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn map(path: &std::path::Path) -> Result<Self, crate::error::ModelError> {
        let failed = |error: std::io::Error| crate::error::ModelError::Read(format!("{}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(failed)?;
        // SAFETY: the mapping is private and read-only, and `Model::open` requires that the file is not
        // changed or truncated while the model lives (weight files are kept read-only).
        let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Ok(Self::Mapped(Arc::new(mapped)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            #[cfg(not(target_family = "wasm"))]
            Self::Mapped(mapped) => mapped,
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Source({} bytes)", self.bytes().len())
    }
}
