//! The messages and service of `proto/obsidian/verify/v1/verify.proto`, generated at build time.

#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    reason = "generated; the .proto file carries the documentation; the large variant, `open`, comes once per stream"
)]
mod generated {
    tonic::include_proto!("obsidian.verify.v1");
}

pub use generated::*;

impl From<up::Kind> for Up {
    fn from(kind: up::Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl From<down::Kind> for Down {
    fn from(kind: down::Kind) -> Self {
        Self { kind: Some(kind) }
    }
}
