//! `/healthz` (the process answers), `/readyz` (what each part can do), `/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::pop::{HubView, Pop, unix_seconds};

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// 200 when requests can be answered, if need be on a lesser path (`degraded`); 503 when not.
pub(super) async fn ready(State(pop): State<Arc<Pop>>) -> Response {
    let draft_model = pop.guests.drafter.current();
    let draft_model = draft_model.guest();
    let drafter = draft_model.is_alive();
    let (hub, hub_well) = hub(&pop);
    let (shield, router) = (pop.shield_health.is_well(), pop.router_health.is_well());
    let (core, core_well) = core(&pop);
    let draining = pop.is_draining();
    let ready = drafter && !draining;
    let certificate = pop.tls.as_ref().map(|tls| {
        let validity = tls.validity();
        json!({ "state": validity.standing(unix_seconds()).as_str(), "not_after": validity.not_after })
    });
    let mut body = json!({
        "ready": ready,
        "degraded": !(hub_well && core_well && shield && router && drafter),
        "draining": draining,
        "parts": {
            "shield": { "state": if shield { "ready" } else { "native" } },
            "router": { "state": if router { "ready" } else { "native" } },
            "drafter": { "state": if drafter { "ready" } else { "restarting" }, "model": draft_model.info().name },
            "hub": hub,
            "core": core,
        },
    });
    let models = pop.parts.models.states();
    if !models.is_empty() {
        let state = |attached| if attached { "attached" } else { "waiting" };
        let models = models.iter().map(|model| json!({ "model": model.name, "state": state(model.attached) }));
        body["parts"]["models"] = models.collect();
    }
    if let Some(certificate) = certificate {
        body["parts"]["certificate"] = certificate;
    }
    if let Some(functions) = &pop.parts.functions {
        let (ready, deployed) = functions.count();
        let state = if ready == deployed { "ready" } else { "degraded" };
        body["parts"]["functions"] = json!({ "state": state, "ready": ready, "deployed": deployed });
    }
    super::json(&pop, if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

fn hub(pop: &Pop) -> (Value, bool) {
    match pop.hub() {
        HubView::Absent => (json!({ "state": "not configured" }), true),
        HubView::Down => {
            let reason = pop.parts.hub.as_ref().map(|link| link.state().last_error);
            (json!({ "state": "down", "reason": reason }), false)
        }
        HubView::Unfit => (json!({ "state": "unfit", "detail": "its vocabulary is not the draft model's" }), false),
        HubView::Ready(facts) => (json!({ "state": "ready", "model": facts.model }), true),
    }
}

fn core(pop: &Pop) -> (Value, bool) {
    let Some(link) = &pop.parts.core else {
        return (json!({ "state": "not configured" }), true);
    };
    let state = link.state();
    let upstreams: Vec<Value> = state
        .upstreams
        .iter()
        .map(|upstream| {
            json!({
                "name": upstream.name,
                "model": upstream.model,
                "circuit": upstream.circuit.as_str(),
                "resting_s": upstream.resting.map(|rest| rest.as_secs()),
                "idle_connections": upstream.idle_connections,
                "last_error": upstream.last_error,
            })
        })
        .collect();
    (json!({ "state": if state.ready { "ready" } else { "down" }, "upstreams": upstreams }), state.ready)
}

pub(super) async fn metrics(State(pop): State<Arc<Pop>>) -> Response {
    let mut response = Response::new(Body::from(pop.parts.metrics.render()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
