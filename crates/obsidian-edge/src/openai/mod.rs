//! OpenAI's API: request shapes, answer shapes, SSE frames and errors, one folder per endpoint.
//!
//! Nothing past this module knows these shapes: each endpoint's `parse` turns a body into a [`request::Parsed`], and
//! its [`shape::Shape`] turns what the pipeline tells into bytes. Pure: no I/O, no clock, no randomness. Which field
//! is supported and which is refused, and why, is said once, in each endpoint's tables of [`fields::Field`]; the
//! published page is printed from them ([`surface`]).

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod models;
pub(crate) mod options;
pub(crate) mod request;
pub(crate) mod responses;
pub(crate) mod sampling;
pub(crate) mod shape;
pub(crate) mod sse;
#[cfg(test)]
mod surface;
pub(crate) mod tools;
