//! The catalogue and its store: names, shared weights, locks between processes, unfinished files.

use std::fs;
use std::path::Path;

use obsidian_registry::Digest;
use obsidian_sandbox::{Catalogue, Manifest, WeightError, WeightFile};

fn catalogue(folder: &Path) -> Catalogue {
    Catalogue::open(folder).expect("opens")
}

fn manifest(name: &str, weights: &WeightFile) -> Manifest {
    Manifest {
        name: name.to_owned(),
        digest: weights.digest(),
        bytes: weights.length(),
        source: "a test".to_owned(),
        architecture: "llama".to_owned(),
        format: "Q8_0".to_owned(),
        parameters: 7,
        added_unix: 1_700_000_000,
    }
}

/// Writes `bytes` as a partial file and finishes it.
fn stored(catalogue: &Catalogue, bytes: &[u8]) -> WeightFile {
    let mut partial = catalogue.weights().partial(Digest::of(bytes), &mut |_, _| ()).expect("begins");
    partial.append(bytes).expect("written");
    partial.finish().expect("finished")
}

#[test]
fn a_model_is_named_found_listed_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    let weights = stored(&models, b"weights");
    let (first, second) = (manifest("first", &weights), manifest("second", &weights));
    models.add(&first, &weights, false).expect("added");
    models.add(&second, &weights, false).expect("added");
    let path = models.weights().path(weights.digest());
    drop(weights);
    assert_eq!(models.find("first").expect("read"), Some(first.clone()));
    assert_eq!(models.find("third").expect("read"), None);
    assert_eq!(catalogue(folder.path()).list().expect("read"), [first.clone(), second]);
    // The weights go with the last name that has them.
    assert_eq!(models.remove("first").expect("removed"), Some(first));
    assert!(path.exists());
    models.remove("second").expect("removed");
    assert!(!path.exists());
    assert_eq!(models.remove("second").expect("nothing to do"), None);
}

#[test]
fn a_name_is_not_taken_over_by_accident_and_never_leaves_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    let (one, two) = (stored(&models, b"one"), stored(&models, b"two"));
    models.add(&manifest("same", &one), &one, false).expect("added");
    models.add(&manifest("same", &one), &one, false).expect("again is no conflict");
    let error = models.add(&manifest("same", &two), &two, false).expect_err("taken");
    assert!(matches!(error, WeightError::NameTaken { .. }), "{error}");
    models.add(&manifest("same", &two), &two, true).expect("replaced");
    assert_eq!(models.find("same").expect("read").map(|found| found.digest), Some(two.digest()));
    for bad in ["", "../x", "a/b", ".hidden", "-flag", "a b", "ä", &"x".repeat(97)] {
        let error = models.add(&manifest(bad, &one), &one, false).expect_err(bad);
        assert!(matches!(error, WeightError::BadName { .. }), "{error}");
        assert_eq!(models.find(bad).expect("not there"), None);
    }
}

#[test]
fn weights_in_use_are_not_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    let weights = stored(&models, b"weights");
    models.add(&manifest("used", &weights), &weights, false).expect("added");
    let error = catalogue(folder.path()).remove("used").expect_err("in use");
    assert!(matches!(error, WeightError::InUse { .. }), "{error}");
    assert!(models.find("used").expect("read").is_some(), "the name went although the weights stayed");
    assert_eq!(models.sweep().expect("swept").files, 0);
    drop(weights);
    // A second user, by way of `get`.
    let again = models.weights().get(Digest::of(b"weights"), &mut |_, _| ()).expect("there");
    assert!(models.remove("used").is_err());
    drop(again);
    assert!(models.remove("used").expect("removed").is_some());
}

#[test]
fn an_unfinished_file_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    let digest = Digest::of(b"first half, second half");
    let mut partial = models.weights().partial(digest, &mut |_, _| ()).expect("begins");
    partial.append(b"first half, ").expect("written");
    let busy = models.weights().partial(digest, &mut |_, _| ()).expect_err("one writer");
    assert!(matches!(busy, WeightError::Busy { .. }), "{busy}");
    // As if the process had been killed.
    drop(partial);
    let mut partial = models.weights().partial(digest, &mut |_, _| ()).expect("goes on");
    assert_eq!(partial.length(), 12);
    partial.append(b"second half").expect("written");
    assert_eq!(partial.finish().expect("right digest").length(), 23);

    let mut wrong = models.weights().partial(Digest::of(b"x"), &mut |_, _| ()).expect("begins");
    wrong.append(b"y").expect("written");
    assert!(matches!(wrong.finish(), Err(WeightError::DigestMismatch { .. })));
    assert!(!models.weights().contains(Digest::of(b"x")));
}

#[test]
fn leftovers_are_counted_and_swept() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    let (kept, nameless) = (stored(&models, b"kept"), stored(&models, b"nameless"));
    models.add(&manifest("kept", &kept), &kept, false).expect("added");
    drop((kept, nameless));
    let mut partial = models.weights().partial(Digest::of(b"half"), &mut |_, _| ()).expect("begins");
    partial.append(b"ha").expect("written");
    drop(partial);
    fs::write(folder.path().join("weights/1-0.new"), b"killed import").expect("written");
    assert_eq!(models.leftovers().expect("counted").files, 3);
    let swept = models.sweep().expect("swept");
    assert_eq!((swept.files, swept.bytes), (3, 8 + 2 + 13));
    assert!(models.weights().contains(Digest::of(b"kept")));
    assert_eq!(models.leftovers().expect("counted").files, 0);
}

#[test]
fn a_file_that_is_here_is_not_copied_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    let file = folder.path().join("model.gguf");
    fs::write(&file, b"weights").expect("written");
    let first = models.weights().import(&file, None, &mut |_, _| ()).expect("imported");
    let number = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("there"));
    let before = number(&models.weights().path(first.digest()));
    models.weights().import(&file, None, &mut |_, _| ()).expect("found");
    assert_eq!(number(&models.weights().path(first.digest())), before);
    assert!(models.weights().free_bytes().expect("told") > 0);
    // Damaged by whatever means: copied anew.
    let path = models.weights().path(first.digest());
    fs::remove_file(&path).expect("removed");
    fs::write(&path, b"weighty").expect("written");
    models.weights().import(&file, None, &mut |_, _| ()).expect("imported");
    assert_eq!(fs::read(&path).expect("there"), b"weights");
}

#[test]
fn a_damaged_manifest_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = catalogue(folder.path());
    for text in ["", "{}", "{\"name\":\"other\"}", &"x".repeat(100_000)] {
        fs::write(folder.path().join("names/broken.json"), text).expect("written");
        let error = models.list().expect_err("damaged").to_string();
        assert!(error.contains("broken.json") && error.contains("add the model again"), "{error}");
    }
}

#[test]
fn many_at_once_leave_a_whole_catalogue() {
    let folder = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let path = folder.path();
            scope.spawn(move || {
                let models = catalogue(path);
                for round in 0..10_u8 {
                    let weights = stored(&models, &[number, round]);
                    let name = format!("model-{number}");
                    models.add(&manifest(&name, &weights), &weights, true).expect("added");
                    drop(weights);
                    if round < 9 {
                        models.remove(&name).expect("removed");
                    }
                }
            });
        }
    });
    let models = catalogue(folder.path());
    let list = models.list().expect("read");
    assert_eq!(list.len(), 8);
    assert!(list.iter().all(|model| models.weights().contains(model.digest)));
    assert_eq!(models.leftovers().expect("counted").files, 0);
}
