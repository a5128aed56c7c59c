//! llama.cpp as a peer: the same models through it, on one thread of the CPU with an F32 cache.

pub mod peer;
