//! Modules for the places of the POP's own guests: uploaded and judged as functions are, with a ledger of their own.

use obsidian_registry::{Artifact, Ledger, Refusal, Statement, Verified};
use obsidian_types::TenantId;
use time::OffsetDateTime;

use super::Functions;
use super::changes::{Signature, blocking};
use super::error::ChangeError;
use super::loading::missing;

/// Whose ledger it is: no tenant's name has this character.
fn owner() -> TenantId {
    TenantId::new("#guests")
}

impl Functions {
    /// A module that was uploaded, if its signers may vouch for it on this node.
    pub(crate) async fn vouch_guest(
        &self,
        signature: Signature,
    ) -> Result<(Verified<Artifact>, Statement), ChangeError> {
        let inner = self.0.clone();
        blocking(move || {
            let trust = inner.trust()?;
            let ledger = Ledger::open(&inner.disk.ledger(&owner())).map_err(Refusal::from)?;
            let component = inner.disk.artifact(signature.digest);
            let component = component.map_err(|error| missing("component", signature.digest, &error))?;
            Ok(Verified::signed(component, &signature.envelope, &trust, &ledger, OffsetDateTime::now_utc())?)
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
}
