//! A compact hash table of positions, whose keys stay where they are: in the model file.
//!
//! Four bytes a slot: 21 bits of position (plus one) and 11 bits of the key's hash, so that a look-up
//! reads the file for the key it wants and for one key in two thousand that it does not.

use crate::error::ModelError;

/// Most positions: what 21 bits name, less the empty slot.
pub(super) const MAX_POSITIONS: u32 = (1 << 21) - 1;
/// Longest run of slots looked through; a file made to collide is refused instead of searched for ever.
const MAX_PROBES: usize = 512;
const POSITION_BITS: u32 = 21;

/// Positions by the hash of their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    slots: Vec<u32>,
}

impl Table {
    /// Room for `count` positions, at most three quarters full.
    pub(super) fn with_room_for(count: u32) -> Self {
        Self { slots: vec![0; room(count)] }
    }

    /// A table as [`Self::slots`] gave it, or none if it never was one for `count` positions.
    pub(super) fn restored(slots: Vec<u32>, count: u32) -> Option<Self> {
        let is_slot = |slot: &u32| *slot == 0 || slot & MAX_POSITIONS != 0;
        (slots.len() == room(count) && slots.iter().all(is_slot)).then_some(Self { slots })
    }

    /// The whole table.
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The position with `hash` that `matches` accepts.
    pub(super) fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        for slot in self.run(hash) {
            let found = *self.slots.get(slot)?;
            if found == 0 {
                return None;
            }
            let position = (found & MAX_POSITIONS) - 1;
            if found >> POSITION_BITS == tag(hash) && matches(position) {
                return Some(position);
            }
        }
        None
    }

    /// Adds `position` unless `same` says that its key is there already: the first one stays.
    ///
    /// # Errors
    /// So many keys in one place that the file was made for it, or a position that has no room.
    pub(super) fn insert(&mut self, hash: u64, position: u32, same: impl Fn(u32) -> bool) -> Result<(), ModelError> {
        for slot in self.run(hash) {
            let Some(found) = self.slots.get_mut(slot) else { break };
            if *found == 0 {
                if position >= MAX_POSITIONS {
                    break;
                }
                *found = tag(hash) << POSITION_BITS | (position + 1);
                return Ok(());
            }
            if *found >> POSITION_BITS == tag(hash) && same((*found & MAX_POSITIONS) - 1) {
                return Ok(());
            }
        }
        Err(ModelError::malformed("too many tokens or merges share one hash"))
    }

    /// The slots to look at, in order.
    fn run(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let size = self.slots.len();
        let first = ((u128::from(hash) * size as u128) >> 64) as usize;
        (0..MAX_PROBES.min(size)).map(move |step| (first + step) % size)
    }
}

/// Slots for `count` positions.
fn room(count: u32) -> usize {
    (count as usize).saturating_mul(4).div_ceil(3).max(1) + 1
}

/// The low bits: the high ones choose the slot.
fn tag(hash: u64) -> u32 {
    (hash & 0x7ff) as u32
}

/// Hashes a text given in pieces; where one ends and the next begins makes no difference.
pub(super) struct Hasher(u64);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        for byte in piece {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash, its bits well mixed.
    pub(super) fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ hash >> 31
    }
}

/// The hash of a pair of tokens.
pub(super) fn pair(left: u32, right: u32) -> u64 {
    let mut hasher = Hasher::new();
    hasher.0 ^= u64::from(left) << 32 | u64::from(right);
    hasher.0 = hasher.0.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hasher.finish()
}
