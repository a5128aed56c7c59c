//! Where a model's bytes lie: mapped from a file, in a guest's attached region, or in memory.
//!
//! One of the few modules with `unsafe`: mapping a file is only sound while nobody changes the file.

/// The bytes of a model file.
pub(crate) enum Source {
    /// There for good.
    Static(&'static [u8]),
    /// Read into memory.
    Owned(Vec<u8>),
    /// Mapped read-only.
    #[cfg(not(target_family = "wasm"))]
    Mapped(memmap2::Mmap),
}

impl Source {
    /// Maps a file read-only.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn map(path: &std::path::Path) -> Result<Self, crate::error::ModelError> {
        let failed = |error: std::io::Error| crate::error::ModelError::Read(format!("{}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(failed)?;
        // SAFETY: the mapping is private and read-only, and `Model::open` requires that the file is not
        // changed or truncated while the model lives (weight files are kept read-only).
        let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Ok(Self::Mapped(mapped))
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
