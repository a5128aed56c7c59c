//! A function that misbehaves as its path says: every way in which a tenant's code can go wrong, or try to harm its
//! neighbours. `ATTACKS` is the list; anything else is answered with `hello`.

#![expect(clippy::disallowed_methods, reason = "a guest that ends its process must be contained")]

mod answer;
mod compute;
mod flood;
mod http;
mod memory;
mod raw;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: "../../../wit/functions", world: "imports", generate_all });

/// What an attack is given: the place for its answer, and the number in the query (`?n=`).
struct Attack {
    out: ResponseOutparam,
    number: u64,
    /// What follows `&url=`, to the end.
    url: String,
}

type Attacker = fn(Attack);

const ATTACKS: [(&str, Attacker); 32] = [
    ("abort", compute::abort),
    ("allocate", memory::allocate),
    ("clock-loop", compute::clock_loop),
    ("cope", memory::cope),
    ("exit", compute::exit),
    ("flood", flood::lines),
    ("flood-line", flood::long_line),
    ("flood-print", flood::print),
    ("grow", memory::grow),
    ("half", http::half),
    ("handles", flood::handles),
    ("headers", http::headers),
    ("hold", http::hold),
    ("late-loop", compute::late_loop),
    ("late-panic", compute::late_panic),
    ("loop", compute::endless),
    ("metrics", flood::metrics),
    ("one-header", http::one_header),
    ("outbound", flood::outbound),
    ("out-of-bounds", raw::out_of_bounds),
    ("panic", compute::panic),
    ("poll-loop", compute::poll_loop),
    ("random", flood::random),
    ("recurse", compute::recurse),
    ("scan", memory::scan),
    ("secret", memory::secret),
    ("silent", http::silent),
    ("sleep", compute::sleep),
    ("too-long", http::too_long),
    ("twice", raw::twice),
    ("unfinished", http::unfinished),
    ("unreachable", raw::unreachable),
];

struct Hostile;

impl Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (name, query) = path.split_once('?').unwrap_or((&path, ""));
        let (query, url) = query.split_once("&url=").unwrap_or((query, ""));
        let number = query.strip_prefix("n=").and_then(|number| number.parse().ok()).unwrap_or_default();
        let name = name.trim_start_matches('/');
        match ATTACKS.iter().find(|(attack, _)| *attack == name) {
            Some((_, attack)) => attack(Attack { out, number, url: url.to_owned() }),
            None => answer::text(out, "hello\n"),
        }
    }
}

wasip2::http::proxy::export!(Hostile);
