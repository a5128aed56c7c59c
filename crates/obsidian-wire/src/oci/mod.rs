//! A client of OCI registries: pushes a signed module and fetches one.
//!
//! Nothing that a registry says is believed further than it must be: every answer is bounded, every blob has the
//! digest that named it, redirects are followed by hand, and credentials go to the registry (and to the token service
//! that it names, over TLS) only. What is fetched is worth nothing until its envelope verifies. Start at
//! [`OciRegistry::push`] and [`OciRegistry::pull`]; the documents are made and checked in `obsidian_registry::oci`.
//!
//! Protocol: OCI distribution 1.1. A registry without the referrers API keeps envelopes in an index under the tag
//! `sha256-DIGEST`, as the specification says.

mod authorization;
mod error;
mod reference;
mod request;

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use obsidian_registry::oci::{Descriptor, EMPTY, EnvelopeManifest, INDEX_TYPE, Index, MANIFEST_TYPE, ModuleManifest};
use obsidian_registry::{Digest, Facts};
use obsidian_types::limits::{MAX_OCI_MANIFEST_BYTES, MAX_SIGNATURES};

pub use self::authorization::Credentials;
pub use self::error::OciError;
pub use self::reference::{OciReference, OciReferenceError};
use self::request::Requester;

/// How a registry is reached.
#[derive(Debug)]
pub struct OciOptions {
    /// Who asks; nobody in particular if not set.
    pub credentials: Option<Credentials>,
    /// PEM file with the authorities to believe instead of the system's.
    pub authority_file: Option<PathBuf>,
    /// Speak HTTP without encryption, to other machines too. This machine may always be spoken to so.
    pub plain_http: bool,
    /// Longest silence of a connection.
    pub idle: Duration,
}

impl Default for OciOptions {
    fn default() -> Self {
        Self { credentials: None, authority_file: None, plain_http: false, idle: Duration::from_secs(30) }
    }
}

/// A module that was fetched, and the envelopes that refer to it, the newest first. None of it is believed yet.
#[derive(Debug)]
pub struct Pulled {
    /// Digest of the artifact's manifest: what the tag stood for.
    pub manifest: Digest,
    /// The module; its digest is the one that the manifest names.
    pub module: Vec<u8>,
    /// Texts of envelopes.
    pub envelopes: Vec<Vec<u8>>,
}

/// One registry.
#[derive(Debug)]
pub struct OciRegistry {
    requester: Requester,
}

impl OciRegistry {
    /// A client of the registry that `reference` names; connects to nothing yet.
    ///
    /// # Errors
    /// [`OciError`] for unusable authorities, or a host that cannot be one.
    pub fn new(reference: &OciReference, options: OciOptions) -> Result<Self, OciError> {
        Ok(Self { requester: Requester::new(reference, options)? })
    }

    /// Pushes a module under the reference's tag, with its envelope if there is one; returns the manifest's digest.
    ///
    /// # Errors
    /// [`OciError`]; what was pushed before the failure stays, without a tag.
    pub async fn push(
        &self,
        reference: &OciReference,
        module: Vec<u8>,
        envelope: Option<&[u8]>,
    ) -> Result<Digest, OciError> {
        if reference.digest.is_some() {
            return Err(OciError::PushByDigest);
        }
        let facts = Facts::of(&module).map_err(|error| OciError::Module(error.to_string()))?;
        let (manifest, config) = ModuleManifest::write(&module, &facts)?;
        let subject = Descriptor::of(MANIFEST_TYPE, &manifest);
        self.requester.push_blob(reference, module).await?;
        self.requester.push_blob(reference, config).await?;
        // The envelope first: whoever sees the tag finds the module signed.
        let name = format!("sha256:{}", subject.digest);
        self.requester.push_manifest(reference, &name, MANIFEST_TYPE, manifest.clone()).await?;
        if let Some(envelope) = envelope {
            self.attach(reference, &subject, envelope).await?;
        }
        self.requester.push_manifest(reference, reference.name(), MANIFEST_TYPE, manifest).await?;
        Ok(subject.digest)
    }

    /// Pushes an envelope that refers to the module whose manifest is `subject`.
    async fn attach(&self, reference: &OciReference, subject: &Descriptor, envelope: &[u8]) -> Result<(), OciError> {
        let manifest = EnvelopeManifest::write(envelope, subject)?;
        self.requester.push_blob(reference, envelope.to_vec()).await?;
        self.requester.push_blob(reference, EMPTY.to_vec()).await?;
        let digest = Digest::of(&manifest);
        let name = format!("sha256:{digest}");
        let handled = self.requester.push_manifest(reference, &name, MANIFEST_TYPE, manifest.clone()).await?;
        if handled {
            return Ok(());
        }
        // The registry knows no referrers: their list is ours to keep.
        let tag = format!("sha256-{}", subject.digest);
        let mut index = self.index(reference, &tag).await?.unwrap_or_default();
        index.add_envelope(&manifest);
        self.requester.push_manifest(reference, &tag, INDEX_TYPE, index.to_json()?).await?;
        Ok(())
    }

    /// Fetches what the reference names: the module, and the envelopes that refer to it.
    ///
    /// # Errors
    /// [`OciError`]; nothing is kept.
    pub async fn pull(&self, reference: &OciReference) -> Result<Pulled, OciError> {
        let text = self.requester.manifest(reference, reference.name(), MANIFEST_TYPE).await?;
        let digest = Digest::of(&text);
        if let Some(expected) = reference.digest.filter(|expected| *expected != digest) {
            return Err(OciError::Digest { what: "manifest", expected, found: digest });
        }
        let manifest = ModuleManifest::parse(&text)?;
        let config = self.requester.blob(reference, &manifest.config, "configuration").await?;
        manifest.check_config(&config)?;
        let module = self.requester.blob(reference, &manifest.module, "module").await?;
        let envelopes = self.envelopes(reference, &Descriptor::of(MANIFEST_TYPE, &text)).await?;
        Ok(Pulled { manifest: digest, module, envelopes })
    }

    async fn envelopes(&self, reference: &OciReference, subject: &Descriptor) -> Result<Vec<Vec<u8>>, OciError> {
        let referrers = self.requester.referrers(reference, subject.digest).await?;
        let index = match referrers {
            Some(text) => Index::parse(&text)?,
            None => self.index(reference, &format!("sha256-{}", subject.digest)).await?.unwrap_or_default(),
        };
        let mut envelopes = Vec::new();
        for entry in index.envelopes().take(MAX_SIGNATURES) {
            let name = format!("sha256:{}", entry.digest);
            let text = self.requester.manifest(reference, &name, MANIFEST_TYPE).await?;
            let found = Digest::of(&text);
            if found != entry.digest {
                return Err(OciError::Digest { what: "envelope's manifest", expected: entry.digest, found });
            }
            let manifest = EnvelopeManifest::parse(&text)?;
            // An index can list what is about another module.
            if manifest.subject.digest == subject.digest {
                envelopes.push(self.requester.blob(reference, &manifest.envelope, "envelope").await?);
            }
        }
        Ok(envelopes)
    }

    async fn index(&self, reference: &OciReference, tag: &str) -> Result<Option<Index>, OciError> {
        match self.requester.manifest(reference, tag, INDEX_TYPE).await {
            Ok(text) => Ok(Some(Index::parse(&text)?)),
            Err(OciError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Requester {
    /// A manifest's bytes.
    async fn manifest(&self, reference: &OciReference, name: &str, kind: &str) -> Result<Vec<u8>, OciError> {
        let url = self.url(reference, &["manifests", name])?;
        let what = format!("{} of {}", name, reference.repository);
        let answer = self.send(self.request(Method::GET, url).accepting(kind), &what).await?;
        answer.read(MAX_OCI_MANIFEST_BYTES, &what).await
    }

    /// The registry's list of what refers to a manifest; none if it keeps no such list.
    async fn referrers(&self, reference: &OciReference, subject: Digest) -> Result<Option<Vec<u8>>, OciError> {
        let url = self.url(reference, &["referrers", &format!("sha256:{subject}")])?;
        let what = format!("what refers to {}", reference.repository);
        match self.send(self.request(Method::GET, url).accepting(INDEX_TYPE), &what).await {
            Ok(answer) => Ok(Some(answer.read(MAX_OCI_MANIFEST_BYTES, &what).await?)),
            // 404 is how a registry says that it does not know the request.
            Err(OciError::NotFound { .. } | OciError::Status { status: 400 | 405 | 501, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn blob(
        &self,
        reference: &OciReference,
        descriptor: &Descriptor,
        what: &'static str,
    ) -> Result<Vec<u8>, OciError> {
        let name = format!("sha256:{}", descriptor.digest);
        let url = self.url(reference, &["blobs", &name])?;
        let answer = self.send(self.request(Method::GET, url), what).await?;
        let length =
            usize::try_from(descriptor.size).map_err(|_| OciError::Protocol("an impossible size".to_owned()))?;
        let bytes = answer.read(length, what).await?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(OciError::Digest { what, expected: descriptor.digest, found });
        }
        Ok(bytes)
    }

    async fn push_blob(&self, reference: &OciReference, bytes: Vec<u8>) -> Result<(), OciError> {
        let digest = format!("sha256:{}", Digest::of(&bytes));
        let url = self.url(reference, &["blobs", &digest])?;
        match self.send(self.request(Method::HEAD, url).pushing(), "a blob").await {
            Ok(_) => return Ok(()),
            Err(OciError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let url = self.url(reference, &["blobs", "uploads", ""])?;
        let begun = self.send(self.request(Method::POST, url).pushing(), "an upload").await?;
        let mut place = self.place(&begun)?;
        place.query_pairs_mut().append_pair("digest", &digest);
        let kind = "application/octet-stream";
        self.send(self.request(Method::PUT, place).pushing().with_body(kind, bytes), "an upload").await?;
        Ok(())
    }

    /// Says whether the registry itself lists the manifest under its subject.
    async fn push_manifest(
        &self,
        reference: &OciReference,
        name: &str,
        kind: &'static str,
        bytes: Vec<u8>,
    ) -> Result<bool, OciError> {
        let url = self.url(reference, &["manifests", name])?;
        let request = self.request(Method::PUT, url).pushing().with_body(kind, bytes);
        let answer = self.send(request, &reference.repository).await?;
        if answer.status() != StatusCode::CREATED {
            return Err(OciError::Protocol(format!("it answered {} to a manifest", answer.status())));
        }
        Ok(answer.has_header("oci-subject"))
    }
}
