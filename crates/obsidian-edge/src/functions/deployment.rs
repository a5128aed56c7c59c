//! What is deployed now: an immutable table that requests read and every change replaces as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use obsidian_registry::Digest;
use obsidian_sandbox::functions::FunctionModule;
use obsidian_types::TenantId;

use super::disk::{Record, Release};
use super::metrics::Numbers;
use super::policy::Denied;
use super::shadow::Shadow;

/// Which deployment: a name belongs to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
}

/// A loaded version. Requests hold it only until their call has begun, so that who replaces it knows when nobody can
/// begin another.
pub(crate) struct Version {
    pub(crate) module: FunctionModule,
    pub(super) release: Release,
    pub(super) facts: Facts,
    /// What it asked for and was not granted.
    pub(super) denied: Vec<Denied>,
}

/// What the signers said about a version.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) module: String,
    pub(super) version: String,
    pub(super) digest: Digest,
    /// Name, module, version of each part.
    pub(super) parts: Vec<(String, String, String)>,
}

/// One deployment.
pub(crate) struct Deployed {
    pub(crate) key: Key,
    /// What the disk remembers of it.
    pub(super) record: Record,
    /// What answers; or why nothing does.
    pub(crate) current: Result<Arc<Version>, String>,
    /// Kept ready, so that going back takes no time.
    pub(super) previous: Option<Arc<Version>>,
    /// A candidate that gets copies of requests.
    pub(crate) shadow: Option<Arc<Shadow>>,
    pub(crate) numbers: Arc<Numbers>,
}

impl Deployed {
    /// Whether anybody may call it.
    pub(crate) fn is_public(&self) -> bool {
        self.record.public
    }
}

/// Everything that is deployed.
#[derive(Clone, Default)]
pub(super) struct Table {
    functions: HashMap<Key, Arc<Deployed>>,
    /// Public deployments by name alone.
    public: HashMap<String, Key>,
    hosts: HashMap<String, Key>,
}

impl Table {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Deployed>> {
        self.functions.get(key)
    }

    pub(super) fn public(&self, name: &str) -> Option<&Arc<Deployed>> {
        self.functions.get(self.public.get(name)?)
    }

    pub(super) fn host(&self, host: &str) -> Option<&Arc<Deployed>> {
        self.functions.get(self.hosts.get(host)?)
    }

    pub(super) fn len(&self) -> usize {
        self.functions.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Deployed>> {
        self.functions.values()
    }

    /// Who has what `record` wants for itself alone: a public name or a host.
    pub(super) fn conflict(&self, record: &Record) -> Option<String> {
        let key = Key { tenant: record.tenant.clone(), name: record.name.clone() };
        let other = |found: Option<&Key>| found.is_some_and(|found| *found != key);
        if record.public && other(self.public.get(&record.name)) {
            return Some(format!("another tenant has a public function called {}: choose another name", record.name));
        }
        let host = record.hosts.iter().find(|host| other(self.hosts.get(*host)))?;
        Some(format!("the host {host} leads to another function"))
    }

    pub(super) fn put(&mut self, deployed: Arc<Deployed>) {
        let key = deployed.key.clone();
        self.remove(&key);
        if deployed.record.public {
            self.public.insert(key.name.clone(), key.clone());
        }
        for host in &deployed.record.hosts {
            self.hosts.insert(host.clone(), key.clone());
        }
        self.functions.insert(key, deployed);
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Deployed>> {
        let removed = self.functions.remove(key)?;
        if removed.record.public {
            self.public.remove(&key.name);
        }
        for host in &removed.record.hosts {
            self.hosts.remove(host);
        }
        Some(removed)
    }
}

/// Whether `text` can be a host name that clients send: lower case, without port.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use obsidian_registry::Digest;
    use obsidian_types::TenantId;

    use super::super::disk::{Record, Release, Signed};
    use super::super::metrics::Numbers;
    use super::{Deployed, Key, Table, is_host};

    fn deployed(tenant: &str, public: bool, host: &str) -> Arc<Deployed> {
        let digest = Digest::of(b"x");
        let root = Signed { digest, envelope: digest };
        let record = Record {
            tenant: TenantId::new(tenant),
            name: "shop".to_owned(),
            public,
            hosts: [host.to_owned()].into(),
            current: Release { root, parts: BTreeMap::new(), deployed_unix: 0 },
            previous: None,
            shadow: None,
        };
        let key = Key { tenant: record.tenant.clone(), name: record.name.clone() };
        let numbers = Arc::new(Numbers::new(&key));
        let current = Err("never loaded".to_owned());
        Arc::new(Deployed { key, record, current, previous: None, shadow: None, numbers })
    }

    #[test]
    fn names_belong_to_tenants_but_public_names_and_hosts_to_one() {
        let mut table = Table::default();
        table.put(deployed("a", true, "a.example.net"));
        table.put(deployed("b", false, "b.example.net"));
        assert_eq!(table.len(), 2);
        assert_eq!(table.public("shop").unwrap().key.tenant.as_str(), "a");
        assert_eq!(table.host("b.example.net").unwrap().key.tenant.as_str(), "b");
        let conflict = |tenant: &str, public, host: &str| table.conflict(&deployed(tenant, public, host).record);
        assert!(conflict("b", true, "b.example.net").unwrap().contains("public function called shop"));
        assert!(conflict("b", false, "a.example.net").unwrap().contains("a.example.net"));
        assert_eq!(conflict("a", true, "a.example.net"), None);
        // What a change gives up is free again.
        table.put(deployed("a", false, "c.example.net"));
        assert!(table.public("shop").is_none() && table.host("a.example.net").is_none());
        table.remove(&Key { tenant: TenantId::new("a"), name: "shop".to_owned() }).unwrap();
        assert!(table.host("c.example.net").is_none() && table.len() == 1);
    }

    #[test]
    fn hosts_are_names() {
        assert!(is_host("shop.example.net") && is_host("localhost"));
        for wrong in ["", "a..b", "Shop.example.net", "a:80", "a/b", "*.example.net", "[::1]"] {
            assert!(!is_host(wrong), "{wrong}");
        }
    }
}
