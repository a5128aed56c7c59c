//! What this node grants: a function gets what its signed statement asks for and the node's policy allows, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use obsidian_registry::Capabilities;
use obsidian_types::limits::MAX_ENVIRONMENT_FILE_BYTES;
use obsidian_types::{FunctionGrants, FunctionLimits, OutboundGrant, TenantId};
use thiserror::Error;

/// What a node grants to whom.
#[derive(Clone, Debug, Default)]
pub struct NodePolicy {
    /// The highest limits that a function may have.
    pub ceilings: FunctionLimits,
    /// Grants; what several say adds up.
    pub grants: Vec<Grant>,
}

/// Some grants to some functions.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// Only this tenant's functions; all tenants' if absent.
    pub tenant: Option<TenantId>,
    /// Only modules that were signed under this name; all if absent.
    pub module: Option<String>,
    /// Hosts with public addresses.
    pub outbound: Granted<OutboundGrant>,
    /// Hosts that may have private, loopback or link-local addresses.
    pub private: Vec<OutboundGrant>,
    /// Key-value stores.
    pub stores: Granted<String>,
    /// Models.
    pub models: Granted<String>,
    /// Environment and configuration values.
    pub environment: BTreeMap<String, EnvironmentValue>,
}

/// Names that are granted.
#[derive(Clone, Debug)]
pub enum Granted<T> {
    /// Whatever is asked for.
    All,
    /// These.
    Some(Vec<T>),
}

impl<T> Default for Granted<T> {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl<T> Granted<T> {
    fn has(&self, wanted: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Some(list) => list.iter().any(wanted),
        }
    }
}

/// Where an environment value comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvironmentValue {
    /// The value itself.
    Text(String),
    /// A file that holds it, for secrets; a line end at its end does not count. Read at each deployment.
    File(PathBuf),
}

impl fmt::Debug for EnvironmentValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "Text({} bytes)", text.len()),
            Self::File(path) => write!(formatter, "File({})", path.display()),
        }
    }
}

/// Something that a function asked for and did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// `outbound`, `store`, `model`, `environment` or `limit`.
    pub kind: &'static str,
    /// What of that kind.
    pub name: String,
}

impl fmt::Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.name)
    }
}

/// Why grants cannot be made up.
#[derive(Debug, Error)]
pub enum GrantError {
    /// A file with an environment value cannot be read.
    #[error("the value of {key} cannot be read from {}: {reason}", path.display())]
    Environment {
        /// Which value.
        key: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl NodePolicy {
    /// What a node grants for trying things out: every store and model, and every public host that a module asks for.
    pub fn development() -> Self {
        let all = Grant { outbound: Granted::All, stores: Granted::All, models: Granted::All, ..Grant::default() };
        Self { ceilings: generous(), grants: vec![all] }
    }

    /// What `module` of `tenant` gets of what it asks for, and what it does not get.
    ///
    /// # Errors
    /// [`GrantError`] when a value cannot be had.
    pub fn decide(
        &self,
        tenant: &TenantId,
        module: &str,
        asked: &Capabilities,
        limits: &FunctionLimits,
    ) -> Result<(FunctionGrants, Vec<Denied>), GrantError> {
        let applies = |grant: &&Grant| {
            grant.tenant.as_ref().is_none_or(|named| named == tenant)
                && grant.module.as_ref().is_none_or(|named| named == module)
        };
        let grants: Vec<&Grant> = self.grants.iter().filter(applies).collect();
        let mut denied = Vec::new();
        let mut deny = |kind, name: &str| denied.push(Denied { kind, name: name.to_owned() });
        let mut outbound = Vec::new();
        for asked in &asked.outbound {
            let mut wanted = asked.clone();
            wanted.private = grants.iter().any(|grant| grant.private.iter().any(|given| contains(given, &wanted)));
            if wanted.private || grants.iter().any(|grant| grant.outbound.has(|given| contains(given, &wanted))) {
                outbound.push(wanted);
            } else {
                deny("outbound", &asked.to_string());
            }
        }
        let mut names = |kind, asked: &BTreeSet<String>, list: fn(&Grant) -> &Granted<String>| -> BTreeSet<String> {
            let granted = |name: &&String| grants.iter().any(|grant| list(grant).has(|given| given == *name));
            let (granted, missing): (Vec<_>, Vec<_>) = asked.iter().partition(granted);
            missing.into_iter().for_each(|name| deny(kind, name));
            granted.into_iter().cloned().collect()
        };
        let stores = names("store", &asked.stores, |grant| &grant.stores);
        let models = names("model", &asked.models, |grant| &grant.models);
        let mut environment = BTreeMap::new();
        for key in &asked.environment {
            match grants.iter().rev().find_map(|grant| grant.environment.get(key)) {
                Some(value) => drop(environment.insert(key.clone(), read(key, value)?)),
                None => deny("environment", key),
            }
        }
        let (limits, lowered) = lowered(limits, &self.ceilings);
        denied.extend(lowered);
        Ok((FunctionGrants { outbound, stores, models, environment, limits }, denied))
    }
}

/// Whether everything that `wanted` covers is covered by `given`.
fn contains(given: &OutboundGrant, wanted: &OutboundGrant) -> bool {
    match wanted.port {
        Some(port) => given.covers(&wanted.host, port),
        None => given.host == wanted.host && given.port.is_none(),
    }
}

fn read(key: &str, value: &EnvironmentValue) -> Result<String, GrantError> {
    let path = match value {
        EnvironmentValue::Text(text) => return Ok(text.clone()),
        EnvironmentValue::File(path) => path,
    };
    let wrong = |reason: String| GrantError::Environment { key: key.to_owned(), path: path.clone(), reason };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_ENVIRONMENT_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > MAX_ENVIRONMENT_FILE_BYTES {
        return Err(wrong(format!("it has more than {MAX_ENVIRONMENT_FILE_BYTES} bytes")));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Limits that let ordinary modules have what they ask for.
pub fn generous() -> FunctionLimits {
    FunctionLimits {
        memory_bytes: 256 << 20,
        memory_growth: true,
        table_elements: 100_000,
        concurrency: 1_024,
        queue: 4_096,
        wall_ms: 300_000,
        cpu_ms: 30_000,
        fuel: None,
        request_body_bytes: 1 << 30,
        response_body_bytes: 1 << 30,
        outbound_connections: 64,
        reuse: 10_000,
    }
}

/// The lower of what is asked for and what the node allows, and which limits were lowered.
fn lowered(asked: &FunctionLimits, ceilings: &FunctionLimits) -> (FunctionLimits, Vec<Denied>) {
    let mut limits = asked.clone();
    let mut denied = Vec::new();
    let mut lower = |name: &str, limit: &mut u64, ceiling: u64| {
        if *limit > ceiling {
            denied.push(Denied { kind: "limit", name: format!("{name} = {limit}: this node allows {ceiling}") });
            *limit = ceiling;
        }
    };
    lower("memory_bytes", &mut limits.memory_bytes, ceilings.memory_bytes);
    lower("wall_ms", &mut limits.wall_ms, ceilings.wall_ms);
    lower("cpu_ms", &mut limits.cpu_ms, ceilings.cpu_ms);
    lower("request_body_bytes", &mut limits.request_body_bytes, ceilings.request_body_bytes);
    lower("response_body_bytes", &mut limits.response_body_bytes, ceilings.response_body_bytes);
    let mut narrow = |name: &str, limit: &mut u32, ceiling: u32| {
        let mut wide = u64::from(*limit);
        lower(name, &mut wide, u64::from(ceiling));
        *limit = u32::try_from(wide).unwrap_or(u32::MAX);
    };
    narrow("table_elements", &mut limits.table_elements, ceilings.table_elements);
    narrow("concurrency", &mut limits.concurrency, ceilings.concurrency);
    narrow("queue", &mut limits.queue, ceilings.queue);
    narrow("outbound_connections", &mut limits.outbound_connections, ceilings.outbound_connections);
    narrow("reuse", &mut limits.reuse, ceilings.reuse);
    if let Some(ceiling) = ceilings.fuel {
        // Without a wish of its own it gets the node's: instructions are counted here.
        let mut fuel = limits.fuel.unwrap_or(ceiling);
        lower("fuel", &mut fuel, ceiling);
        limits.fuel = Some(fuel);
    }
    if limits.memory_growth && !ceilings.memory_growth {
        limits.memory_growth = false;
    }
    (limits, denied)
}

#[cfg(test)]
mod tests {
    use obsidian_registry::Capabilities;
    use obsidian_types::{FunctionLimits, TenantId};

    use super::{EnvironmentValue, Grant, Granted, NodePolicy, generous};

    fn asked() -> Capabilities {
        let hosts = ["api.example.net", "api.example.net:8443", "10.0.0.5:8080"];
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Capabilities {
            outbound: hosts.map(|host| host.parse().unwrap()).into_iter().collect(),
            stores: set(&["cart", "users"]),
            models: set(&[]),
            environment: set(&["REGION", "TOKEN"]),
        }
    }

    #[test]
    fn granted_is_what_was_asked_for_and_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("token");
        std::fs::write(&secret, "s3cret\n").unwrap();
        let shop = Grant {
            module: Some("shop".to_owned()),
            outbound: Granted::Some(vec!["api.example.net".parse().unwrap(), "other.example.net".parse().unwrap()]),
            private: vec!["10.0.0.5:8080".parse().unwrap()],
            stores: Granted::Some(vec!["cart".to_owned()]),
            environment: [
                ("REGION".to_owned(), EnvironmentValue::Text("eu".to_owned())),
                ("TOKEN".to_owned(), EnvironmentValue::File(secret.clone())),
            ]
            .into(),
            ..Grant::default()
        };
        let policy = NodePolicy { ceilings: generous(), grants: vec![shop] };
        let tenant = TenantId::new("a");
        let limits = FunctionLimits { memory_bytes: 1 << 40, reuse: 5, ..FunctionLimits::default() };
        let (grants, denied) = policy.decide(&tenant, "shop", &asked(), &limits).unwrap();
        let outbound: Vec<_> = grants.outbound.iter().map(|grant| (grant.to_string(), grant.private)).collect();
        assert_eq!(outbound, [("10.0.0.5:8080".to_owned(), true), ("api.example.net".to_owned(), false)]);
        assert_eq!(grants.stores.into_iter().collect::<Vec<_>>(), ["cart"]);
        assert_eq!(grants.environment["TOKEN"], "s3cret");
        assert_eq!((grants.limits.memory_bytes, grants.limits.reuse), (256 << 20, 5));
        let denied: Vec<String> = denied.iter().map(ToString::to_string).collect();
        assert_eq!(
            denied,
            [
                "outbound api.example.net:8443",
                "store users",
                "limit memory_bytes = 1099511627776: this node allows 268435456"
            ]
        );
        // Another module gets nothing.
        let (grants, denied) = policy.decide(&tenant, "blog", &asked(), &FunctionLimits::default()).unwrap();
        assert!(grants.outbound.is_empty() && grants.stores.is_empty() && grants.environment.is_empty());
        assert_eq!(denied.len(), 7);
        std::fs::remove_file(secret).unwrap();
        let error = policy.decide(&tenant, "shop", &asked(), &limits).unwrap_err().to_string();
        assert!(error.starts_with("the value of TOKEN cannot be read"), "{error}");
    }

    #[test]
    fn development_grants_public_hosts_and_stores_only() {
        let (grants, denied) =
            NodePolicy::development().decide(&TenantId::new("a"), "x", &asked(), &FunctionLimits::default()).unwrap();
        assert!(grants.outbound.iter().all(|grant| !grant.private) && grants.outbound.len() == 3);
        assert_eq!(denied.len(), 2);
    }

    #[test]
    fn values_are_never_printed() {
        assert_eq!(format!("{:?}", EnvironmentValue::Text("s3cret".to_owned())), "Text(6 bytes)");
    }
}
