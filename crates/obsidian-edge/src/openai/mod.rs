//! OpenAI's chat completions API: request shapes, response shapes, SSE frames and errors.
//!
//! Nothing past this module knows these shapes: [`parse::chat`] turns a body into [`parse::ParsedChat`],
//! [`response`] and [`sse`] turn what the pipeline tells into bytes. Pure: no I/O, no clock, no randomness.

pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod message;
pub(crate) mod parse;
pub(crate) mod refusal;
pub(crate) mod response;
pub(crate) mod sampling;
pub(crate) mod sse;
#[cfg(test)]
mod tests;
