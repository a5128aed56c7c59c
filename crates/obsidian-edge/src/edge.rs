//! Starting and stopping a POP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use obsidian_registry::{Artifact, Verified};
use obsidian_wire::core::{CoreLink, CoreSetupError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::certificate::ClientTls;
use crate::config::{EdgeConfig, EdgeParts, ReloadError, ReloadSettings, StartError};
use crate::functions::admin::Administration;
use crate::guests::{self, GuestKind, GuestReport, SwapError, Swapped};
use crate::http::server::Door;
use crate::http::{routes, server};
use crate::pop::{AUTO, CORE, EDGE, HUB, Ingress, Pop};
use crate::telemetry;
use crate::watch::{self, Watched};

/// A POP.
pub struct Edge;

impl Edge {
    /// Checks the settings, takes the listener and serves. Returns as soon as clients can connect; must be
    /// called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] when the settings are unsafe or outside their limits, or the listener cannot be had.
    pub async fn start(config: EdgeConfig, parts: EdgeParts) -> Result<EdgeHandle, StartError> {
        config.check()?;
        check_names(&parts)?;
        let tls = config.tls.clone().map(ClientTls::load).transpose()?.map(Arc::new);
        telemetry::describe();
        let address = config.listen;
        let wrong = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let local_addr = listener.local_addr().map_err(wrong)?;
        let (grace, notice) = (config.shutdown_grace, config.drain_notice);
        let keys_file = config.api_keys_file.clone();
        let administration = match &parts.functions {
            Some(functions) => Some(Administration::bind(functions).await?),
            None => None,
        };
        let pop = Arc::new(Pop::new(config, parts, tls.clone()));
        guests::restore(&pop).await;
        pop.parts.functions.iter().for_each(|functions| functions.serve_models(&pop));
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        let door = Door { pop: pop.clone(), routes: routes(pop.clone()), tls: tls.clone(), stop: stop.clone(), grace };
        server.spawn(server::serve(listener, door));
        if let Some(administration) = administration {
            server.spawn(administration.serve(pop.clone(), stop.clone()));
        }
        server.spawn(watch::files(Watched { pop: pop.clone(), tls: tls.clone(), keys_file }, stop.clone()));
        tracing::info!(pop = pop.config.pop_name, address = %local_addr, tls = tls.is_some(), "POP listens");
        Ok(EdgeHandle { pop, local_addr, stop, server, notice, grace })
    }
}

/// The name of a model beside the draft model must lead to that model.
fn check_names(parts: &EdgeParts) -> Result<(), StartError> {
    let draft = parts.drafter.info().name.as_str();
    let taken = [AUTO, EDGE, HUB, CORE, draft];
    match parts.models.names().find(|name| taken.contains(name)) {
        Some(name) => Err(StartError::ModelName(name.to_owned())),
        None => Ok(()),
    }
}

/// A running POP. Dropping it stops it at once; [`EdgeHandle::shutdown`] lets streams finish.
pub struct EdgeHandle {
    pop: Arc<Pop>,
    local_addr: SocketAddr,
    stop: CancellationToken,
    server: JoinSet<()>,
    notice: Duration,
    grace: Duration,
}

impl EdgeHandle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Reads the API keys of the core route's upstreams again, from where they are configured to be.
    ///
    /// # Errors
    /// The first key that cannot be read; it stays as it was, and the others are read all the same.
    pub fn reload_core_keys(&self) -> Result<(), CoreSetupError> {
        self.pop.parts.core.as_ref().map_or(Ok(()), CoreLink::reload_keys)
    }

    /// Takes new settings without dropping a connection, and reads the certificate again. What is wrong leaves
    /// everything as it was, but a bad certificate does not keep good settings away.
    ///
    /// # Errors
    /// [`ReloadError`] says what is not used.
    pub fn reload(&self, settings: ReloadSettings) -> Result<(), ReloadError> {
        let ReloadSettings { api_keys, limits, cors, proxies } = settings;
        let mut config = self.pop.config.clone();
        config.api_keys = api_keys.clone();
        config.limits = limits.clone();
        config.cors = cors.clone();
        config.check()?;
        self.pop.set_keys(api_keys);
        self.pop.set_ingress(Ingress { limits: Arc::new(limits), cors, proxies });
        if let Some(tls) = &self.pop.tls {
            tls.reload()?;
        }
        tracing::info!("settings taken anew");
        Ok(())
    }

    /// Which version of each guest serves.
    pub fn guests(&self) -> Vec<GuestReport> {
        self.pop.guests.report()
    }

    /// Puts another version in the place of a guest: loads it, calls it once, and lets new requests begin on it. What
    /// runs ends on the version it began with. Drop the future to give up before the switch. Only what comes through the
    /// administration, with its envelope, is found again by a restart.
    ///
    /// # Errors
    /// [`SwapError`]; what served before serves on then.
    pub async fn swap_guest(&self, kind: GuestKind, artifact: Verified<Artifact>) -> Result<Swapped, SwapError> {
        guests::swap(&self.pop, kind, artifact, None).await
    }

    /// Goes back to the version before the last swap, which is ready; once more goes forward again.
    ///
    /// # Errors
    /// [`SwapError::NothingBefore`], or that version is not trusted any more.
    pub async fn rollback_guest(&self, kind: GuestKind) -> Result<(), SwapError> {
        guests::roll_back(&self.pop, kind).await
    }

    /// Stops in good order: readiness goes first, so that balancers turn away; then the listener closes;
    /// then streams in flight finish, for at most the grace period.
    pub async fn shutdown(mut self) {
        self.pop.drain();
        tokio::time::sleep(self.notice).await;
        self.stop.cancel();
        while self.server.join_next().await.is_some() {}
        if let Some(functions) = &self.pop.parts.functions {
            functions.close(self.grace).await;
        }
        // Every connection is gone, and a pipeline ends with its connection: this wait is short.
        self.pop.tasks.close();
        if tokio::time::timeout(self.grace, self.pop.tasks.wait()).await.is_err() {
            tracing::warn!("a pipeline did not end with its connection");
        }
    }
}
