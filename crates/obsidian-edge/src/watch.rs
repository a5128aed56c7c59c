//! What a POP does now and then by itself. Certificate and keys files that change while it runs: read again without dropping a connection. What is
//! wrong with the new ones is logged once, and the old ones stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::certificate::{ClientTls, stamp};
use crate::keys::KeyTable;
use crate::pop::Pop;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// What is watched.
pub(crate) struct Watched {
    pub(crate) pop: Arc<Pop>,
    pub(crate) tls: Option<Arc<ClientTls>>,
    pub(crate) keys_file: Option<PathBuf>,
}

/// Looks at the files until `stop`.
pub(crate) async fn files(watched: Watched, stop: CancellationToken) {
    let Watched { pop, tls, keys_file } = watched;
    let certificates = |tls: &ClientTls| stamp([tls.files().certificate.as_path(), tls.files().key.as_path()]);
    let mut certificate_stamp = tls.as_deref().map(certificates);
    let mut keys_stamp = keys_file.as_deref().map(|path| stamp([path]));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        // Samples of histograms gather until somebody asks for them; nobody may.
        pop.parts.metrics.run_upkeep();
        let now = tls.as_deref().map(certificates);
        if let Some(tls) = tls.as_deref().filter(|_| now != certificate_stamp) {
            certificate_stamp = now;
            reload_certificate(tls);
        }
        let now = keys_file.as_deref().map(|path| stamp([path]));
        if let Some(path) = keys_file.as_deref().filter(|_| now != keys_stamp) {
            keys_stamp = now;
            reload_keys(&pop, path);
        }
    }
}

/// Takes the certificate anew if it is good.
pub(crate) fn reload_certificate(tls: &ClientTls) {
    match tls.reload() {
        Ok(()) => tracing::info!("new connections get the new certificate"),
        Err(error) => tracing::error!(%error, "the new certificate is not used; the old one stays"),
    }
}

fn reload_keys(pop: &Pop, path: &Path) {
    match KeyTable::read(path) {
        Ok(keys) => {
            tracing::info!(keys = keys.len(), "API keys read again");
            pop.set_keys(keys);
        }
        Err(error) => tracing::error!(%error, "the new API keys are not used; the old ones stay"),
    }
}
