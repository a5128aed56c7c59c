//! Models in several files: opened as one, merged into one, and refused when something is missing.

use std::path::PathBuf;

use obsidian_model::gguf::split;
use obsidian_model::synthetic::Synthetic;
use obsidian_model::{Lane, Model, ModelError, Wanted, Workspace};

use crate::rebuild::Rebuilt;

fn synthetic() -> Vec<u8> {
    Synthetic { layers: 3, tied: false, ..Synthetic::default() }.file()
}

/// The file's tensors dealt out to `count` files; the first has the metadata.
fn deal(file: &[u8], count: u16) -> Vec<Rebuilt> {
    let whole = Rebuilt::from(file);
    let mut parts = vec![Rebuilt::default(); usize::from(count)];
    parts[0].entries = whole.entries;
    let total = whole.tensors.len() as i32;
    for (at, tensor) in whole.tensors.into_iter().enumerate() {
        parts[at * usize::from(count) / total as usize].tensors.push(tensor);
    }
    for (index, part) in (0_u16..).zip(&mut parts) {
        part.set("split.no", 2, &index.to_le_bytes());
        part.set("split.count", 2, &count.to_le_bytes());
        part.set("split.tensors.count", 5, &total.to_le_bytes());
    }
    parts
}

fn write(folder: &tempfile::TempDir, parts: &[Rebuilt]) -> Vec<PathBuf> {
    let name = |index: usize| format!("model-{:05}-of-{:05}.gguf", index + 1, parts.len());
    let paths: Vec<PathBuf> = (0..parts.len()).map(|index| folder.path().join(name(index))).collect();
    paths.iter().zip(parts).for_each(|(path, part)| std::fs::write(path, part.write()).unwrap());
    paths
}

fn logits(model: &Model) -> Vec<u32> {
    let mut cache = model.new_cache();
    let mut workspace = Workspace::new();
    let mut lanes = [Lane { cache: &mut cache, ids: &[1, 2, 3, 200], wanted: Wanted::Last }];
    let logits = model.forward(&mut lanes, &mut workspace).unwrap();
    logits.lane(0).last().iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn several_files_are_one_model() {
    let file = synthetic();
    let whole = Model::from_bytes(file.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths = write(&folder, &deal(&file, 3));
    for path in &paths {
        let model = Model::open(path).unwrap();
        assert_eq!(model.info(), whole.info());
        assert_eq!(model.files().count(), 3);
        assert_eq!(logits(&model), logits(&whole));
    }
    let parts: Vec<&'static [u8]> = paths.iter().map(|path| &*std::fs::read(path).unwrap().leak()).collect();
    assert_eq!(logits(&Model::from_static_parts(&parts).unwrap()), logits(&whole));
}

#[test]
fn several_files_are_merged_into_one() {
    let file = synthetic();
    let folder = tempfile::tempdir().unwrap();
    let paths = write(&folder, &deal(&file, 4));
    let mut merged = Vec::new();
    split::merge(&paths, &mut merged).unwrap();
    let (merged_parts, parts) = (Rebuilt::from(&merged), Rebuilt::from(&file));
    assert!(merged_parts.entries == parts.entries && merged_parts.tensors == parts.tensors);
    assert_eq!(logits(&Model::from_bytes(merged).unwrap()), logits(&Model::from_bytes(file).unwrap()));
}

#[test]
fn what_is_not_a_whole_model_says_why() {
    let file = synthetic();
    let refused = |change: &dyn Fn(&mut Vec<Rebuilt>)| {
        let mut parts = deal(&file, 3);
        change(&mut parts);
        let folder = tempfile::tempdir().unwrap();
        let paths = write(&folder, &parts);
        let error = Model::open(&paths[0]).unwrap_err();
        assert_eq!(split::merge(&paths, &mut Vec::new()).is_err(), !matches!(error, ModelError::Unsupported(_)));
        error.to_string()
    };
    let mut errors = vec![
        refused(&|parts| parts.swap(1, 2)),
        refused(&|parts| parts[2].set("split.no", 2, &7_u16.to_le_bytes())),
        refused(&|parts| parts[1].set("split.count", 2, &4_u16.to_le_bytes())),
        refused(&|parts| parts[0].entries.retain(|(key, _)| key != "split.count")),
        refused(&|parts| {
            parts[1].tensors.pop();
        }),
        refused(&|parts| {
            let twice = parts[0].tensors[0].clone();
            parts[1].tensors.push(twice);
        }),
    ];
    let first = deal(&file, 3).swap_remove(0);
    errors.push(Model::from_bytes(first.write()).unwrap_err().to_string());
    let folder = tempfile::tempdir().unwrap();
    let paths = write(&folder, &deal(&file, 2));
    std::fs::remove_file(&paths[1]).unwrap();
    let missing = Model::open(&paths[0]).unwrap_err().to_string();
    assert!(missing.contains("model-00002-of-00002.gguf"), "{missing}");
    insta::assert_snapshot!(errors.join("\n"));
}
