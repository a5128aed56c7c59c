//! The privacy shield: finds personal data and secrets in text, puts placeholders in their place, and
//! puts the originals back into the answer as it streams.
//!
//! Everything here is pure and synchronous: no clock, no randomness, no I/O. The same functions run
//! inside the shield's sandbox (`guests/shield`) and, when that sandbox faults, natively in the POP.
//!
//! * [`mask`] turns fields into masked fields and a [`Vault`]. `restore(mask(x)) == x`, byte for byte, for
//!   every x; the same value gets the same placeholder in every field and every turn.
//! * [`Restorer`] puts originals back into a stream of bytes, at any chunking.
//! * [`Vault::seal`] is the only way to a [`Masked`] prompt, the only thing that may leave the POP. It
//!   trusts nobody: it looks for the vault's originals and runs the detectors again.
//!
//! What is found: e-mail addresses, telephone numbers, payment cards, IBANs, IP addresses, and secrets
//! (well-known API keys, JWTs, private keys, passwords in URLs and assignments); see the modules of
//! `detect` for the rules. Full-width digits, zero-width characters, exotic spaces and dashes are seen
//! through. What is not found: names and postal addresses, values spelled out in words
//! ("alice at example dot com"), base64 or other encodings of values, and telephone numbers without a
//! country code, a usual grouping or a word such as "phone" before them.
//!
//! What it must not do: print, log or put into an error any text it was given. Types that hold originals
//! show lengths only.

mod detect;
mod json_text;
mod key;
mod kind;
mod mask;
mod masked;
mod occurrences;
mod placeholder;
mod prompt;
mod restore;
mod vault;
mod view;

pub use detect::{Detection, detect};
pub use key::ShieldKey;
pub use kind::Kind;
pub use mask::{MaskError, MaskedFields, mask};
pub use masked::{Masked, SealError, TokenIds};
pub use placeholder::MAX_PLACEHOLDER_BYTES;
pub use prompt::Prompt;
pub use restore::Restorer;
pub use vault::{Replacement, Vault, VaultError};
