//! `obsidian model pull`: fetches a model from a registry into the store.
//!
//! The file is written under the digest the registry promises, so a killed pull goes on where it stopped,
//! and it gets a name only when the digest is right and the model runs here.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Args;
use obsidian_model::gguf::split;
use obsidian_registry::Digest;
use obsidian_sandbox::{Catalogue, PartialFile, WeightFile};
use obsidian_wire::models::{
    AccessToken, Listing, ModelRegistry, Patience, RegistryError, RegistryOptions, RemoteFile, Repository, Sha256, Sink,
};

use super::{Common, describe, show};
use crate::exit::Stop;

/// Fetch a model from a registry that speaks Hugging Face's protocol
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    obsidian model pull acme/tiny-llama-GGUF:Q8_0 --endpoint https://models.example.net\n  \
    obsidian model pull acme/tiny-llama-GGUF:tiny-llama-Q4_K_M.gguf --name tiny\n\n\
    A pull that was broken off goes on where it stopped when the command is run again.")]
pub(crate) struct PullArguments {
    /// OWNER/NAME, OWNER/NAME:FILE, or OWNER/NAME:FORMAT such as Q8_0
    model: Wanted,
    /// The registry, for example https://models.example.net; HF_ENDPOINT counts too
    #[arg(long, env = "OBSIDIAN_MODEL_ENDPOINT")]
    endpoint: Option<String>,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
    /// What to call it [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// File with an access token, readable by its owner only; HF_TOKEN counts too
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to believe, instead of the system's
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The file's SHA-256, where it is known from elsewhere
    #[arg(long)]
    sha256: Option<Digest>,
    /// Take over a name that another model has
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    common: Common,
}

/// What to fetch: a repository, and which of its files.
#[derive(Clone, Debug)]
struct Wanted {
    repository: Repository,
    /// A file's path, or a storage format.
    selector: Option<String>,
}

impl FromStr for Wanted {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let (repository, selector) = match text.split_once(':') {
            Some((repository, selector)) => (repository, Some(selector.to_owned())),
            None => (text, None),
        };
        Ok(Self { repository: repository.parse()?, selector })
    }
}

/// Runs the command.
pub(super) async fn run(arguments: &PullArguments) -> Result<()> {
    let catalogue = arguments.common.data()?.catalogue()?;
    let registry = ModelRegistry::new(options(arguments)?).map_err(stop)?;
    let listing = registry.describe(&arguments.model.repository, &arguments.revision).await.map_err(stop)?;
    let mut files = choose(&listing, arguments.model.selector.as_deref())?;
    let path = files[0].path.clone();
    let name = arguments.name.clone().unwrap_or_else(|| describe::suggested_name(&path));
    describe::check_name(&catalogue, &name, arguments.replace)?;
    if let Some(digest) = arguments.sha256 {
        expect(&mut files, digest)?;
    }
    let mut fetched = Vec::new();
    for file in &files {
        let file = registry.identify(&listing, file).await.map_err(stop)?;
        fetched.push(fetch(&registry, &catalogue, &listing, &file).await?);
    }
    let weights = joined(&catalogue, fetched)?;
    let source = format!("{}:{path} at {}", listing.repository, listing.commit);
    let manifest = describe::enlist(&catalogue, weights, &name, &source, arguments.replace)?;
    describe::announce(&manifest, arguments.common.json)
}

fn options(arguments: &PullArguments) -> Result<RegistryOptions> {
    let endpoint = arguments.endpoint.clone().or_else(|| std::env::var("HF_ENDPOINT").ok());
    let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty()).ok_or_else(|| {
        Stop::Usage(
            "no model registry is set: name one with --endpoint https://HOST, or in OBSIDIAN_MODEL_ENDPOINT or \
             HF_ENDPOINT"
                .to_owned(),
        )
    })?;
    let token = match &arguments.token_file {
        Some(path) => Some(AccessToken::from_file(path)?),
        None => match std::env::var("HF_TOKEN") {
            Ok(text) if !text.trim().is_empty() => {
                Some(AccessToken::parse(&text).context("HF_TOKEN holds no access token")?)
            }
            _ => None,
        },
    };
    Ok(RegistryOptions { endpoint, token, authority_file: arguments.ca_file.clone(), patience: Patience::default() })
}

/// Holds the one file that is meant against a digest known from elsewhere.
fn expect(files: &mut [RemoteFile], digest: Digest) -> Result<()> {
    let [file] = files else {
        return Err(Stop::Usage("--sha256 is of one file, and this model has several".to_owned()).into());
    };
    if file.sha256.is_some_and(|told| told.0 != *digest.as_bytes()) {
        return Err(Stop::Refused(format!("the registry's {} has another SHA-256 than --sha256", file.path)).into());
    }
    file.sha256 = Some(Sha256(*digest.as_bytes()));
    Ok(())
}

/// The files of a split model become one; a single file stays what it is.
fn joined(catalogue: &Catalogue, mut fetched: Vec<WeightFile>) -> Result<WeightFile> {
    let store = catalogue.weights();
    if fetched.len() == 1
        && let Some(weights) = fetched.pop()
    {
        return Ok(weights);
    }
    let digests: Vec<Digest> = fetched.iter().map(WeightFile::digest).collect();
    let paths: Vec<PathBuf> = digests.iter().map(|digest| store.path(*digest)).collect();
    let weights = describe::join(store, &paths).context("the fetched files cannot be joined");
    drop(fetched);
    if weights.is_ok() {
        for digest in digests {
            // Another name may have it, or another process use it.
            let named = catalogue.list()?.iter().any(|manifest| manifest.digest == digest);
            if !named && let Err(error) = store.remove(digest) {
                tracing::debug!(%error, "a part of the model stays in the store");
            }
        }
    }
    weights
}

/// The files of the one model that is meant: one, or all of a split model in order.
fn choose(listing: &Listing, selector: Option<&str>) -> Result<Vec<RemoteFile>> {
    let first = choose_first(listing, selector)?;
    let names = split::parts(Path::new(&first.path))?;
    let find = |name: &PathBuf| {
        let found = listing.files.iter().find(|file| Path::new(&file.path) == name).cloned();
        found.with_context(|| format!("{} has no {}, a part of the model", listing.repository, name.display()))
    };
    names.iter().map(find).collect()
}

fn choose_first<'listing>(listing: &'listing Listing, selector: Option<&str>) -> Result<&'listing RemoteFile> {
    if let Some(file) = listing.files.iter().find(|file| Some(file.path.as_str()) == selector) {
        return Ok(file);
    }
    let is_model = |file: &&RemoteFile| {
        let path = file.path.to_ascii_lowercase();
        // The first file of a split model stands for all.
        path.ends_with(".gguf") && (!path.contains("-of-") || path.contains("-00001-of-"))
    };
    let models: Vec<&RemoteFile> = listing.files.iter().filter(is_model).collect();
    let fitting: Vec<&RemoteFile> = match selector {
        Some(selector) => models.iter().copied().filter(|file| is_format(&file.path, selector)).collect(),
        None => models.clone(),
    };
    if let [file] = fitting[..] {
        return Ok(file);
    }
    let shown = |files: &[&RemoteFile]| files.iter().map(|file| format!("\n  {}", file.path)).collect::<String>();
    let repository = &listing.repository;
    let unsafe_names = match listing.unsafe_names {
        0 => String::new(),
        count => format!(" ({count} files with unsafe names are left out)"),
    };
    match (selector, fitting.is_empty(), models.is_empty()) {
        (_, true, true) => bail!("{repository} holds no GGUF file{unsafe_names}"),
        (Some(selector), true, false) => {
            bail!("{repository} has no `{selector}`{unsafe_names}; it has:{}", shown(&models))
        }
        _ => bail!("{repository} has several models; name one as {repository}:FILE:{}", shown(&fitting)),
    }
}

/// Whether a file's name says that it is stored in `format`: the word stands by itself, in any case.
fn is_format(path: &str, format: &str) -> bool {
    let (path, format) = (path.to_ascii_lowercase(), format.to_ascii_lowercase());
    let name = path.rsplit('/').next().unwrap_or_default();
    name.match_indices(&format).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + format.len()..].chars().next();
        before.is_none_or(|character| !character.is_ascii_alphanumeric())
            && after.is_none_or(|character| matches!(character, '.' | '-'))
    })
}

async fn fetch(
    registry: &ModelRegistry,
    catalogue: &Catalogue,
    listing: &Listing,
    file: &RemoteFile,
) -> Result<WeightFile> {
    let total = file.total()?;
    let digest = Digest::from_bytes(total.sha256.0);
    let store = catalogue.weights();
    let bar = show::bar("checking what is here", total.size)?;
    if store.contains(digest) {
        // One that was damaged is fetched anew.
        if let Ok(weights) = store.get(digest, &mut |done, _| bar.set_position(done)) {
            bar.finish_and_clear();
            eprintln!("{} is here already", file.path);
            return Ok(weights);
        }
        store.remove(digest)?;
    }
    let mut partial = Partial(store.partial(digest, &mut |done, _| bar.set_position(done))?);
    let missing = total.size.saturating_sub(partial.length());
    let free = store.free_bytes()?;
    if missing > free {
        bail!(
            "{} needs {} more and {} are free where the models lie: make room, or name another --data-dir",
            file.path,
            show::size(missing),
            show::size(free)
        );
    }
    bar.set_message("fetching");
    bar.reset_eta();
    let mut progress = |done: u64, _: u64| bar.set_position(done);
    registry.fetch(listing, file, &mut partial, &mut progress).await.map_err(stop)?;
    bar.finish_and_clear();
    Ok(partial.0.finish()?)
}

/// The store's unfinished file, as the registry client wants it.
struct Partial(PartialFile);

impl Sink for Partial {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.append(bytes)
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.0.restart()
    }

    fn sha256(&mut self) -> std::io::Result<Sha256> {
        Ok(Sha256(*self.0.digest().as_bytes()))
    }
}

/// Errors as exit codes: refused, unavailable, or simply failed.
fn stop(error: RegistryError) -> anyhow::Error {
    match error {
        RegistryError::Denied { .. } | RegistryError::Digest { .. } | RegistryError::Certificate { .. } => {
            Stop::Refused(error.to_string()).into()
        }
        RegistryError::Unavailable { .. } => Stop::Unavailable(error.to_string()).into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use obsidian_wire::models::{Listing, RemoteFile};

    use super::{Wanted, choose};

    fn listing(paths: &[&str]) -> Listing {
        let file = |path: &&str| RemoteFile { path: (*path).to_owned(), size: None, sha256: None };
        Listing {
            repository: "acme/tiny".parse().unwrap(),
            commit: "0123456789".to_owned(),
            files: paths.iter().map(file).collect(),
            unsafe_names: 0,
        }
    }

    #[test]
    fn a_format_is_a_whole_word_of_the_name() {
        let files = [
            "README.md",
            "tiny-Q4_K_M.gguf",
            "tiny-Q4_K_S.gguf",
            "tiny-IQ4_XS.gguf",
            "tiny.q8_0.gguf",
            "F16/tiny-F16.gguf",
        ];
        let listing = listing(&files);
        for (selector, path) in [
            ("q4_k_m", "tiny-Q4_K_M.gguf"),
            ("Q8_0", "tiny.q8_0.gguf"),
            ("F16", "F16/tiny-F16.gguf"),
            ("tiny-Q4_K_S.gguf", "tiny-Q4_K_S.gguf"),
            ("README.md", "README.md"),
        ] {
            assert_eq!(choose(&listing, Some(selector)).unwrap()[0].path, path);
        }
        for selector in ["Q4_K", "Q4", "4_K_M", "XS", "nothing"] {
            let error = choose(&listing, Some(selector));
            assert!(error.as_ref().is_err() || selector == "XS", "{selector} chose {error:?}");
        }
        let error = choose(&listing, None).unwrap_err().to_string();
        assert!(error.contains("acme/tiny:FILE") && error.contains("tiny-Q4_K_M.gguf"), "{error}");
    }

    #[test]
    fn the_only_model_needs_no_selector() {
        assert_eq!(choose(&listing(&["a.json", "m.gguf"]), None).unwrap()[0].path, "m.gguf");
        assert!(choose(&listing(&["a.json"]), None).unwrap_err().to_string().contains("no GGUF"));
    }

    #[test]
    fn a_split_model_is_all_its_files_in_order() {
        let files = ["m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf", "m-F16.gguf"];
        let chosen = choose(&listing(&files), Some("q8_0")).unwrap();
        let paths: Vec<_> = chosen.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [files[1], files[0]]);
        let error = choose(&listing(&files[1..]), Some("q8_0")).unwrap_err().to_string();
        assert!(error.contains("m-Q8_0-00002-of-00002.gguf"), "{error}");
    }

    #[test]
    fn a_repository_may_carry_a_selector() {
        let wanted: Wanted = "acme/tiny:dir/file.gguf".parse().unwrap();
        assert_eq!(wanted.selector.as_deref(), Some("dir/file.gguf"));
        assert!("../x:y".parse::<Wanted>().is_err());
    }
}
