//! The drafter: one model in one long-lived sandbox, many conversations in it.
//!
//! A thread of its own owns the sandbox (`actor`); [`Drafter`] and [`DraftSession`] are handles that send
//! it commands over a bounded queue. Commands of different sessions that wait at the same time become
//! one guest call, so that the weights are read once for all. Start at [`Drafter::start`].

mod actor;
mod handle;
mod instance;
mod scored;
mod supervisor;

pub use handle::{DraftSession, Drafter, ModelInfo, Startup};
pub use scored::{Candidate, ScoredToken};
