//! One component made of several: the parts' exports satisfy the imports of a root.
//!
//! A composition is not a third way around verification but a derivation: it can only be made of parts that are
//! verified already, and its bytes are a function of theirs (`docs/adr/0005-composition.md`).

use obsidian_types::limits::{MAX_COMPOSED_PARTS, MAX_MODULE_BYTES};
use wac_graph::types::{Package, SubtypeChecker, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use crate::artifact::{Artifact, Verified};
use crate::digest::Digest;
use crate::manifest::{ManifestError, check_name};

/// Why parts do not make a component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// The composition's name is none.
    #[error(transparent)]
    Name(#[from] ManifestError),
    /// None, or a crowd.
    #[error("a composition has a root and 1 to {MAX_COMPOSED_PARTS} parts, this has {0}")]
    Parts(usize),
    /// A part that is no component.
    #[error("{part} cannot be composed: {reason}")]
    Part {
        /// Its name.
        part: String,
        /// Why.
        reason: String,
    },
    /// A part that the root has no use for.
    #[error("{part} exports nothing that {root} imports: it exports {exports}")]
    Unused {
        /// The part.
        part: String,
        /// The root.
        root: String,
        /// What it exports, for people.
        exports: String,
    },
    /// A part offers an interface under the right name and of the wrong shape.
    #[error("{part} exports `{interface}` in another shape than {root} imports it: {reason}")]
    Shape {
        /// The part.
        part: String,
        /// The root.
        root: String,
        /// The interface.
        interface: String,
        /// Where they differ.
        reason: String,
    },
    /// Two parts for one import.
    #[error("both {first} and {second} export `{interface}`: leave one of them out")]
    Twice {
        /// The part that satisfies it.
        first: String,
        /// The one too many.
        second: String,
        /// The interface.
        interface: String,
    },
    /// The whole cannot be written, or is too large.
    #[error("the composition cannot be written: {0}")]
    Encode(String),
}

impl Verified<Artifact> {
    /// Composes verified components into one: each of `plugs` satisfies imports of `root` with its exports. What is
    /// left over (of the root and of the parts) the composition imports itself. It has the root's exports and version.
    ///
    /// The same parts in any order give the same bytes.
    ///
    /// # Errors
    /// [`ComposeError`], with what does not fit.
    pub fn composed(name: &str, root: &Self, plugs: &[&Self]) -> Result<Self, ComposeError> {
        check_name(name)?;
        if !(1..=MAX_COMPOSED_PARTS).contains(&plugs.len()) {
            return Err(ComposeError::Parts(plugs.len()));
        }
        let mut plugs = plugs.to_vec();
        plugs.sort_by_key(|plug| plug.digest());
        let mut composer = Composer::new(root)?;
        for (number, plug) in plugs.iter().enumerate() {
            composer.plug(number, plug)?;
        }
        let bytes = composer.finish()?;
        let digest = Digest::of(&bytes);
        let value = Artifact { name: name.to_owned(), version: root.version.clone(), bytes: bytes.into() };
        Ok(Self::vouched(value, digest))
    }
}

/// A composition under construction.
struct Composer<'parts> {
    graph: CompositionGraph,
    root: &'parts Artifact,
    socket: PackageId,
    instance: NodeId,
    /// Imports of the root that are satisfied, and by whom.
    satisfied: Vec<(String, &'parts str)>,
}

impl<'parts> Composer<'parts> {
    fn new(root: &'parts Artifact) -> Result<Self, ComposeError> {
        let mut graph = CompositionGraph::new();
        let socket = register(&mut graph, "obsidian:root", root)?;
        let instance = graph.instantiate(socket);
        Ok(Self { graph, root, socket, instance, satisfied: Vec::new() })
    }

    fn plug(&mut self, number: usize, part: &'parts Artifact) -> Result<(), ComposeError> {
        let package = register(&mut self.graph, &format!("obsidian:part{number}"), part)?;
        let matches = self.matches(package, part)?;
        if matches.is_empty() {
            let exports: Vec<&str> = self.exports(package).collect();
            let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            return Err(ComposeError::Unused { part: part.name.clone(), root: self.root.name.clone(), exports });
        }
        let instance = self.graph.instantiate(package);
        for (export, import) in matches {
            if let Some((_, first)) = self.satisfied.iter().find(|(satisfied, _)| *satisfied == import) {
                let (first, second) = ((*first).to_owned(), part.name.clone());
                return Err(ComposeError::Twice { first, second, interface: import });
            }
            let alias = self.graph.alias_instance_export(instance, &export).map_err(unwritable)?;
            self.graph.set_instantiation_argument(self.instance, &import, alias).map_err(unwritable)?;
            self.satisfied.push((import, &part.name));
        }
        Ok(())
    }

    /// Pairs of an export of the part and the root's import that it satisfies.
    fn matches(&self, package: PackageId, part: &Artifact) -> Result<Vec<(String, String)>, ComposeError> {
        let types = self.graph.types();
        let imports = &types[self.graph[self.socket].ty()].imports;
        let mut cache = Default::default();
        let mut checker = SubtypeChecker::new(&mut cache);
        let mut matches = Vec::new();
        for (export, kind) in &types[self.graph[package].ty()].exports {
            let exact = imports.get_key_value(export);
            let near = || imports.iter().find(|(import, _)| are_semver_compatible(export, import));
            let Some((import, wanted)) = exact.or_else(near) else { continue };
            checker.is_subtype(*kind, types, *wanted, types).map_err(|error| ComposeError::Shape {
                part: part.name.clone(),
                root: self.root.name.clone(),
                interface: export.clone(),
                reason: format!("{error:#}"),
            })?;
            matches.push((export.clone(), import.clone()));
        }
        Ok(matches)
    }

    fn exports(&self, package: PackageId) -> impl Iterator<Item = &str> {
        self.graph.types()[self.graph[package].ty()].exports.keys().map(String::as_str)
    }

    fn finish(mut self) -> Result<Vec<u8>, ComposeError> {
        let exports: Vec<String> = self.exports(self.socket).map(str::to_owned).collect();
        for name in exports {
            let alias = self.graph.alias_instance_export(self.instance, &name).map_err(unwritable)?;
            self.graph.export(alias, &name).map_err(unwritable)?;
        }
        // No processor is named: a version in the bytes would change the digest without a change of meaning.
        let options = EncodeOptions { define_components: true, validate: true, processor: None };
        let bytes = self.graph.encode(options).map_err(unwritable)?;
        if bytes.len() as u64 > MAX_MODULE_BYTES {
            return Err(ComposeError::Encode(format!("it has {} bytes, more than {MAX_MODULE_BYTES}", bytes.len())));
        }
        Ok(bytes)
    }
}

fn register(graph: &mut CompositionGraph, name: &str, part: &Artifact) -> Result<PackageId, ComposeError> {
    let failed = |reason: String| ComposeError::Part { part: part.name.clone(), reason };
    let package = Package::from_bytes(name, None, part.bytes.to_vec(), graph.types_mut())
        .map_err(|error| failed(format!("{error:#}")))?;
    graph.register_package(package).map_err(|error| failed(error.to_string()))
}

fn unwritable(error: impl std::error::Error) -> ComposeError {
    use std::fmt::Write as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing into a string does not fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    ComposeError::Encode(text)
}
