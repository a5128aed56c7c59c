//! What can go wrong on the link, and how it travels: a gRPC status with a stable code beside it.

use std::time::Duration;

use thiserror::Error;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code as GrpcCode, Status};

const CODE_KEY: &str = "obsidian-code";
const RETRY_KEY: &str = "obsidian-retry-after-ms";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $grpc:ident;)*) => {
        /// Why a hub refuses. The spelling is part of the protocol: codes are added, never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// As spelled on the wire and in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The gRPC code that carries it.
            pub fn grpc(self) -> GrpcCode {
                match self { $(Self::$name => GrpcCode::$grpc,)* }
            }
        }
    };
}

codes! {
    /// No protocol version in common.
    UnsupportedVersion = "unsupported_version", FailedPrecondition;
    /// The hub serves another model, or one with another vocabulary.
    ModelMismatch = "model_mismatch", FailedPrecondition;
    /// The hub computes with other numerics than the POP insists on.
    NumericsMismatch = "numerics_mismatch", FailedPrecondition;
    /// A message that makes no sense here: a fault of the peer.
    InvalidMessage = "invalid_message", InvalidArgument;
    /// The prompt does not fit the model's context.
    ContextFull = "context_full", OutOfRange;
    /// Too many sessions, or no memory for their keys and values; try again later or elsewhere.
    Overloaded = "overloaded", ResourceExhausted;
    /// The POP sent nothing for too long.
    Idle = "idle", DeadlineExceeded;
    /// The hub is stopping; use another.
    ShuttingDown = "shutting_down", Unavailable;
    /// The engine failed.
    EngineFailed = "engine_failed", Internal;
}

impl Code {
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

/// A hub's no, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// In words, with what to do; never prompt text or ids.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal without a hint to retry.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The refusal that a status carries, if a hub of ours made the status.
    pub fn from_status(status: &Status) -> Option<Self> {
        let metadata = status.metadata();
        let code = Code::parse(metadata.get(CODE_KEY)?.to_str().ok()?)?;
        let retry_after =
            metadata.get(RETRY_KEY).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_millis);
        Some(Self { code, message: status.message().to_owned(), retry_after })
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut metadata = MetadataMap::new();
        metadata.insert(CODE_KEY, MetadataValue::from_static(refusal.code.as_str()));
        if let Some(delay) = refusal.retry_after {
            metadata.insert(RETRY_KEY, MetadataValue::from(delay.as_millis() as u64));
        }
        Status::with_metadata(refusal.code.grpc(), refusal.message, metadata)
    }
}

/// Why a call on the link failed, seen from the POP. In every case the answer so far stands, and the POP
/// can go on alone from it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// No connection to the hub stands at present.
    #[error("hub {endpoint} cannot be reached: {reason}")]
    Unavailable {
        /// Where.
        endpoint: String,
        /// The last failure seen.
        reason: String,
    },
    /// The hub did not answer in time.
    #[error("hub did not answer {what} within {after_ms} ms")]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after_ms: u64,
    },
    /// The hub said no.
    #[error("hub refused: {0}")]
    Refused(#[from] Refusal),
    /// The connection broke in the middle of a stream.
    #[error("connection to the hub was lost: {reason}")]
    Lost {
        /// What was seen.
        reason: String,
    },
    /// The hub answered something the protocol does not allow.
    #[error("hub broke the protocol: {0}")]
    Protocol(&'static str),
    /// The caller broke this interface's rules.
    #[error("wrong use of the verify link: {0}")]
    WrongUse(&'static str),
}

impl LinkError {
    /// A short stable name for metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::Refused(refusal) => refusal.code.as_str(),
            Self::Lost { .. } => "lost",
            Self::Protocol(_) => "protocol",
            Self::WrongUse(_) => "wrong_use",
        }
    }

    pub(crate) fn from_status(status: &Status) -> Self {
        match Refusal::from_status(status) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Lost { reason: format!("{}: {}", status.code(), status.message()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Refusal};
    use std::time::Duration;
    use tonic::Status;

    #[test]
    fn every_code_survives_the_status() {
        for code in Code::ALL {
            let refusal = Refusal::new(*code, "because").retry_after(Duration::from_millis(250));
            let status = Status::from(refusal.clone());
            assert_eq!(status.code(), code.grpc());
            assert_eq!(Refusal::from_status(&status), Some(refusal));
        }
    }

    #[test]
    fn a_foreign_status_is_no_refusal() {
        assert_eq!(Refusal::from_status(&Status::internal("h2 broke")), None);
    }

    #[test]
    fn spellings_are_frozen() {
        let spelled: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            spelled.join(" "),
            "unsupported_version model_mismatch numerics_mismatch invalid_message context_full overloaded idle \
             shutting_down engine_failed"
        );
    }
}
