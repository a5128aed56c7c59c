//! The POP's administration: JSON over HTTP/1.1 on a Unix socket that only the POP's user can open, and if wanted on a
//! loopback port that a token guards. It is another listener than the clients', so that no route of theirs leads here.
//!
//! ```text
//! GET    /v1/functions                                 what is deployed
//! POST   /v1/functions                                 deploy, or exchange a part
//! GET    /v1/functions/TENANT/NAME                     one of them, with its numbers
//! DELETE /v1/functions/TENANT/NAME                     remove it
//! POST   /v1/functions/TENANT/NAME/rollback            the version before answers again
//! GET    /v1/functions/TENANT/NAME/logs                ?lines=N&follow=true: one JSON object a line
//! PUT    /v1/functions/TENANT/NAME/shadow              copy requests to a candidate
//! GET    /v1/functions/TENANT/NAME/shadow              what is known of it
//! DELETE /v1/functions/TENANT/NAME/shadow              end it
//! HEAD   /v1/artifacts/SHA256                          whether a component is here
//! PUT    /v1/artifacts/SHA256                          upload it
//! GET    /v1/guests                                    which version of each of the POP's own guests serves
//! GET    /v1/guests/KIND                               one of them
//! POST   /v1/guests/KIND                               put another version in its place
//! POST   /v1/guests/KIND/rollback                      the version before serves again
//! ```

mod guests;
mod routes;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::StatusCode;
use http::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use obsidian_types::limits::MAX_ADMIN_CONNECTIONS;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Functions;
use crate::config::StartError;
use crate::pop::Pop;

/// Shortest token, characters: it must not be guessed.
const MIN_TOKEN: usize = 16;

/// Listeners that are bound and not served yet.
pub(crate) struct Administration {
    socket: PathBuf,
    unix: UnixListener,
    tcp: Option<(TcpListener, [u8; 32])>,
    functions: Functions,
}

impl Administration {
    /// Takes the socket, and the port if one is wanted.
    pub(crate) async fn bind(functions: &Functions) -> Result<Self, StartError> {
        let settings = functions.settings();
        let socket = settings.admin_socket.clone();
        let wrong = |place: String, reason: String| StartError::Admin { place, reason };
        let unix = bind_socket(&socket).map_err(|error| wrong(socket.display().to_string(), error.to_string()))?;
        let tcp = match &settings.admin_tcp {
            None => None,
            Some(wanted) => {
                let at_file = |reason| wrong(wanted.token_file.display().to_string(), reason);
                let token = std::fs::read_to_string(&wanted.token_file).map_err(|error| at_file(error.to_string()))?;
                if token.trim().len() < MIN_TOKEN {
                    return Err(at_file(format!("the token has fewer than {MIN_TOKEN} characters")));
                }
                let listener = TcpListener::bind(wanted.listen).await;
                let listener = listener.map_err(|error| wrong(wanted.listen.to_string(), error.to_string()))?;
                Some((listener, Sha256::digest(token.trim().as_bytes()).into()))
            }
        };
        Ok(Self { socket, unix, tcp, functions: functions.clone() })
    }

    /// Serves until `stop`. Who is connected then is cut off: nothing here is in the middle of anything.
    pub(crate) async fn serve(self, pop: Arc<Pop>, stop: CancellationToken) {
        let Self { socket, unix, tcp, functions } = self;
        let routes = routes::routes(functions.clone()).merge(guests::routes(guests::Site { functions, pop }));
        let places = Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS));
        let mut connections = JoinSet::new();
        let guarded = tcp.as_ref().map(|(_, token)| guarded(routes.clone(), *token));
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = places.clone().acquire_owned().await else { break };
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = unix.accept() => if let Ok((stream, _)) = accepted {
                    let serving = serve_one(stream, routes.clone());
                    connections.spawn(async move { let _place = place; serving.await });
                },
                accepted = accept(tcp.as_ref().map(|(listener, _)| listener)) => {
                    if let (Ok(stream), Some(routes)) = (accepted, guarded.clone()) {
                        connections.spawn(async move { let _place = place; serve_one(stream, routes).await });
                    }
                }
            }
        }
        connections.shutdown().await;
        // Another POP that was started meanwhile has made it anew; a file that is gone is no fault.
        let _ = std::fs::remove_file(socket);
    }
}

/// The database beside it is locked by now, so a socket that lies there is a dead POP's.
fn bind_socket(path: &std::path::Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Router) {
    let inner = TowerToHyperService::new(routes);
    let service = service_fn(move |request| hyper::service::Service::call(&inner, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an administration connection ended");
    }
}

/// The same routes for whoever shows the token.
fn guarded(routes: Router, token: [u8; 32]) -> Router {
    routes.layer(from_fn(move |request: Request, next: Next| async move {
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(shown.trim().as_bytes()).into();
        if bool::from(digest.ct_eq(&token)) {
            return next.run(request).await;
        }
        let message = "Show the administration's token as 'Authorization: Bearer TOKEN'.";
        let response: Response = routes::error(StatusCode::UNAUTHORIZED, "no_token", message);
        response
    }))
}
