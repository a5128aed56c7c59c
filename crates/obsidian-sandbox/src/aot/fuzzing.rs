//! Entries of the cache as somebody may have left them. Nothing here is loaded.

use std::path::PathBuf;

use obsidian_registry::Digest;

use super::{AotCache, Entry, KEY_BYTES};

/// What stands for compiled code.
const CODES: [&[u8]; 3] = [b"", b"\x7fELF", &[0x90; 300]];

/// An entry of the first component. Genuine is nothing but the codes that were stored for it; the seeds hold some of
/// another component and of another node too.
pub fn entry(data: &[u8]) {
    if let Some(code) = of(&cache(1), b"a").genuine(data.to_vec()) {
        let stored = entry_seeds().into_iter().take(CODES.len()).any(|seed| seed == data);
        assert!(stored && CODES.contains(&code.0.as_slice()), "code was taken that was not stored");
    }
}

/// Entries to mutate: of the component, of another one, and of another node.
pub fn entry_seeds() -> Vec<Vec<u8>> {
    let (own, other_node) = (cache(1), cache(2));
    let entries = [of(&own, b"a"), of(&own, b"b"), of(&other_node, b"a")];
    let stored = |entry: &Entry<'_>, code: &[u8]| Some([entry.tag(code)?.as_slice(), code].concat());
    entries.iter().flat_map(|entry| CODES.iter().filter_map(|code| stored(entry, code))).collect()
}

fn cache(key: u8) -> AotCache {
    AotCache { directory: PathBuf::new(), key: [key; KEY_BYTES] }
}

fn of<'cache>(cache: &'cache AotCache, component: &[u8]) -> Entry<'cache> {
    let (component, compatibility) = (Digest::of(component), Digest::of(b"this engine"));
    Entry { cache, path: PathBuf::new(), component, compatibility }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_was_stored_for_the_component_here_is_genuine() {
        let cache = cache(1);
        let genuine = |seed: Vec<u8>| of(&cache, b"a").genuine(seed).is_some();
        let taken: Vec<bool> = entry_seeds().into_iter().map(genuine).collect();
        assert_eq!(taken, [true, true, true, false, false, false, false, false, false]);
    }

    proptest! {
        #[test]
        fn a_changed_entry_is_not_genuine(
            seed in 0usize..9,
            at: prop::sample::Index,
            byte: u8,
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut data = entry_seeds().swap_remove(seed);
            let at = at.index(data.len());
            data[at] = byte;
            data.truncate(cut.map_or(data.len(), |cut| cut.index(data.len())));
            entry(&data);
        }
    }
}
