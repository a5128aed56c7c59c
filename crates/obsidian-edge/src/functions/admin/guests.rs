//! The administration of the POP's own guests: which version of each serves, and how one is exchanged.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::json;

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
        }
    }
}

fn not_exchanged(swap: &SwapError) -> Response {
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
        let signature = read::<SignedShape>(body).await?.read()?;
        site.functions.vouch_guest(signature).await
    };
    let (artifact, statement) = match vouched.await {
        Ok(vouched) => vouched,
        Err(change) => return refused(&change),
    };
    let swapped = match guests::swap(&site.pop, kind, artifact).await {
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
        Ok(kind) => match site.pop.guests.rollback(kind) {
            Ok(()) => told(&site.pop, kind),
            Err(error) => not_exchanged(&error),
        },
        Err(refusal) => *refusal,
    }
}
