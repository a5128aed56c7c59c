//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::{authenticate, error, json};
use crate::openai::error::ApiError;
use crate::openai::models;
use crate::pop::Pop;

pub(super) async fn list(State(pop): State<Arc<Pop>>, headers: HeaderMap) -> Response {
    match authenticate(&pop, &headers) {
        Ok(_) => json(&pop, StatusCode::OK, &models::list(&pop.model_names(), pop.started)),
        Err(refusal) => error(&pop, &refusal),
    }
}

pub(super) async fn one(State(pop): State<Arc<Pop>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authenticate(&pop, &headers) {
        return error(&pop, &refusal);
    }
    if pop.model_names().contains(&id) {
        return json(&pop, StatusCode::OK, &models::model(&id, pop.started));
    }
    error(&pop, &ApiError::model_not_found(&id))
}
