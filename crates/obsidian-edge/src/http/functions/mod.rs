//! Functions over HTTP: `/fn/NAME/…`, or a host name of their own. Bodies stream both ways; nothing is kept.
//!
//! To read it, start at [`serve`]: the whole way of a request in one function.

mod body;
mod fault;
mod head;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::any;
use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use obsidian_sandbox::functions::{BodyError, FunctionBody, InstanceStart};
use obsidian_types::TenantId;

use self::body::Served;
use crate::fault::Fault;
use crate::functions::{Deployed, Functions, Slot, Version};
use crate::openai::error::ApiError;
use crate::pop::Pop;

/// Where functions are, by name.
const PREFIX: &str = "/fn/";
const X_MODULE: HeaderName = HeaderName::from_static("x-obsidian-module");
const X_VERSION: HeaderName = HeaderName::from_static("x-obsidian-module-version");
/// `warm` if the instance waited for the request, `cold` if it was made for it.
const X_START: HeaderName = HeaderName::from_static("x-obsidian-instance");

/// The routes of functions by name. Pages' preflights are for the function itself to answer.
pub(super) fn routes() -> Router<Arc<Pop>> {
    Router::new().route("/fn/{*rest}", any(by_path))
}

async fn by_path(State(pop): State<Arc<Pop>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    let name = rest.split('/').next().unwrap_or_default();
    let asker = asker(&pop, request.headers());
    let found = match &pop.parts.functions {
        None => Err(absent(name)),
        Some(functions) => named(functions, &asker, name).map(|deployed| (functions, deployed)),
    };
    match found {
        Err(error) => super::error(&pop, &error),
        Ok((functions, deployed)) => {
            let prefix = format!("{PREFIX}{name}");
            serve(&pop, functions, deployed, Called { prefix, is_ours: asker.key_is_ours }, request).await
        }
    }
}

/// Takes requests to host names of functions away before anything else sees them: such a name has no other paths.
pub(super) async fn by_host(State(pop): State<Arc<Pop>>, request: Request, next: Next) -> Response {
    let Some(functions) = &pop.parts.functions else { return next.run(request).await };
    let Some(deployed) = host(&request).and_then(|host| functions.find_host(&host)) else {
        return next.run(request).await;
    };
    let asker = asker(&pop, request.headers());
    let allowed = match &asker.tenant {
        _ if deployed.is_public() => Ok(()),
        Ok(tenant) if *tenant == deployed.key.tenant => Ok(()),
        Ok(_) => Err(absent(&deployed.key.name)),
        Err(error) => Err(error.clone()),
    };
    match allowed {
        Err(error) => super::error(&pop, &error),
        Ok(()) => {
            let called = Called { prefix: String::new(), is_ours: asker.key_is_ours };
            serve(&pop, functions, deployed, called, request).await
        }
    }
}

/// Who asks, and whether the bearer token is this POP's business rather than the function's.
struct Asker {
    tenant: Result<TenantId, ApiError>,
    key_is_ours: bool,
}

fn asker(pop: &Pop, headers: &HeaderMap) -> Asker {
    let tenant = super::authenticate(pop, headers).map(|caller| caller.tenant);
    let key_is_ours = tenant.is_ok() && !pop.tenants.is_open();
    Asker { tenant, key_is_ours }
}

/// The function of that name: the caller's own, or a public one. Whoever has no key learns of public ones only.
fn named(functions: &Functions, asker: &Asker, name: &str) -> Result<Arc<Deployed>, ApiError> {
    match (functions.find(asker.tenant.as_ref().ok(), name), &asker.tenant) {
        (Some(deployed), _) => Ok(deployed),
        (None, Ok(_)) => Err(absent(name)),
        (None, Err(error)) => Err(error.clone()),
    }
}

fn absent(name: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    let message = format!("There is no function '{name}' here: deploy it with 'obsidian fn deploy'.");
    ApiError::refused(StatusCode::NOT_FOUND, "function_not_found", message)
}

/// The host a request is for, as names are compared.
fn host(request: &Request) -> Option<String> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok()?,
    };
    Some(authority.host().to_ascii_lowercase())
}

/// How a function was called.
struct Called {
    /// What of the path is not the function's.
    prefix: String,
    /// The bearer token is a key of this POP, which no function may see.
    is_ours: bool,
}

/// One request to one function.
async fn serve(
    pop: &Arc<Pop>,
    functions: &Functions,
    deployed: Arc<Deployed>,
    called: Called,
    mut request: Request,
) -> Response {
    let began = Instant::now();
    if called.is_ours {
        request.headers_mut().remove(AUTHORIZATION);
    }
    // What can be refused without the function is refused first.
    let (version, slot) = match admit(pop, functions, &deployed, &request) {
        Ok(admitted) => admitted,
        Err(error) => return refuse(pop, &deployed, began, &error),
    };
    // The function sees its own paths, and what is between client and POP only where it must.
    let (head, body) = head::for_function(pop, request, &called.prefix).into_parts();
    let method = head.method.clone();
    let body: FunctionBody = body.map_err(|error| BodyError::BrokenOff(error.to_string())).boxed_unsync();
    let (body, mut copying) = match &deployed.shadow {
        Some(shadow) => shadow.copy(&head, body),
        None => (body, None),
    };
    let numbers = deployed.numbers.clone();
    // From here on a newer version may take its place.
    drop(deployed);
    let answered = version.module.call(http::Request::from_parts(head, body)).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => {
            if let Some(copying) = copying.take() {
                copying.abandon();
            }
            tracing::debug!(module = version.module.id().module, kind = error.kind(), "a function did not answer");
            let api = fault::to_api(&error);
            numbers.answered(api.status, began.elapsed());
            return mark(pop, super::error(pop, &api), &version);
        }
    };
    if let Some(copying) = &mut copying {
        copying.answered(&response);
    }
    head::for_client(response.headers_mut());
    let start = match response.extensions_mut().remove::<InstanceStart>() {
        Some(InstanceStart::Warm) => "warm",
        Some(InstanceStart::Cold) | None => "cold",
    };
    response.headers_mut().insert(X_START, HeaderValue::from_static(start));
    numbers.answered(response.status(), began.elapsed());
    let promised = head::promised(&method, &response);
    let response = response.map(|body| Body::new(Served::new(body, numbers, slot, promised).copied(copying)));
    mark(pop, response, &version)
}

/// What a request needs before the function is called.
fn admit(
    pop: &Pop,
    functions: &Functions,
    deployed: &Deployed,
    request: &Request,
) -> Result<(Arc<Version>, Slot), ApiError> {
    if pop.is_draining() {
        return Err(Fault::ShuttingDown.to_api());
    }
    head::refuse_upgrade(request)?;
    // Why is the operator's business: `obsidian fn list` says it.
    let failed = |_| ApiError::unavailable("function_failed", "This function could not be loaded on this node.");
    let version = deployed.current.as_ref().map_err(failed)?;
    let slot = functions.enter(&deployed.key.tenant).ok_or_else(|| {
        ApiError::too_many_requests("This tenant's functions have as many requests as they may: try again shortly.")
    })?;
    Ok((version.clone(), slot))
}

fn refuse(pop: &Pop, deployed: &Deployed, began: Instant, error: &ApiError) -> Response {
    deployed.numbers.answered(error.status, began.elapsed());
    super::error(pop, error)
}

/// Says who answered.
fn mark(pop: &Pop, mut response: Response, version: &Version) -> Response {
    let id = version.module.id();
    let headers = response.headers_mut();
    super::put(headers, X_MODULE, &id.module);
    super::put(headers, X_VERSION, &id.version);
    super::put(headers, super::X_POP, &pop.config.pop_name);
    response
}
