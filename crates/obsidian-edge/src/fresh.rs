//! Random values drawn for one request.

use crate::fault::Fault;

/// What a request is called and which noise it gets where its client says neither.
pub(crate) struct Fresh {
    pub(crate) id: String,
    pub(crate) seed: u64,
}

impl Fresh {
    pub(crate) fn draw() -> Result<Self, Fault> {
        let mut bytes = [0u8; 24];
        getrandom::fill(&mut bytes).map_err(|_| Fault::Internal)?;
        let (id, seed) = bytes.split_at(16);
        let seed = seed.iter().fold(0u64, |seed, byte| (seed << 8) | u64::from(*byte));
        Ok(Self { id: crate::tenants::hexadecimal(id), seed })
    }
}
