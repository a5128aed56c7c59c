//! Modules for the places of the POP's own guests: uploaded and judged as functions are, with a ledger of their own,
//! and kept on the disk beside them.

use obsidian_registry::{Artifact, Ledger, Refusal, Statement, Verified};
use obsidian_types::TenantId;
use tokio::runtime::Handle;

use super::changes::{Signature, blocking};
use super::disk::{GuestRecord, Signed};
use super::error::ChangeError;
use super::loading::Judged;
use super::{Functions, Inner};

/// A module whose signers may vouch for it on this node, and where the disk has it.
pub(crate) struct Vouched {
    pub(crate) artifact: Verified<Artifact>,
    pub(crate) signed: Signed,
    pub(crate) statement: Statement,
}

/// Whose ledger it is: no tenant's name has this character.
fn owner() -> TenantId {
    TenantId::new("#guests")
}

impl Functions {
    /// A module that was uploaded, if it may take a guest's place.
    pub(crate) async fn vouch_guest(&self, signature: Signature, allow_older: bool) -> Result<Vouched, ChangeError> {
        let inner = self.0.clone();
        blocking(move || {
            let signed = inner.keep(&signature)?;
            let Judged { artifact, statement } = inner.judge_guest(&signed, allow_older)?;
            Ok(Vouched { artifact, signed, statement })
        })
        .await
    }

    /// A module that has had a guest's place, if it still may. It may be older than others that had it.
    pub(crate) async fn vouch_guest_again(
        &self,
        signed: Signed,
    ) -> Result<(Verified<Artifact>, Statement), ChangeError> {
        let inner = self.0.clone();
        blocking(move || {
            let Judged { artifact, statement } = inner.judge_guest(&signed, true)?;
            Ok((artifact, statement))
        })
        .await
    }

    /// Remembers that this version took a guest's place, so that older ones are refused.
    pub(crate) async fn remember_guest(&self, statement: Statement) -> Result<(), ChangeError> {
        let inner = self.0.clone();
        blocking(move || {
            let path = inner.disk.ledger(&owner());
            let mut ledger = Ledger::open(&path).map_err(Refusal::from)?;
            let Statement { name, version, digest, .. } = statement;
            Ok(ledger.accept(&path, &name, &version, digest).map_err(Refusal::from)?)
        })
        .await
    }

    /// Which versions of a guest the disk remembers.
    pub(crate) async fn guest_record(&self, guest: &'static str) -> Result<Option<GuestRecord>, ChangeError> {
        let inner = self.0.clone();
        blocking(move || Ok(inner.disk.guest(guest)?)).await
    }

    /// Writes down which versions of a guest serve. Blocks.
    pub(crate) fn save_guest(&self, guest: &str, record: &GuestRecord) -> Result<(), ChangeError> {
        Ok(self.0.disk.save_guest(guest, record)?)
    }

    /// Does work on the disk on a thread where it holds nobody up; [`Functions::close`] waits for it.
    pub(crate) fn later(&self, runtime: &Handle, work: impl FnOnce() + Send + 'static) {
        self.0.tasks.spawn_blocking_on(work, runtime);
    }
}

impl Inner {
    fn judge_guest(&self, signed: &Signed, allow_older: bool) -> Result<Judged, ChangeError> {
        let ledger = Ledger::open(&self.disk.ledger(&owner())).map_err(Refusal::from)?;
        self.judge(signed, &self.trust()?, &if allow_older { ledger.allow_older() } else { ledger })
    }
}
