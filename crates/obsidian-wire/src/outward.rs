//! What every client of a registry shares: which hosts are this machine, what an error's cause is, whom to believe.

use std::error::Error;
use std::path::Path;

use reqwest::Url;

/// Whether the URL's host is this machine by name or address.
pub(crate) fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause: reqwest's outer ones show the URL, whose query may be a signature.
pub(crate) fn deepest(error: &dyn Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The authorities in a PEM file; the error says what is wrong with it.
pub(crate) fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let unusable = |error: String| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let list = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(deepest(&error)))?;
    if list.is_empty() { Err(unusable("holds no certificate in PEM form".to_owned())) } else { Ok(list) }
}
