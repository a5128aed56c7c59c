//! Names and numbers that identify things.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Index of a token in a model's vocabulary.
pub type TokenId = u32;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps text that the caller has already checked or made.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One request, unique over the fleet; goes to the client as `x-obsidian-request-id`.
    RequestId
}
text_id! {
    /// Whose data this is. Keys, conversations and budgets never cross a tenant.
    TenantId
}
text_id! {
    /// One conversation of one tenant: what the client named, or an HMAC of its opening messages.
    ConversationId
}
text_id! {
    /// A model's name as clients spell it.
    ModelName
}
