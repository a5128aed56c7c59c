//! Functions of users through the host of functions: what `wasi:http` and the host interfaces promise, every denied
//! capability, every limit with its error, guests that attack, and what one tenant may find of another.

#![expect(clippy::expect_used, clippy::panic, reason = "what a test sets up must be there")]

mod answers;
mod chat;
mod component;
mod denied;
mod density;
mod features;
mod fixture;
mod hostile;
mod interfaces;
mod limits;
mod outbound;
mod quick;
mod services;
mod stale;
mod streaming;
mod traps;
