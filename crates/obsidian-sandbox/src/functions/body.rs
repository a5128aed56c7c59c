//! Bodies on their way in and out of a function. They stream: no side ever holds a whole one.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

/// A request or response body.
pub type FunctionBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than its limit.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// The limit, bytes.
        limit: u64,
    },
    /// Whoever sends it stopped before its end.
    #[error("the body broke off: {0}")]
    BrokenOff(String),
    /// It took too long.
    #[error("the body did not end in time")]
    Timeout,
}

/// A body of some bytes.
pub fn full(bytes: impl Into<Bytes>) -> FunctionBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of none.
pub fn empty() -> FunctionBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
