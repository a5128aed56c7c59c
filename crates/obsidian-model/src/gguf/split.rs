//! Models split over several files: finding the files, and joining them into one.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::write::{header_of, padding};
use super::{Directory, MAX_PARTS};
use crate::error::ModelError;
use crate::source::Source;

/// The files of the model that the file at `path` belongs to, in order: itself alone unless its name has the
/// form `NAME-00001-of-00003.gguf`. (Whether they exist, and are what their names say, is found on reading.)
///
/// # Errors
/// The name counts more files than a model may have.
pub fn parts(path: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some((prefix, count)) = name.and_then(numbered) else { return Ok(vec![path.to_owned()]) };
    if count == 0 || count > MAX_PARTS {
        return Err(ModelError::malformed(format!("{}: a model of {count} files", path.display())));
    }
    let part = |index: usize| path.with_file_name(format!("{prefix}-{index:05}-of-{count:05}.gguf"));
    Ok((1..=count).map(part).collect())
}

/// Prefix and number of files of a name like `NAME-00001-of-00003.gguf`.
fn numbered(name: &str) -> Option<(&str, usize)> {
    let digits = |text: &str| (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, index) = rest.rsplit_once('-')?;
    digits(count).and(digits(index))?;
    Some((prefix, count.parse().ok()?))
}

/// Writes the split model of the files `paths`, all of them in order, to `writer` as one file. The files are
/// mapped and copied through: memory does not grow with the model.
///
/// # Errors
/// A file cannot be read, they are not the parts of one model, or writing fails.
pub fn merge(paths: &[PathBuf], writer: &mut impl Write) -> Result<(), ModelError> {
    let sources = paths.iter().map(|path| Source::map(path)).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<&[u8]> = sources.iter().map(Source::bytes).collect();
    let directory = Directory::parse(&parts)?;
    let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(|error| ModelError::Write(error.to_string()));
    write(&header_of(&directory, parts[0]))?;
    for name in directory.names() {
        let Some((part, tensor)) = directory.tensor(name) else { continue };
        write(&parts[part][tensor.range.clone()])?;
        write(padding(tensor.range.len() as u64))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parts;

    #[test]
    fn names_tell_all_files() {
        let found = parts(Path::new("/m/a-b-00002-of-00003.gguf")).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["/m/a-b-00001-of-00003.gguf", "/m/a-b-00002-of-00003.gguf", "/m/a-b-00003-of-00003.gguf"]);
        for single in ["a.gguf", "a-1-of-3.gguf", "a-00001-of-00003.bin", "a-0000x-of-00003.gguf", "-of-.gguf"] {
            assert_eq!(parts(Path::new(single)).unwrap(), [Path::new(single)]);
        }
        assert!(parts(Path::new("a-00001-of-99999.gguf")).is_err());
        assert!(parts(Path::new("a-00001-of-00000.gguf")).is_err());
    }
}
