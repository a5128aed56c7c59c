//! Weights are attached, not loaded: the model file is laid over a region of the guest's own memory,
//! copy-on-write, so that a sandbox costs no copy and all sandboxes share one page cache.
//!
//! [`file`] owns files that nobody can change or shorten, [`attach`] owns the mapping.

mod attach;
mod file;
mod store;

pub(crate) use attach::{Attachments, link};
pub use file::{Progress, WeightFile};
pub use store::WeightStore;
