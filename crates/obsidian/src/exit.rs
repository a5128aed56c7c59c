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

/// An error and its causes on one line. Many libraries' messages hold their cause's already; it is said once.
pub(crate) fn shown(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
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

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::shown;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("address in use").context("cannot listen: address in use").context("no node");
        assert_eq!(shown(&error), "no node: cannot listen: address in use");
        assert_eq!(shown(&anyhow!("b").context("a")), "a: b");
    }
}
