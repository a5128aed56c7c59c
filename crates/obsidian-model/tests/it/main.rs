//! Integration tests of the model crate.

mod arithmetic;
mod golden;
mod hostile;
mod injection;
mod sampler;
