//! After a restart: the versions that served before serve again, each verified, loaded and tried as if it came anew.
//! Whatever cannot is told, in the log, in the metrics and by the administration, and the guest inside the binary
//! serves; it never keeps the POP from starting.

use metrics::counter;
use obsidian_registry::{Artifact, Statement, Verified};

use super::seat::{Seat, Versioned};
use super::{GuestKind, put};
use crate::functions::{Functions, GuestRecord, Signed};
use crate::pop::Pop;

/// Puts every guest back in its place as the disk remembers it. Nobody may be served yet.
pub(crate) async fn restore(pop: &Pop) {
    let Some(functions) = &pop.parts.functions else { return };
    let guests = &pop.guests;
    Place { pop, functions, kind: GuestKind::Shield, seat: &guests.shield }.restore().await;
    Place { pop, functions, kind: GuestKind::Router, seat: &guests.router }.restore().await;
    Place { pop, functions, kind: GuestKind::Drafter, seat: &guests.drafter }.restore().await;
}

struct Place<'a, T> {
    pop: &'a Pop,
    functions: &'a Functions,
    kind: GuestKind,
    seat: &'a Seat<T>,
}

impl<T: Versioned> Place<'_, T> {
    async fn restore(&self) {
        let record = match self.functions.guest_record(self.kind.as_str()).await {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => return self.refused("what served before is not known", &error.to_string()),
        };
        let kept = self.seated(&record, record.previous).await;
        let serves = self.seated(&record, record.current).await;
        // What was kept ready stays so behind the guest inside the binary: nobody chose it to serve.
        if kept
            && !serves
            && let Err(error) = self.seat.step_back()
        {
            self.refused("a version that was kept ready serves", &error.to_string());
        }
    }

    /// Whether there is such a version and it has taken the place.
    async fn seated(&self, record: &GuestRecord, signed: Option<Signed>) -> bool {
        let Some(signed) = signed else { return false };
        let done = match self.functions.vouch_guest_again(signed).await {
            Err(error) => Err(error.to_string()),
            Ok((artifact, statement)) => match self.superseded(record, &statement) {
                Some(reason) => Err(reason),
                None => self.put(artifact, signed).await,
            },
        };
        if let Err(reason) = &done {
            let digest = signed.digest.to_string();
            self.refused(&format!("the component {} was refused", &digest[..12]), reason);
        }
        done.is_ok()
    }

    /// A binary that was exchanged meanwhile may bring more than what was put in its predecessor's place.
    fn superseded(&self, record: &GuestRecord, statement: &Statement) -> Option<String> {
        let embedded = self.seat.embedded();
        let brought = embedded.version.parse().ok()?;
        let is_newer = statement.version.cmp_precedence(&brought).is_lt();
        let is_other = embedded.digest != record.embedded;
        (is_newer && is_other).then(|| {
            format!(
                "the binary brings {brought} now, which is newer than {}: swap again if that is meant",
                statement.version
            )
        })
    }

    async fn put(&self, artifact: Verified<Artifact>, signed: Signed) -> Result<(), String> {
        let (guest, version) = (self.kind.as_str(), artifact.version.clone());
        put(self.pop, self.kind, artifact, Some(signed)).await.map_err(|error| error.to_string())?;
        counter!("obsidian_guest_restores_total", "guest" => guest, "outcome" => "restored").increment(1);
        tracing::info!(guest, version, "a guest that was exchanged before the restart is in its place again");
        Ok(())
    }

    fn refused(&self, what: &str, reason: &str) {
        let guest = self.kind.as_str();
        counter!("obsidian_guest_restores_total", "guest" => guest, "outcome" => "refused").increment(1);
        tracing::error!(guest, what, reason, "a guest is not as it was before the restart");
        self.seat.note_not_restored(&format!("{what}: {reason}"));
    }
}
