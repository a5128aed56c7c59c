//! The architectures that this crate computes, and in what they differ.

use crate::error::ModelError;

/// A family of models with the same forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3.x and everything converted to its layout (Mistral, SmolLM, DeepSeek-R1-Distill-Llama …).
    Llama,
    /// Qwen 2 and 2.5, DeepSeek-R1-Distill-Qwen: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: queries and keys are normalised per head.
    Qwen3,
}

/// Which two elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// Neighbours: 0 and 1, 2 and 3 …
    Neighbours,
    /// An element of the first half of what is rotated, and its counterpart in the second.
    Halves,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// `general.architecture` of its files, and the prefix of its metadata keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The architecture that a file names.
    pub(crate) fn from_name(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL.into_iter().find(|architecture| architecture.name() == name);
        found.ok_or_else(|| {
            let supported = Self::ALL.map(Self::name).join(", ");
            ModelError::unsupported(format!("architecture {name:?}; supported are {supported}"))
        })
    }

    /// How heads lie in memory. (Conversion to `llama` files permutes queries and keys, the others do not.)
    pub(crate) fn pairing(self) -> Pairing {
        match self {
            Self::Llama => Pairing::Neighbours,
            Self::Qwen2 | Self::Qwen3 => Pairing::Halves,
        }
    }

    /// Whether each head of queries and keys passes a norm of its own before it is rotated.
    pub(crate) fn normalises_heads(self) -> bool {
        self == Self::Qwen3
    }
}
