//! The model of this POP that a request runs on, held until the request is over: the draft model in the version that
//! served when the request began, or another model that it named.

use std::sync::Arc;

use obsidian_sandbox::{Drafter, Generation, Lease, SandboxError};

use crate::fault::Fault;
use crate::guests::{Seated, is_own_fault};
use crate::pop::Pop;
use crate::rendering::drafter_fault;
use crate::routing::Scope;

/// A hold on a model. Cloning gives another.
#[derive(Clone)]
pub(crate) struct Local {
    name: String,
    held: Held,
}

#[derive(Clone)]
enum Held {
    Draft(Arc<Generation<Seated<Drafter>>>),
    Named(Lease),
}

impl Local {
    /// The model for a request: attached now, if it names one that is not.
    pub(crate) async fn take(pop: &Pop, scope: &Scope) -> Result<Self, Fault> {
        let draft = pop.guests.drafter.current();
        let Some(index) = scope.shelf else {
            return Ok(Self { name: draft.guest().info().name.clone(), held: Held::Draft(draft) });
        };
        let lease = pop.parts.models.take(index, draft.guest().guest()).await.map_err(|error| match error {
            SandboxError::Overloaded { what } => Fault::Overloaded(what),
            other => drafter_fault(other),
        })?;
        let name = pop.parts.models.names().nth(index).unwrap_or_default().to_owned();
        Ok(Self { name, held: Held::Named(lease) })
    }

    /// Goes over to the version of the draft model that serves now.
    pub(crate) fn renew(&mut self, pop: &Pop) {
        if let Held::Draft(draft) = &mut self.held {
            *draft = pop.guests.drafter.current();
        }
    }

    /// What clients call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    pub(crate) fn drafter(&self) -> &Drafter {
        match &self.held {
            Held::Draft(draft) => draft.guest(),
            Held::Named(lease) => lease.drafter(),
        }
    }

    /// Notes a failure that will be tried again. Only the draft model counts: what another model's file does to the
    /// guest says little about the guest.
    pub(crate) fn note_fault(&self, pop: &Pop, error: &SandboxError) {
        if let Held::Draft(draft) = &self.held {
            pop.guests.drafter.note_sandbox_fault(draft, error);
        }
    }

    /// Notes a failure after which nothing is tried: a guest that has not come back by then counts too.
    pub(crate) fn note_last_fault(&self, pop: &Pop, error: &SandboxError) {
        if let Held::Draft(draft) = &self.held
            && (is_own_fault(error) || matches!(error, SandboxError::Unavailable { .. }))
        {
            pop.guests.drafter.note_fault(draft);
        }
    }
}
