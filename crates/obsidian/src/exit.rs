//! Exit codes, and the errors that carry one.

use std::process::ExitCode;

/// An error whose exit code is not simply "failed".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// Wrong usage that clap cannot see.
    #[error("{0}")]
    Usage(String),
    /// Refused by policy or signature.
    #[error("{0}")]
    Refused(String),
    /// The other side is not there.
    #[error("{0}")]
    Unavailable(String),
}

/// 0 done, 1 failed, 2 wrong usage, 3 refused by policy or signature, 4 unavailable.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Usage(_)) => ExitCode::from(2),
        Some(Stop::Refused(_)) => ExitCode::from(3),
        Some(Stop::Unavailable(_)) => ExitCode::from(4),
        None => ExitCode::FAILURE,
    }
}
