//! What a WebAssembly file is, read without running it: imports, exports, producers, and which world it fits.

use std::collections::{BTreeSet, HashSet};

use obsidian_types::limits::MAX_MODULE_BYTES;
use wasmparser::{Encoding, KnownCustom, Parser, Payload, Validator, WasmFeatures};

/// Why a file cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// Too long.
    #[error("the file has {0} bytes, more than {MAX_MODULE_BYTES}")]
    Size(u64),
    /// Not WebAssembly, or not valid.
    #[error("the file is no valid WebAssembly: {0}")]
    Invalid(String),
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A component.
    Component,
    /// A core module.
    Module,
}

/// What a host can do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Answers HTTP requests (`wasi:http`, 0.2 or 0.3).
    Http,
    /// A command (`wasi:cli` 0.2 or 0.3, or WASI preview 1).
    Command,
    /// One of our own guests.
    Guest,
    /// Something else: exports to be composed with, or called by a host that knows them.
    Library,
}

/// Everything that is told about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Component or core module.
    pub form: Form,
    /// What it fits.
    pub world: World,
    /// Names of its imports, in the file's order, each once.
    pub imports: Vec<String>,
    /// Names of its exports, in the file's order.
    pub exports: Vec<String>,
    /// Which tools made it: field, name and version.
    pub producers: BTreeSet<(String, String, String)>,
    /// Core modules in it, sizes in bytes.
    pub core_modules: Vec<u64>,
}

impl Facts {
    /// Reads and validates `bytes`.
    ///
    /// # Errors
    /// [`FactsError`], with what is wrong.
    pub fn of(bytes: &[u8]) -> Result<Self, FactsError> {
        if bytes.len() as u64 > MAX_MODULE_BYTES {
            return Err(FactsError::Size(bytes.len() as u64));
        }
        let invalid = |error: wasmparser::BinaryReaderError| FactsError::Invalid(error.to_string());
        Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).map_err(invalid)?;
        let mut facts = Self {
            form: Form::Module,
            world: World::Library,
            imports: Vec::new(),
            exports: Vec::new(),
            producers: BTreeSet::new(),
            core_modules: Vec::new(),
        };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            facts.take(payload.map_err(invalid)?, &mut depth).map_err(invalid)?;
        }
        let mut seen = HashSet::new();
        facts.imports.retain(|import| seen.insert(import.clone()));
        facts.world = facts.fits();
        Ok(facts)
    }

    fn take(&mut self, payload: Payload<'_>, depth: &mut usize) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } if *depth == 0 => self.form = Form::Component,
            Payload::Version { encoding: Encoding::Module, .. } if *depth == 0 => {
                self.form = Form::Module;
            }
            Payload::ModuleSection { unchecked_range, .. } => {
                self.core_modules.push(unchecked_range.end - unchecked_range.start);
                *depth += 1;
            }
            Payload::ComponentSection { .. } => *depth += 1,
            Payload::End(_) => *depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if *depth == 0 => {
                for import in section {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if *depth == 0 => {
                for export in section {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ImportSection(section) if *depth == 0 && self.form == Form::Module => {
                for import in section.into_imports() {
                    let import = import?;
                    self.imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) if *depth == 0 && self.form == Form::Module => {
                for export in section {
                    self.exports.push(export?.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    for field in fields {
                        let field = field?;
                        for value in field.values {
                            let value = value?;
                            let entry = (field.name.to_owned(), value.name.to_owned(), value.version.to_owned());
                            self.producers.insert(entry);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fits(&self) -> World {
        let exports = |names: &[&str]| {
            let named = |export: &String| names.contains(&export.split('@').next().unwrap_or_default());
            self.exports.iter().any(named)
        };
        if exports(&["wasi:http/incoming-handler", "wasi:http/handler"]) {
            World::Http
        } else if exports(&["wasi:cli/run"]) || self.form == Form::Module && exports(&["_start"]) {
            World::Command
        } else if self.exports.iter().any(|export| export.starts_with("obsidian:")) {
            World::Guest
        } else {
            World::Library
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, FactsError, Form, World};

    fn facts(text: &str) -> Facts {
        Facts::of(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_component_is_told_from_a_module_and_nested_names_are_not_its_own() {
        let component = facts(
            r#"(component
                (import "wasi:cli/environment@0.2.0" (instance))
                (core module $inner (import "env" "f" (func)) (func (export "_start")))
                (component (import "nested:thing/a@1.0.0" (instance)))
                (instance $i)
                (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#,
        );
        assert_eq!((component.form, component.world), (Form::Component, World::Http));
        assert_eq!(component.imports, ["wasi:cli/environment@0.2.0"]);
        assert_eq!(component.exports, ["wasi:http/incoming-handler@0.2.3"]);
        assert_eq!(component.core_modules.len(), 1);
    }

    #[test]
    fn a_core_module_is_a_command_if_it_starts() {
        let module = facts(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start"))
                (@producers (processed-by "a" "1")))"#,
        );
        assert_eq!((module.form, module.world), (Form::Module, World::Command));
        assert_eq!(module.imports, ["wasi_snapshot_preview1.proc_exit"]);
        assert!(module.producers.contains(&("processed-by".into(), "a".into(), "1".into())));
        assert_eq!(facts("(module (func (export \"f\")))").world, World::Library);
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x01\xff", b"PK\x03\x04aaaa"] {
            assert!(matches!(Facts::of(bytes), Err(FactsError::Invalid(_))));
        }
    }
}
