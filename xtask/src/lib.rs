//! What the demo and the end-to-end tests share: a hub and a POP as processes, and a plain client for them.

pub mod fabric;
pub mod load;
