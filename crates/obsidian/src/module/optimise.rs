//! Binaryen's `wasm-opt` on the core modules of a component.
//!
//! `wasm-opt` knows no components. But a component meets each of its core modules through that module's imports and
//! exports only, and `wasm-opt` keeps what a module does as seen through them. So each core module is taken out,
//! optimised, and put back where it was; the whole is then validated again, which checks every type at every seam.
//! Modules that did not get smaller stay as they were.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use obsidian_registry::{Facts, Form};

/// Ids of sections of a component: a core module, a component.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
/// Length of magic number and version.
const HEADER: usize = 8;
/// Modules smaller than this are shims between the parts; there is nothing in them to optimise.
const WORTHWHILE_BYTES: usize = 1 << 10;

/// How `wasm-opt` is called.
#[derive(Clone, Debug)]
pub(super) struct Optimiser {
    /// `-O2`, `-Os` and so on.
    pub(super) level: String,
    /// Keep function names, so that a profile can tell them.
    pub(super) names: bool,
}

/// Whether `wasm-opt` can be called, and its version.
pub(super) fn available() -> Option<String> {
    let output = Command::new("wasm-opt").arg("--version").output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Optimiser {
    /// The component or core module with optimised core modules.
    pub(super) fn run(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().context("cannot make a folder for wasm-opt")?;
        let optimised = match Facts::of(bytes)?.form {
            Form::Module => self.module(bytes, folder.path())?,
            Form::Component => self.component(bytes, folder.path())?,
        };
        Facts::of(&optimised).context("what wasm-opt made does not fit together; build with --no-wasm-opt")?;
        Ok(optimised)
    }

    fn component(&self, bytes: &[u8], folder: &Path) -> Result<Vec<u8>> {
        rewrite(bytes, &mut |module| self.module(module, folder))
    }

    fn module(&self, bytes: &[u8], folder: &Path) -> Result<Vec<u8>> {
        if bytes.len() < WORTHWHILE_BYTES {
            return Ok(bytes.to_vec());
        }
        let (before, after) = (folder.join("before.wasm"), folder.join("after.wasm"));
        std::fs::write(&before, bytes)?;
        let mut command = Command::new("wasm-opt");
        // Compilers list in `target_features` what they used, but older versions of wasm-opt do not know every name
        // in it; a feature that is allowed and not used changes nothing.
        command.arg(&self.level).arg("--all-features").arg("--output").arg(&after).arg(&before);
        if self.names {
            command.arg("--debuginfo");
        }
        let output = command.output().context("cannot run wasm-opt")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("wasm-opt failed: {}", said.lines().next().unwrap_or("it said nothing"));
        }
        let optimised = std::fs::read(&after)?;
        Ok(if optimised.len() < bytes.len() { optimised } else { bytes.to_vec() })
    }
}

/// The component with every core module in it, also of components inside, replaced by what `change` makes of it.
fn rewrite(component: &[u8], change: &mut dyn FnMut(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let cut = || anyhow::anyhow!("the component breaks off");
    let (header, mut rest) = component.split_at_checked(HEADER).ok_or_else(cut)?;
    let mut written = header.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = leb128(after).ok_or_else(cut)?;
        let (section, after) = after.split_at_checked(length).ok_or_else(cut)?;
        written.push(id);
        match id {
            CORE_MODULE => append(&mut written, &change(section)?),
            COMPONENT => append(&mut written, &rewrite(section, change)?),
            _ => append(&mut written, section),
        }
        rest = after;
    }
    Ok(written)
}

fn append(written: &mut Vec<u8>, section: &[u8]) {
    let mut length = section.len();
    while length >= 0x80 {
        written.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    written.push(length as u8);
    written.extend_from_slice(section);
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0_usize;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        number |= usize::from(byte & 0x7f) << (place * 7);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use obsidian_registry::Facts;

    use super::rewrite;

    #[test]
    fn what_is_put_back_unchanged_is_the_same() {
        let nested = r#"(component
            (core module (func (export "f")) (memory 1))
            (component (core module (func (export "g") (result i32) i32.const 7))))"#;
        let component = wat::parse_str(nested).unwrap();
        let mut sizes = Vec::new();
        let same = rewrite(&component, &mut |module| {
            sizes.push(module.len() as u64);
            Ok(module.to_vec())
        });
        assert_eq!(same.unwrap(), component);
        assert_eq!(sizes, Facts::of(&component).unwrap().core_modules);
    }

    #[test]
    fn a_replaced_module_of_any_length_fits_in() {
        let component = wat::parse_str("(component (core module))").unwrap();
        let mut replaced = wat::parse_str("(module)").unwrap();
        // A custom section of 200 bytes: its length needs two bytes.
        replaced.extend([0, 0xc8, 1, 1, b'x']);
        replaced.extend([0; 198]);
        let larger = rewrite(&component, &mut |_| Ok(replaced.clone())).unwrap();
        assert_eq!(Facts::of(&larger).unwrap().core_modules, [replaced.len() as u64]);
    }

    #[test]
    fn a_component_that_breaks_off_is_an_error() {
        let component = wat::parse_str("(component (core module))").unwrap();
        assert!(rewrite(&component[..component.len() - 1], &mut |module| Ok(module.to_vec())).is_err());
    }
}
