//! The drafter: one model in one or more long-lived sandboxes, many conversations in each.
//!
//! Each sandbox is a worker with a thread of its own, all on one mapping of the weights; a conversation lives in
//! one of them (`worker`). The thread owns the sandbox (`actor`); [`Drafter`] and [`DraftSession`] are handles that send
//! it commands over a bounded queue. Commands of different sessions that wait at the same time become
//! one guest call, so that the weights are read once for all. Start at [`Drafter::start`].

mod actor;
mod guest;
mod handle;
mod instance;
mod scored;
mod supervisor;
mod surveys;
mod worker;

pub use guest::{DrafterGuest, DrafterOptions};
pub use handle::{DraftSession, Drafter, ModelInfo, Startup};
pub use scored::{Candidate, ScoredToken};
