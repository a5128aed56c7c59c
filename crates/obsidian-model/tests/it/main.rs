//! Integration tests of the model crate.

mod arithmetic;
mod hostile;
mod injection;
mod sampler;
