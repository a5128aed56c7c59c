//! The hub as a POP meets it: real models, real TLS, real streams.

mod distribution;
mod exactness;
mod lifecycle;
mod sessions;
mod support;
