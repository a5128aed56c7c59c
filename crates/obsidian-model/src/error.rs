//! What can go wrong, each case distinguishable.

/// Why a model, a text or a forward pass was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be opened or mapped.
    #[error("cannot read the model file: {0}")]
    Read(String),
    /// A model file cannot be written.
    #[error("cannot write the model file: {0}")]
    Write(String),
    /// The bytes are not a well-formed GGUF v3 file.
    #[error("not a valid GGUF file: {0}")]
    Malformed(String),
    /// A well-formed file that asks for something this crate does not compute.
    #[error("unsupported model: {0}")]
    Unsupported(String),
    /// A sequence would grow past the context length, which is carried.
    #[error("the sequence would grow past the context length of {0} tokens")]
    ContextFull(u32),
    /// A token id outside the vocabulary.
    #[error("token id {0} is outside the vocabulary")]
    InvalidToken(u32),
    /// The chat template failed or produced too much.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// A call that makes no sense in the present state.
    #[error("invalid use: {0}")]
    InvalidUse(String),
    /// The model computed infinity or NaN; the weights are broken.
    #[error("the model computed a value that is not finite")]
    NotFinite,
}

impl ModelError {
    /// A malformed file, with the reason.
    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }

    /// An unsupported feature, by name.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }
}
