//! The way in for every request that runs a model: who asks, whether there is room, the body, and then a place.
//!
//! The order is the point: what costs least is looked at first, so that a busy POP refuses without having read,
//! parsed or kept anything.

use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use obsidian_types::{ChatRequest, TenantId};

use super::body::{self, Charge};
use crate::admission::{Arrival, Cost, Place};
use crate::fault::Fault;
use crate::openai::error::ApiError;
use crate::pop::Pop;

/// A request whose body is here and which may ask for its place.
pub(super) struct Entered {
    pub(super) tenant: TenantId,
    pub(super) body: Bytes,
    /// When the body's last byte arrived.
    pub(super) began: Instant,
    arrival: Arrival,
    charge: Charge,
}

/// Lets a request in and reads its body.
pub(super) async fn enter(pop: &Pop, head: &Parts, body: Body) -> Result<Entered, ApiError> {
    let caller = super::authenticate(pop, &head.headers)?;
    if pop.is_draining() {
        return Err(Fault::ShuttingDown.to_api());
    }
    body::require_json(&head.headers)?;
    // Before the body is read: the bodies of refused requests cost no memory.
    let arrival = pop.admission.arrive(&caller.tenant, &caller.limits).map_err(|away| away.to_api())?;
    let limits = pop.limits();
    let (body, charge) = body::read(&head.headers, body, &limits, &pop.bodies).await?;
    Ok(Entered { tenant: caller.tenant, body, began: Instant::now(), arrival, charge })
}

impl Entered {
    /// Waits for a place in the queue.
    pub(super) async fn seat(self, pop: &Pop, requests: &[ChatRequest]) -> Result<Seat, ApiError> {
        let Self { body, arrival, charge, .. } = self;
        let bytes = body.len();
        // Parsed by now; what waits is the request, not its JSON.
        drop(body);
        Seat::wait(pop, arrival, charge, bytes, requests).await
    }
}

/// What a running request holds: its place, and its body's part of the budget.
pub(crate) struct Seat {
    place: Place,
    _charge: Charge,
}

impl Seat {
    /// Waits for a place for requests whose prompts have `bytes` bytes; each answer to be made counts as one.
    pub(crate) async fn wait(
        pop: &Pop,
        arrival: Arrival,
        charge: Charge,
        bytes: usize,
        requests: &[ChatRequest],
    ) -> Result<Self, ApiError> {
        let longest = requests.iter().map(|request| request.max_tokens).max().unwrap_or_default();
        if let Some(most) = pop.limits().answer_tokens.filter(|most| longest > *most) {
            let message = format!("Invalid 'max_tokens': this server's answers have at most {most} tokens.");
            return Err(ApiError::invalid("max_tokens", "integer_above_max_value", message));
        }
        // A byte in four is a token or less in most text; templates and tools add to it. Only proportions matter.
        let prompt = bytes as u64 / 4;
        let choices = requests.iter().map(|request| request.choices).sum::<u32>().max(1);
        let tokens = prompt + u64::from(longest) * u64::from(choices);
        let cost = Cost { places: choices as usize, tokens };
        let place = arrival.place(cost).await.map_err(|away| away.to_api())?;
        Ok(Self { place, _charge: charge })
    }

    /// Tells what the request has used.
    pub(crate) fn spent(&self, tokens: u64) {
        self.place.spent(tokens);
    }
}
