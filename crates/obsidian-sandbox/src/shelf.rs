//! Several models on one node under one memory budget: those in use are attached, the rest wait as open weight files
//! beside code that is loaded already, and are attached when they are asked for.
//!
//! Room is made by letting go of the model that nobody has asked for the longest. A model that somebody holds stays,
//! so a conversation is never cut off; if there is no room then, the answer is [`SandboxError::Overloaded`]. Start at
//! [`ModelShelf::take`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use obsidian_types::limits::{MAX_EDGE_MODELS, MODEL_SANDBOX_BYTES};

use crate::drafter::{Drafter, DrafterGuest, DrafterOptions};
use crate::error::SandboxError;
use crate::weights::WeightFile;

/// A model that can be attached.
#[derive(Clone, Debug)]
pub struct ShelfModel {
    /// What clients call it.
    pub name: String,
    /// Its weights, kept open.
    pub weights: WeightFile,
    /// How many sandboxes run it, and on which cores.
    pub options: DrafterOptions,
}

impl ShelfModel {
    /// Memory it takes until that was measured.
    fn expected_bytes(&self) -> u64 {
        self.weights.length() + self.options.workers as u64 * MODEL_SANDBOX_BYTES
    }
}

/// Why models cannot be served under a budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    /// It would not fit even alone.
    #[error("the model {name} needs {needed_bytes} bytes, the budget for models is {budget_bytes}: raise it")]
    Budget {
        /// Which model.
        name: String,
        /// What it needs.
        needed_bytes: u64,
        /// What there is.
        budget_bytes: u64,
    },
    /// One name for two models.
    #[error("two models are called {0}: add one of them under another name")]
    Twice(String),
    /// Too many.
    #[error("{0} models: a node serves {MAX_EDGE_MODELS} beside its draft model at most")]
    TooMany(usize),
}

/// A hold on an attached model: it stays attached at least as long.
#[derive(Clone)]
pub struct Lease(Arc<Drafter>);

impl Lease {
    /// The model.
    pub fn drafter(&self) -> &Drafter {
        &self.0
    }
}

/// How a model on the shelf is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfState {
    /// What clients call it.
    pub name: String,
    /// Whether it is attached.
    pub attached: bool,
    /// Holds on it.
    pub holds: usize,
    /// Memory it takes, or would.
    pub bytes: u64,
}

/// Models and what they may take together.
pub struct ModelShelf {
    slots: Vec<Slot>,
    budget_bytes: u64,
    books: Mutex<Books>,
}

struct Slot {
    model: ShelfModel,
    /// Held by whoever attaches the model; the others wait for that.
    door: tokio::sync::Mutex<()>,
}

/// Who is attached and what it costs.
#[derive(Default)]
struct Books {
    places: Vec<Place>,
    /// Let go, but somebody still holds them.
    leaving: Vec<(Weak<Drafter>, u64)>,
    clock: u64,
}

struct Place {
    attached: Option<Arc<Drafter>>,
    /// Somebody is attaching it.
    reserved: bool,
    bytes: u64,
    /// The clock when it was last asked for.
    used: u64,
}

impl Default for ModelShelf {
    /// No models.
    fn default() -> Self {
        Self { slots: Vec::new(), budget_bytes: 0, books: Mutex::default() }
    }
}

impl ModelShelf {
    /// These models, of which as many are attached at once as fit into `budget_bytes`: weights, and sandboxes as they
    /// are when the model has just been attached. Conversations come on top, bounded by a sandbox's own limit.
    ///
    /// # Errors
    /// [`ShelfError`] for models that could never be served so.
    pub fn new(models: Vec<ShelfModel>, budget_bytes: u64) -> Result<Self, ShelfError> {
        if models.len() > MAX_EDGE_MODELS {
            return Err(ShelfError::TooMany(models.len()));
        }
        for (index, model) in models.iter().enumerate() {
            if models[..index].iter().any(|other| other.name == model.name) {
                return Err(ShelfError::Twice(model.name.clone()));
            }
            let needed_bytes = model.expected_bytes();
            if needed_bytes > budget_bytes {
                return Err(ShelfError::Budget { name: model.name.clone(), needed_bytes, budget_bytes });
            }
        }
        let place =
            |model: &ShelfModel| Place { attached: None, reserved: false, bytes: model.expected_bytes(), used: 0 };
        let books = Books { places: models.iter().map(place).collect(), ..Books::default() };
        let slots = models.into_iter().map(|model| Slot { model, door: tokio::sync::Mutex::new(()) });
        Ok(Self { slots: slots.collect(), budget_bytes, books: Mutex::new(books) })
    }

    /// Names of the models, by index.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.model.name.as_str())
    }

    /// The index of a model.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names().position(|other| other == name)
    }

    /// How each model is, by index.
    pub fn states(&self) -> Vec<ShelfState> {
        let books = self.books();
        let state = |(slot, place): (&Slot, &Place)| ShelfState {
            name: slot.model.name.clone(),
            attached: place.attached.is_some(),
            holds: place.attached.as_ref().map_or(0, |drafter| Arc::strong_count(drafter) - 1),
            bytes: place.bytes,
        };
        self.slots.iter().zip(&books.places).map(state).collect()
    }

    /// Memory of everything attached, and of what was let go but is still held.
    pub fn used_bytes(&self) -> u64 {
        self.books().used()
    }

    /// The model with this index, run by `guest`: attached now if it is not. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`SandboxError::Overloaded`] if it does not fit beside the models that are held,
    /// [`SandboxError::Unavailable`] for an index that there is not, or the failure of its start.
    pub async fn take(&self, index: usize, guest: &DrafterGuest) -> Result<Lease, SandboxError> {
        let Some(slot) = self.slots.get(index) else {
            return Err(SandboxError::Unavailable { guest: guest.version().name.clone() });
        };
        if let Some(lease) = self.books().attached(index, guest) {
            return Ok(lease);
        }
        let _door = slot.door.lock().await;
        if let Some(lease) = self.books().attached(index, guest) {
            return Ok(lease);
        }
        let reservation = self.reserve(index)?;
        let began = Instant::now();
        let (guest, model) = (guest.clone(), slot.model.clone());
        let attaching = tokio::task::spawn_blocking(move || Drafter::attach(guest, model.weights, model.options));
        let drafter = attaching.await.map_err(|error| SandboxError::Engine(error.to_string()))??;
        let lease = reservation.fulfil(drafter)?;
        let elapsed = began.elapsed();
        metrics::histogram!("obsidian_model_attach_seconds").record(elapsed.as_secs_f64());
        metrics::counter!("obsidian_model_attaches_total", "model" => slot.model.name.clone()).increment(1);
        tracing::info!(model = slot.model.name, ?elapsed, "model attached");
        Ok(lease)
    }

    /// Makes room and keeps it.
    fn reserve(&self, index: usize) -> Result<Reservation<'_>, SandboxError> {
        let mut books = self.books();
        books.let_go(index);
        let wanted = books.places[index].bytes;
        self.make_room(&mut books, wanted)?;
        books.places[index].reserved = true;
        drop(books);
        Ok(Reservation { shelf: self, index })
    }

    /// Lets go of what nobody holds, longest unused first, until `wanted` bytes more fit.
    fn make_room(&self, books: &mut Books, wanted: u64) -> Result<(), SandboxError> {
        while books.used() + wanted > self.budget_bytes {
            let idle = books.places.iter().enumerate().filter(|(_, place)| place.is_idle());
            let Some((oldest, _)) = idle.min_by_key(|(_, place)| place.used) else {
                return Err(SandboxError::Overloaded { what: "the memory for models" });
            };
            books.let_go(oldest);
            let name = self.slots[oldest].model.name.clone();
            tracing::info!(model = name, "model let go");
            metrics::counter!("obsidian_model_evictions_total", "model" => name).increment(1);
        }
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn used(&mut self) -> u64 {
        self.leaving.retain(|(drafter, _)| drafter.strong_count() > 0);
        let leaving: u64 = self.leaving.iter().map(|(_, bytes)| bytes).sum();
        let counted = self.places.iter().filter(|place| place.reserved || place.attached.is_some());
        leaving + counted.map(|place| place.bytes).sum::<u64>()
    }

    /// A hold on the model if `guest` runs it already.
    fn attached(&mut self, index: usize, guest: &DrafterGuest) -> Option<Lease> {
        self.clock += 1;
        let place = &mut self.places[index];
        place.used = self.clock;
        let drafter = place.attached.as_ref()?;
        (drafter.version() == guest.version()).then(|| Lease(drafter.clone()))
    }

    /// Gives up the shelf's own hold.
    fn let_go(&mut self, index: usize) {
        let place = &mut self.places[index];
        if let Some(drafter) = place.attached.take() {
            self.leaving.push((Arc::downgrade(&drafter), place.bytes));
        }
    }
}

impl Place {
    /// Attached, and nobody but the shelf holds it. Nobody can take a hold meanwhile: that needs the books.
    fn is_idle(&self) -> bool {
        self.attached.as_ref().is_some_and(|drafter| Arc::strong_count(drafter) == 1)
    }
}

/// Room for a model that is being attached; given back if that fails.
struct Reservation<'shelf> {
    shelf: &'shelf ModelShelf,
    index: usize,
}

impl Reservation<'_> {
    /// Notes the model as attached, at the price that was measured.
    fn fulfil(self, drafter: Drafter) -> Result<Lease, SandboxError> {
        let shelf = self.shelf;
        let measured = shelf.slots[self.index].model.weights.length() + drafter.private_bytes();
        let mut books = shelf.books();
        let place = &mut books.places[self.index];
        place.bytes = measured;
        // Without this one, and then with what it really takes.
        place.reserved = false;
        shelf.make_room(&mut books, measured)?;
        let drafter = Arc::new(drafter);
        books.places[self.index].attached = Some(drafter.clone());
        metrics::gauge!("obsidian_models_bytes").set(books.used() as f64);
        Ok(Lease(drafter))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.shelf.books().places[self.index].reserved = false;
    }
}
