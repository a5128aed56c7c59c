//! One function that does everything the host interfaces allow, chosen by the request's path; the tests of
//! `obsidian-sandbox` read what comes back. `ROUTES` is the list.
//!
//! Nothing here misbehaves: that is `guests/hostile/function`.

mod answer;
mod chat;
mod denied;
mod host;
mod outbound;
mod store;
mod streaming;

use std::fmt::Display;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: "../../../wit/functions", world: "imports", generate_all });

/// What went wrong, in words for the log.
#[derive(Debug)]
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Outcome = Result<(), Failure>;
type Handler = fn(Call) -> Outcome;

/// The first segment of the path, and what answers it.
const ROUTES: [(&str, Handler); 24] = [
    ("chat", chat::ask),
    ("clocks", host::clocks),
    ("config", host::config),
    ("denied", denied::report),
    ("digest", streaming::digest),
    ("echo", streaming::echo),
    ("environment", host::environment),
    ("events", streaming::events),
    ("forever", streaming::forever),
    ("headers", host::headers),
    ("hello", host::hello),
    ("instance", host::instance),
    ("large", streaming::large),
    ("log", host::log),
    ("metrics", host::metrics),
    ("outbound", outbound::proxy),
    ("print", host::print),
    ("random", host::random),
    ("refuse", host::refuse),
    ("repeated", host::repeated),
    ("status", host::status),
    ("store", store::operate),
    ("trailers", streaming::trailers),
    ("until-blocked", streaming::until_blocked),
];

/// One request and the place for its answer.
struct Call {
    request: IncomingRequest,
    out: ResponseOutparam,
    path: String,
}

impl Call {
    /// The segments after the route's own.
    fn rest(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.split_once('/').map_or("", |(_, rest)| rest)
    }

    /// A parameter of the query, as it stands there.
    fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        Ok(self.parameter(name).map_or(Ok(default), str::parse)?)
    }

    /// The first header of this name, if it is text.
    fn header(&self, name: &str) -> Option<String> {
        let value = self.request.headers().get(name).into_iter().next()?;
        String::from_utf8(value).ok()
    }
}

struct Conformance;

impl Guest for Conformance {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let path = path.trim_start_matches('/').to_owned();
        let route = path.split(['/', '?']).next().unwrap_or_default().to_owned();
        let call = Call { request, out, path };
        let handler = ROUTES.iter().find(|(name, _)| *name == route).map_or(host::unknown as Handler, |route| route.1);
        if let Err(Failure(reason)) = handler(call) {
            wasi::logging::logging::log(wasi::logging::logging::Level::Error, &route, &reason);
        }
    }
}

wasip2::http::proxy::export!(Conformance);
