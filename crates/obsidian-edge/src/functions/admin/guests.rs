//! The administration of the POP's own guests: which version of each serves, and how one is exchanged.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use obsidian_registry::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::guests::Vouched;
use super::super::{ChangeError, Functions};
use super::routes::{SignedShape, answer, error, read, refused};
use crate::guests::{self, GuestKind, SwapError};
use crate::pop::Pop;

/// What the routes work on.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) functions: Functions,
    pub(super) pop: Arc<Pop>,
}

pub(super) fn routes(site: Site) -> Router {
    Router::new()
        .route("/v1/guests", get(list))
        .route("/v1/guests/{kind}", get(one).post(swap))
        .route("/v1/guests/{kind}/rollback", post(roll_back))
        .with_state(site)
}

/// What is to take a guest's place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwapShape {
    digest: Digest,
    envelope: Value,
    /// Whether a version older than one that had the place is meant.
    #[serde(default)]
    allow_older: bool,
}

impl SwapError {
    /// HTTP status and a stable code for it.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Name { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_name"),
            Self::Candidate(_) => (StatusCode::UNPROCESSABLE_ENTITY, "candidate_refused"),
            Self::Busy(_) => (StatusCode::CONFLICT, "busy"),
            Self::Draining(_) => (StatusCode::CONFLICT, "draining"),
            Self::NothingBefore(_) => (StatusCode::CONFLICT, "nothing_before"),
            Self::Thread(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_tried"),
            Self::Untrusted(_) => (StatusCode::FORBIDDEN, "refused"),
            Self::NotRemembered(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_remembered"),
        }
    }
}

fn not_exchanged(swap: &SwapError) -> Response {
    if let SwapError::Untrusted(change) = swap {
        return refused(change);
    }
    let (status, code) = swap.kind();
    error(status, code, &swap.to_string())
}

fn find(name: &str) -> Result<GuestKind, Box<Response>> {
    GuestKind::find(name).ok_or_else(|| {
        let message = "The POP's own guests are 'shield', 'router' and 'drafter'.";
        Box::new(error(StatusCode::NOT_FOUND, "not_found", message))
    })
}

async fn list(State(site): State<Site>) -> Response {
    answer(StatusCode::OK, &json!({ "guests": site.pop.guests.report() }))
}

async fn one(State(site): State<Site>, Path(name): Path<String>) -> Response {
    match find(&name) {
        Ok(kind) => told(&site.pop, kind),
        Err(refusal) => *refusal,
    }
}

fn told(pop: &Pop, kind: GuestKind) -> Response {
    let report = pop.guests.report().into_iter().find(|report| report.kind == kind);
    answer(StatusCode::OK, &json!({ "guest": report }))
}

async fn swap(State(site): State<Site>, Path(name): Path<String>, body: Body) -> Response {
    let kind = match find(&name) {
        Ok(kind) => kind,
        Err(refusal) => return *refusal,
    };
    let vouched = async {
        let SwapShape { digest, envelope, allow_older } = read(body).await?;
        site.functions.vouch_guest(SignedShape { digest, envelope }.read()?, allow_older).await
    };
    let Vouched { artifact, signed, statement } = match vouched.await {
        Ok(vouched) => vouched,
        Err(change) => return refused(&change),
    };
    let swapped = match guests::swap(&site.pop, kind, artifact, Some(signed)).await {
        Ok(swapped) => swapped,
        Err(error) => return not_exchanged(&error),
    };
    // It serves; that it cannot be remembered is said, and undone by nobody.
    match site.functions.remember_guest(statement).await {
        Ok(()) => {
            let report = site.pop.guests.report().into_iter().find(|report| report.kind == kind);
            answer(StatusCode::OK, &json!({ "guest": report, "swapped": swapped }))
        }
        Err(change) => refused(&ChangeError::Unfinished(format!("it serves, but is not in the ledger: {change}"))),
    }
}

async fn roll_back(State(site): State<Site>, Path(name): Path<String>) -> Response {
    match find(&name) {
        Ok(kind) => match guests::roll_back(&site.pop, kind).await {
            Ok(()) => told(&site.pop, kind),
            Err(error) => not_exchanged(&error),
        },
        Err(refusal) => *refusal,
    }
}
