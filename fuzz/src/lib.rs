//! Every body, for both drivers: `main.rs` mutates seeds by itself, `coverage.rs` lets libFuzzer do it.

pub mod bodies;
mod words;
