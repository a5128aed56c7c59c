//! Signed modules for the places of our own guests.

use obsidian_registry::{Artifact, Envelope, Ledger, Manifest, SigningKey, Statement, TrustPolicy, Verified};
use time::OffsetDateTime;

/// `component` as the node's trust policy lets it pass: signed under this name and version by the one trusted key.
pub(crate) fn signed(name: &str, version: &str, component: &[u8]) -> Verified<Artifact> {
    let (key, now) = (SigningKey::generate().unwrap(), OffsetDateTime::now_utc());
    let manifest = Manifest::parse(&format!("name = \"{name}\"\nversion = \"{version}\"\n")).unwrap();
    let envelope = Envelope::sign(&Statement::about(component, &manifest, now), &key).unwrap();
    let policy = format!("threshold = 1\n[[key]]\nname = \"release\"\npublic = \"{}\"\n", key.public());
    let policy = TrustPolicy::parse(&policy).unwrap();
    Verified::signed(component.to_vec(), &envelope, &policy, &Ledger::default(), now).unwrap().0
}

/// Another release of a guest: the same code in other bytes, so with a digest of its own.
pub(crate) fn release(guest: &Verified<Artifact>, version: &str) -> Verified<Artifact> {
    let mut component = guest.bytes.to_vec();
    // A custom section at the end: identifier, length, length of the name, name, content.
    let (name, content) = (b"release", version.as_bytes());
    component.extend([0, (1 + name.len() + content.len()) as u8, name.len() as u8]);
    component.extend(name.iter().chain(content));
    signed(&guest.name, version, &component)
}
