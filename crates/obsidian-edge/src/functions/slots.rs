//! How many requests to functions each tenant has at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use obsidian_types::TenantId;

/// Requests by tenant; holds an entry only while there is one.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    counts: Arc<Mutex<HashMap<TenantId, u32>>>,
    most: u32,
}

/// One request of a tenant.
#[derive(Debug)]
pub(crate) struct Slot {
    counts: Arc<Mutex<HashMap<TenantId, u32>>>,
    tenant: TenantId,
}

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// Counts one more, unless the tenant has as many as it may.
    pub(super) fn enter(&self, tenant: &TenantId) -> Option<Slot> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(tenant.clone()).or_default();
        // An entry made just now is at 0, and `most` is at least 1.
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Slot { counts: self.counts.clone(), tenant: tenant.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use obsidian_types::TenantId;

    use super::Slots;

    #[test]
    fn a_tenant_has_its_share_and_leaves_nothing_behind() {
        let slots = Slots::new(2);
        let (a, b) = (TenantId::new("a"), TenantId::new("b"));
        let held = [slots.enter(&a).unwrap(), slots.enter(&a).unwrap()];
        assert!(slots.enter(&a).is_none() && slots.enter(&b).is_some());
        drop(held);
        assert!(slots.counts.lock().unwrap().is_empty());
        assert!(slots.enter(&a).is_some());
    }
}
