//! Who runs next: weighted deficit round robin over tenants (Shreedhar and Varghese 1995). Pure: no clocks, no
//! tasks; what a waiting request is woken with is a type parameter.
//!
//! Each tenant with waiting requests has a lane; lanes take turns. At its turn a lane's deficit grows by its weight
//! times a quantum, and it may start requests up to that many tokens. So over time tenants share the POP by tokens in
//! proportion to their weights, however many requests each sends and however large those are.

use std::collections::{HashMap, VecDeque};

use obsidian_types::TenantId;

/// Tokens that a lane of weight 1 gains at its turn.
const QUANTUM: u64 = 256;
/// No request counts for more, so that picking the next one takes a bounded number of turns.
const MOST_TOKENS: u64 = 256 * QUANTUM;

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Answers it keeps in flight at once.
    pub(crate) places: usize,
    /// Tokens of its prompt and its answers, estimated from above.
    pub(crate) tokens: u64,
}

/// One tenant's side of it.
#[derive(Debug)]
struct Lane<W> {
    waiting: VecDeque<Waiter<W>>,
    weight: u32,
    /// Places this tenant may hold at once.
    most: usize,
    held: usize,
    /// Requests that may still come to wait: their bodies are being read.
    arriving: usize,
    deficit: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: u64,
    cost: Cost,
    wake: W,
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Queue<W> {
    places: usize,
    held: usize,
    lanes: HashMap<TenantId, Lane<W>>,
    /// Tenants with waiting requests, whose turn it is first.
    turns: VecDeque<TenantId>,
    /// Whether the first in `turns` has had its quantum.
    granted: bool,
    next_ticket: u64,
}

impl<W> Queue<W> {
    /// A queue in front of `places`.
    pub(super) fn new(places: usize) -> Self {
        Self { places, held: 0, lanes: HashMap::new(), turns: VecDeque::new(), granted: false, next_ticket: 0 }
    }

    /// Another number of places; those held beyond it are not taken back.
    pub(super) fn set_places(&mut self, places: usize) {
        self.places = places;
    }

    /// Free places.
    pub(super) fn free(&self) -> usize {
        self.places.saturating_sub(self.held)
    }

    /// Free places that `tenant` may have, if it may hold `most`.
    pub(super) fn free_for(&self, tenant: &TenantId, most: usize) -> usize {
        let held = self.lanes.get(tenant).map_or(0, |lane| lane.held);
        self.free().min(most.saturating_sub(held))
    }

    /// Requests that arrive or wait, of all tenants.
    pub(super) fn pending(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len() + lane.arriving).sum()
    }

    /// Requests of `tenant` that arrive or wait.
    pub(super) fn pending_of(&self, tenant: &TenantId) -> usize {
        self.lanes.get(tenant).map_or(0, |lane| lane.waiting.len() + lane.arriving)
    }

    /// Requests that wait for a place.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }

    /// The share of all places that `tenant` would get now, 0 to 1.
    pub(super) fn share(&self, tenant: &TenantId, weight: u32) -> f64 {
        let others = self.lanes.iter().filter(|(name, lane)| *name != tenant && !lane.waiting.is_empty());
        let others: u64 = others.map(|(_, lane)| u64::from(lane.weight)).sum();
        let own = u64::from(weight.max(1));
        own as f64 / (own + others) as f64
    }

    /// A request of `tenant` begins to arrive.
    pub(super) fn arrive(&mut self, tenant: &TenantId, weight: u32, most: usize) {
        let lane = self.lanes.entry(tenant.clone()).or_insert_with(|| Lane {
            waiting: VecDeque::new(),
            weight: 1,
            most,
            held: 0,
            arriving: 0,
            deficit: 0,
        });
        lane.weight = weight.max(1);
        lane.most = most.max(1);
        lane.arriving += 1;
    }

    /// A request that arrived went away before it asked for a place.
    pub(super) fn gone(&mut self, tenant: &TenantId) {
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.arriving = lane.arriving.saturating_sub(1);
        }
        self.forget(tenant);
    }

    /// A request that arrived asks for its place; [`Queue::next`] hands it out.
    pub(super) fn wait(&mut self, tenant: &TenantId, cost: Cost, wake: W) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        // Larger than everything there is: it runs when nothing else does.
        let places = cost.places.clamp(1, self.places.max(1));
        let cost = Cost { places, tokens: cost.tokens.clamp(1, MOST_TOKENS) };
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.arriving = lane.arriving.saturating_sub(1);
            if lane.waiting.is_empty() {
                self.turns.push_back(tenant.clone());
                lane.deficit = 0;
            }
            lane.waiting.push_back(Waiter { ticket, cost, wake });
        }
        ticket
    }

    /// Takes a waiting request out. False if it holds its place already.
    pub(super) fn leave(&mut self, tenant: &TenantId, ticket: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(tenant) else {
            return false;
        };
        let Some(position) = lane.waiting.iter().position(|waiter| waiter.ticket == ticket) else {
            return false;
        };
        lane.waiting.remove(position);
        self.forget(tenant);
        true
    }

    /// Gives back what [`Queue::next`] handed out.
    pub(super) fn release(&mut self, tenant: &TenantId, places: usize) {
        self.held = self.held.saturating_sub(places);
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.held = lane.held.saturating_sub(places);
        }
        self.forget(tenant);
    }

    /// The next request to run: what it is woken with, and how many places it now holds.
    pub(super) fn next(&mut self) -> Option<(W, usize)> {
        // Lanes in a row that are at their own limit; when all are, nobody can run.
        let mut stuck = 0;
        while stuck < self.turns.len() && self.free() > 0 {
            let free = self.free();
            let lane = self.turns.front().and_then(|tenant| self.lanes.get_mut(tenant));
            let Some((lane, cost)) = lane.and_then(|lane| {
                let cost = lane.waiting.front()?.cost;
                Some((lane, cost))
            }) else {
                // Its last request went away.
                self.turns.pop_front();
                self.granted = false;
                continue;
            };
            if lane.held > 0 && lane.held + cost.places > lane.most {
                stuck += 1;
                self.rotate();
                continue;
            }
            if !self.granted {
                self.granted = true;
                lane.deficit += QUANTUM * u64::from(lane.weight);
            }
            if lane.deficit < cost.tokens {
                stuck = 0;
                self.rotate();
                continue;
            }
            if cost.places > free {
                // Its turn: places are kept for it, or small requests would pass it for ever.
                return None;
            }
            lane.deficit -= cost.tokens;
            lane.held += cost.places;
            self.held += cost.places;
            let waiter = lane.waiting.pop_front()?;
            if lane.waiting.is_empty() {
                // Nobody saves up turns while nothing waits, and nobody stands in line twice.
                lane.deficit = 0;
                self.turns.pop_front();
                self.granted = false;
            }
            return Some((waiter.wake, cost.places));
        }
        None
    }

    fn rotate(&mut self) {
        self.granted = false;
        if let Some(tenant) = self.turns.pop_front() {
            self.turns.push_back(tenant);
        }
    }

    /// Lanes without any business are dropped, so that tenants who are gone cost no memory.
    fn forget(&mut self, tenant: &TenantId) {
        let idle = |lane: &Lane<W>| lane.waiting.is_empty() && lane.held == 0 && lane.arriving == 0;
        if self.lanes.get(tenant).is_some_and(idle) {
            self.lanes.remove(tenant);
        }
        let empty = |tenant: &TenantId| self.lanes.get(tenant).is_none_or(|lane| lane.waiting.is_empty());
        if self.turns.front().is_some_and(empty) {
            self.turns.pop_front();
            self.granted = false;
        }
        self.turns.retain(|tenant| !empty(tenant));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use obsidian_types::TenantId;
    use proptest::prelude::*;

    use super::{Cost, Queue};

    const ONE: Cost = Cost { places: 1, tokens: 100 };

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    fn put(queue: &mut Queue<&'static str>, name: &'static str, weight: u32, cost: Cost) -> u64 {
        queue.arrive(&tenant(name), weight, usize::MAX);
        queue.wait(&tenant(name), cost, name)
    }

    /// Who ran how often in `rounds` requests when all always have some waiting, by tokens.
    fn served(tenants: &[(&'static str, u32, u64)], rounds: usize) -> HashMap<&'static str, u64> {
        let mut queue = Queue::new(1);
        let mut tokens = HashMap::new();
        for &(name, weight, cost) in tenants {
            for _ in 0..4 {
                put(&mut queue, name, weight, Cost { places: 1, tokens: cost });
            }
        }
        for _ in 0..rounds {
            let (name, places) = queue.next().unwrap();
            let &(_, weight, cost) = tenants.iter().find(|entry| entry.0 == name).unwrap();
            *tokens.entry(name).or_default() += cost;
            put(&mut queue, name, weight, Cost { places: 1, tokens: cost });
            queue.release(&tenant(name), places);
        }
        tokens
    }

    #[test]
    fn tenants_share_by_tokens_in_proportion_to_weight() {
        let tokens = served(&[("small", 1, 50), ("large", 1, 1_000), ("heavy", 3, 200)], 4_000);
        let share = |name: &str| tokens[name] as f64;
        let even = share("large") / share("small");
        assert!((0.9..1.1).contains(&even), "{tokens:?}");
        let triple = share("heavy") / share("small");
        assert!((2.7..3.3).contains(&triple), "{tokens:?}");
    }

    #[test]
    fn a_flood_of_one_tenant_delays_another_by_one_request_only() {
        let mut queue = Queue::new(1);
        for _ in 0..1_000 {
            put(&mut queue, "flood", 1, ONE);
        }
        assert_eq!(queue.next(), Some(("flood", 1)));
        put(&mut queue, "quiet", 1, ONE);
        let mut before = 0;
        loop {
            queue.release(&tenant("flood"), 1);
            match queue.next() {
                Some(("quiet", _)) => break,
                Some(_) => before += 1,
                None => panic!("nobody runs"),
            }
        }
        assert!(before <= 3, "{before} requests of the flood went first");
    }

    #[test]
    fn a_tenant_whose_lane_runs_empty_now_and_then_gets_no_second_turn() {
        let mut queue = Queue::new(1);
        let mut served: HashMap<&str, usize> = HashMap::new();
        for _ in 0..4 {
            put(&mut queue, "steady", 1, Cost { places: 1, tokens: 256 });
        }
        put(&mut queue, "thin", 1, Cost { places: 1, tokens: 256 });
        for _ in 0..1_000 {
            let (name, places) = queue.next().unwrap();
            *served.entry(name).or_default() += 1;
            put(&mut queue, name, 1, Cost { places: 1, tokens: 256 });
            queue.release(&tenant(name), places);
        }
        assert!(served["thin"].abs_diff(served["steady"]) <= 2, "{served:?}");
    }

    #[test]
    fn a_tenant_at_its_own_limit_lets_others_pass() {
        let mut queue = Queue::new(4);
        let name = tenant("limited");
        for _ in 0..3 {
            queue.arrive(&name, 1, 1);
            queue.wait(&name, ONE, "limited");
        }
        assert_eq!(queue.next(), Some(("limited", 1)));
        assert_eq!(queue.next(), None);
        put(&mut queue, "other", 1, ONE);
        assert_eq!(queue.next(), Some(("other", 1)));
        queue.release(&name, 1);
        assert_eq!(queue.next(), Some(("limited", 1)));
    }

    #[test]
    fn a_request_for_many_places_is_not_starved() {
        let mut queue = Queue::new(4);
        for _ in 0..4 {
            put(&mut queue, "small", 1, ONE);
        }
        let mut running = 0;
        while queue.next().is_some() {
            running += 1;
        }
        put(&mut queue, "wide", 1, Cost { places: 4, tokens: 100 });
        for _ in 0..20 {
            put(&mut queue, "small", 1, ONE);
        }
        let mut finished = 0;
        loop {
            finished += 1;
            queue.release(&tenant("small"), 1);
            running -= 1;
            match queue.next() {
                Some(("wide", places)) => {
                    assert_eq!(places, 4);
                    break;
                }
                Some(_) => running += 1,
                None => {}
            }
            assert!(finished < 20 && running >= 0);
        }
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let mut queue = Queue::new(1);
        put(&mut queue, "a", 1, ONE);
        assert_eq!(queue.next(), Some(("a", 1)));
        for _ in 0..1_000 {
            let ticket = put(&mut queue, "b", 1, ONE);
            assert!(queue.leave(&tenant("b"), ticket));
            assert!(!queue.leave(&tenant("b"), ticket));
        }
        assert_eq!((queue.pending(), queue.lanes.len(), queue.turns.len()), (0, 1, 0));
        queue.release(&tenant("a"), 1);
        assert_eq!((queue.lanes.len(), queue.free()), (0, 1));
    }

    proptest! {
        /// Whatever comes and goes: places are never over-committed, everybody who stays is served, nothing leaks.
        #[test]
        fn places_are_kept_and_everybody_is_served(steps in prop::collection::vec((0u8..4, 0usize..3, 1usize..9, 1u64..2_000), 1..200)) {
            let names = ["a", "b", "c"];
            let mut queue = Queue::new(5);
            let (mut running, mut waiting) = (Vec::new(), Vec::new());
            for (action, who, places, tokens) in steps {
                let name = tenant(names[who]);
                match action {
                    0 | 1 => {
                        queue.arrive(&name, who as u32 + 1, 3 + who);
                        let serial = waiting.len() as u64;
                        let ticket = queue.wait(&name, Cost { places, tokens }, (names[who], serial));
                        waiting.push((names[who], ticket));
                    }
                    2 if !waiting.is_empty() => {
                        let (name, ticket) = waiting.swap_remove(tokens as usize % waiting.len());
                        queue.leave(&tenant(name), ticket);
                    }
                    _ if !running.is_empty() => {
                        let (name, places): (&str, usize) = running.swap_remove(tokens as usize % running.len());
                        queue.release(&tenant(name), places);
                    }
                    _ => {}
                }
                while let Some(((name, _), places)) = queue.next() {
                    running.push((name, places));
                }
                let held: usize = running.iter().map(|(_, places)| places).sum();
                prop_assert!(held <= 5);
                // Each tenant that waits has one turn, and no other has any.
                let mut turns: Vec<&TenantId> = queue.turns.iter().collect();
                turns.sort();
                let mut lanes: Vec<&TenantId> = queue.lanes.iter().filter(|lane| !lane.1.waiting.is_empty()).map(|lane| lane.0).collect();
                lanes.sort();
                prop_assert_eq!(turns, lanes);
            }
            let mut rounds = 0;
            while queue.pending() > 0 || !running.is_empty() {
                for (name, places) in running.drain(..) {
                    queue.release(&tenant(name), places);
                }
                while let Some(((name, _), places)) = queue.next() {
                    running.push((name, places));
                }
                rounds += 1;
                prop_assert!(rounds < 1_000, "somebody starves");
            }
            prop_assert!(queue.lanes.is_empty() && queue.turns.is_empty());
            prop_assert_eq!(queue.free(), 5);
        }
    }
}
