//! A node's directory with a key that its trust policy believes, and components to sign.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use obsidian_edge::EdgeHandle;
use obsidian_edge::functions::{
    ChangeError, Changed, Deploy, FunctionSettings, Functions, Grant, NodePolicy, Signature, generous,
};
use obsidian_guests as guests;
use obsidian_registry::{Digest, Envelope, Manifest, SigningKey, Statement};
use obsidian_types::TenantId;
use obsidian_wire::outbound::Resolver;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::support::{Pop, engines};

pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) key: SigningKey,
    pub(crate) policy: NodePolicy,
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    pub(crate) hosts: BTreeMap<String, String>,
}

impl Site {
    /// Grants nothing.
    pub(crate) fn new() -> Self {
        let site = Self {
            folder: TempDir::new().unwrap(),
            key: SigningKey::generate().unwrap(),
            policy: NodePolicy { ceilings: generous(), grants: Vec::new() },
            resolver: None,
            hosts: BTreeMap::new(),
        };
        site.trust("");
        site
    }

    pub(crate) fn granting(grant: Grant) -> Self {
        let mut site = Self::new();
        site.policy.grants.push(grant);
        site
    }

    /// Writes the trust policy, with more lines of it.
    pub(crate) fn trust(&self, more: &str) {
        std::fs::create_dir_all(self.folder.path().join("functions")).unwrap();
        let text = format!("threshold = 1\n[[key]]\nname = \"tests\"\npublic = \"{}\"\n{more}", self.key.public());
        std::fs::write(self.path("functions/trust.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, below: &str) -> std::path::PathBuf {
        Path::join(self.folder.path(), below)
    }

    pub(crate) fn settings(&self) -> FunctionSettings {
        let mut settings = FunctionSettings::new(self.folder.path());
        settings.policy = self.policy.clone();
        settings.resolver = self.resolver.clone();
        settings.hosts = self.hosts.clone();
        settings.threads = 2;
        settings.instances = 64;
        settings.running = 64;
        settings
    }

    /// Opens the functions; waits while an earlier holder of the directory is still letting go.
    pub(crate) async fn open(&self) -> Functions {
        for _ in 0..500 {
            let settings = self.settings();
            match tokio::task::spawn_blocking(move || Functions::open(settings, engines())).await.unwrap() {
                Ok(functions) => return functions,
                Err(error) if error.to_string().contains("another POP uses it") => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the directory stays locked");
    }

    /// A POP with these functions.
    pub(crate) async fn pop(&self) -> (EdgeHandle, Functions) {
        let functions = self.open().await;
        (Pop::new().functions(functions.clone()).start().await, functions)
    }

    /// Signs a component under a name and version, asking for what `capabilities` (TOML) says.
    pub(crate) fn sign(&self, component: &[u8], name: &str, version: &str, capabilities: &str) -> Signature {
        let text = format!("name = \"{name}\"\nversion = \"{version}\"\n[capabilities]\n{capabilities}\n");
        let manifest = Manifest::parse(&text).unwrap();
        let statement = Statement::about(component, &manifest, OffsetDateTime::now_utc());
        Signature { digest: Digest::of(component), envelope: Envelope::sign(&statement, &self.key).unwrap() }
    }

    /// Uploads, signs and deploys for the tenant `default`, open to all.
    pub(crate) async fn deploy(
        &self,
        functions: &Functions,
        component: &[u8],
        version: &str,
        capabilities: &str,
    ) -> Result<Changed, ChangeError> {
        let signature = self.sign(component, "shop", version, capabilities);
        functions.upload(signature.digest, component.to_vec()).await.unwrap();
        functions.deploy(wanted("default", signature)).await
    }
}

/// A public deployment of a signed component under its own name.
pub(crate) fn wanted(tenant: &str, root: Signature) -> Deploy {
    Deploy {
        tenant: TenantId::new(tenant),
        name: None,
        root: Some(root),
        parts: BTreeMap::new(),
        public: Some(true),
        hosts: Some(BTreeSet::new()),
        allow_older: false,
        quick: false,
    }
}

/// Uses every host interface, as its path says.
pub(crate) fn conformance() -> Vec<u8> {
    guests::functions_conformance().unwrap().bytes.to_vec()
}

/// Answers `hello` to everything.
pub(crate) fn hello() -> Vec<u8> {
    guests::functions_hello().unwrap().bytes.to_vec()
}

/// The tenant that a POP without keys serves.
pub(crate) fn default_tenant() -> TenantId {
    TenantId::new("default")
}
