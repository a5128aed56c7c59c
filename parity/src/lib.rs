//! Compares `obsidian-model` with llama.cpp: the same models through both, token by token and logit by logit.

pub mod cases;
pub mod compare;
pub mod peer;
