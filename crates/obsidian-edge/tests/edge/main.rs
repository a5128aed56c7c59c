//! A whole POP on loopback: real guests in real sandboxes, the shipped draft model, plain HTTP from outside.

mod errors;
mod faults;
mod http;
mod hub;
mod lifecycle;
mod standin;
mod streaming;
mod support;
