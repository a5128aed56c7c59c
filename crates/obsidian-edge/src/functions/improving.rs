//! From code that was compiled quickly to optimised code: in the background, one function at a time, ending in the same
//! exchange as every change.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Inner;
use super::changes::{blocking, warm_count};
use super::deployment::{Deployed, Key, Table, Version};
use super::error::ChangeError;
use super::loading::Purpose;

impl Inner {
    /// If `version` answers with code that was compiled quickly, sees to it that optimised code takes its place.
    pub(super) fn improve_later(self: &Arc<Self>, key: &Key, version: &Arc<Version>) {
        if !version.module.is_quick() {
            return;
        }
        let (inner, key, quick) = (self.clone(), key.clone(), version.clone());
        self.tasks.spawn(async move {
            if let Err(error) = inner.improve(&key, quick).await {
                tracing::warn!(tenant = %key.tenant, function = key.name, %error, "a function stays as it was compiled quickly");
            }
        });
    }

    async fn improve(self: &Arc<Self>, key: &Key, quick: Arc<Version>) -> Result<(), ChangeError> {
        // Compiling takes every core. Who saves a file again and again is not waited for again and again.
        let _turn = self.improving.lock().await;
        if !self.answers(key, &quick) || self.tasks.is_closed() {
            return Ok(());
        }
        let started = Instant::now();
        let (inner, loading, release) = (self.clone(), key.clone(), quick.release.clone());
        let loaded = blocking(move || inner.load(&loading, &release, Some(&release), Purpose::Restore)).await?;
        let better = loaded.version;
        let _lane = self.lane(key).lock().await;
        let before = self.table.load().get(key).cloned();
        better.module.warm(warm_count(before.as_deref())).await?;
        if self.commit_better(key, &quick, better) {
            let load_ms = started.elapsed().as_millis() as u64;
            let version = &quick.facts.version;
            tracing::info!(tenant = %key.tenant, function = key.name, version, load_ms, "a function answers with optimised code");
            self.retire(vec![quick]);
        }
        Ok(())
    }

    /// Whether this very version answers.
    fn answers(&self, key: &Key, version: &Arc<Version>) -> bool {
        let table = self.table.load();
        table.get(key).is_some_and(|deployed| deployed.is_answered_by(version))
    }

    /// Puts `better` in the place of `quick`, if that still answers.
    fn commit_better(&self, key: &Key, quick: &Arc<Version>, better: Arc<Version>) -> bool {
        let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        let Some(before) = table.get(key).cloned().filter(|before| before.is_answered_by(quick)) else { return false };
        table.put(Arc::new(Deployed {
            key: key.clone(),
            record: before.record.clone(),
            current: Ok(better),
            previous: before.previous.clone(),
            shadow: before.shadow.clone(),
            numbers: before.numbers.clone(),
        }));
        self.table.store(Arc::new(table));
        true
    }
}

impl Deployed {
    fn is_answered_by(&self, version: &Arc<Version>) -> bool {
        self.current.as_ref().is_ok_and(|current| Arc::ptr_eq(current, version))
    }
}
