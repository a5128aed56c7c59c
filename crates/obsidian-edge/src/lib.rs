//! The POP: OpenAI-compatible ingress and the request pipeline.

mod openai;
mod outcome;
mod sanitise;
mod tenants;
mod text_gate;
#[cfg(test)]
mod fixtures;
pub use tenants::{ApiKey, TenantSecret};
