//! Integration tests of the model crate.

#[cfg(test)]
mod arithmetic;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod injection;
#[cfg(test)]
mod penalties;
#[cfg(test)]
mod rebuild;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod sampler;
#[cfg(test)]
mod split;
#[cfg(test)]
mod survey;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod tokenizers;
