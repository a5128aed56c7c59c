//! Weights are attached, not loaded: the model file is laid over a region of the guest's own memory,
//! copy-on-write, so that a sandbox costs no copy and all sandboxes share one page cache.
//!
//! [`file`] owns files that nobody can change or shorten, [`attach`] owns the mapping, [`catalogue`] the names.

mod attach;
mod catalogue;
mod file;
mod partial;
mod store;

pub(crate) use attach::{Attachments, link};
pub use catalogue::{Catalogue, Manifest};
pub use file::{Progress, WeightFile};
pub use partial::PartialFile;
pub use store::{Swept, WeightStore};
