//! The messages and service of `proto/obsidian/verify/v1/verify.proto`, generated at build time.
//!
//! Ids are a prompt by another spelling: the `Debug` of messages that carry them prints lengths only.

use std::fmt;

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

impl fmt::Debug for Open {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.prefix.as_ref().map_or(0, |prefix| prefix.blocks);
        write!(formatter, "Open({:?}, {blocks} blocks named, {} ids)", self.mode(), self.suffix.len())
    }
}

impl fmt::Debug for Append {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Append({} ids at {})", self.ids.len(), self.position)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Draft({} ids at {}, epoch {})", self.ids.len(), self.position, self.epoch)
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, position, accepted, next, .. } = self;
        write!(formatter, "Verdict({accepted} accepted, {} more at {position}, epoch {epoch})", next.len())?;
        write!(formatter, "{}", if self.finish() == Finish::None { "" } else { " and the end" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Append, Draft, Open, Verdict, up};

    #[test]
    fn debug_shows_no_id() {
        let ids = vec![424_242];
        let open = Open { suffix: ids.clone(), ..Open::default() };
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            Append { position: 0, ids: ids.clone() },
            Draft { epoch: 0, position: 0, ids: ids.clone() },
            Verdict { next: ids, ..Verdict::default() },
            up::Kind::Open(open.clone()),
            open,
        );
        assert!(!shown.contains("4242"), "{shown}");
    }
}
