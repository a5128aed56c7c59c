//! A drafter with a make-believe model that does what its prompts say.
//!
//! `load` attaches the whole weight file and obeys its first eight bytes (`TRAPLOAD`, `BADMODEL`). `render` takes the
//! last message as a command: those of [`misbehave`], `attach …` (attacks on the weight mapping, see [`attack`]),
//! `peek`, `dirty` and `touch` (weights), `busy` (a while of work), `calls` (draft calls so far, largest batch), `known` (whether
//! `load` was given what `survey` gave before). The next token of a session is
//! a hash of its tokens and seed, so a batch can be compared with single steps. Feeding [`TRAP_TOKEN`] or
//! [`LOOP_TOKEN`] makes the next draft trap or loop.

mod attack;

use std::cell::{Cell, RefCell};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "drafter",
    additional_derives: [PartialEq],
    additional_derives_ignore: ["session"],
});

use exports::obsidian::edge::drafting::{
    Candidate, Conversation, Findings, Guest, GuestSession, ModelError, ModelInfo, Sampling, Scored, SessionBorrow,
};
use obsidian::edge::weights;

/// A session with this seed scores more alternatives than it was asked for.
const FLOOD_SEED: u64 = 666;
/// Ids are below this.
const VOCABULARY: u32 = 1_000;
/// Tokens a session may hold.
const CONTEXT: u32 = 64;
/// Ends an answer.
const END: u32 = 0;
const TRAP_TOKEN: u32 = 666;
const LOOP_TOKEN: u32 = 667;

/// What the one thread of this guest keeps.
#[derive(Default)]
struct Kept {
    weights: Cell<Option<attack::Region>>,
    calls: Cell<u32>,
    largest_batch: Cell<u32>,
    /// Whether `load` was given what `survey` gave before.
    known: Cell<bool>,
}

thread_local!(static KEPT: Kept = Kept::default());

struct Hostile;

impl Guest for Hostile {
    type Session = Session;

    fn load(known: Option<Findings>) -> Result<ModelInfo, ModelError> {
        KEPT.with(|kept| kept.known.set(known.is_some_and(|known| known == survey())));
        let file = weights::describe();
        let region = attack::Region::reserve(file.length);
        region.attach(0, file.length).map_err(|error| ModelError::InvalidModel(format!("{error:?}")))?;
        let head: Vec<u8> = (0..8).map(|index| region.read(index)).collect();
        KEPT.with(|kept| kept.weights.set(Some(region)));
        match head.as_slice() {
            b"TRAPLOAD" => core::arch::wasm32::unreachable(),
            b"BADMODEL" => Err(ModelError::InvalidModel("it says so".to_owned())),
            _ => Ok(ModelInfo {
                name: "hostile".to_owned(),
                architecture: "none".to_owned(),
                vocabulary_size: VOCABULARY,
                context_length: CONTEXT,
                parameters: file.length,
                end_ids: vec![END],
                vocabulary_digest: file.digest,
                numerics_id: "none".to_owned(),
                tool_form: None,
            }),
        }
    }

    fn survey() -> Findings {
        survey()
    }

    fn render(conversation: Conversation) -> Result<Vec<u32>, ModelError> {
        let command = conversation.turns.last().map(|turn| turn.content.clone()).unwrap_or_default();
        misbehave(&command);
        if let Some(attack) = command.strip_prefix("attach ") {
            return Ok(vec![attack::attack(attack)]);
        }
        let region = KEPT.with(|kept| kept.weights.get()).ok_or(ModelError::InvalidUse("not loaded".to_owned()))?;
        match command.as_str() {
            "peek" => Ok((0..8).map(|index| u32::from(region.read(index))).collect()),
            "dirty" => {
                region.write(0, 0xAA);
                Ok(vec![u32::from(region.read(0))])
            }
            "busy" => Ok(vec![(0..50_000_000_u32).fold(0, |sum, step| std::hint::black_box(sum) ^ step)]),
            "touch" => Ok(vec![region.touch()]),
            "known" => Ok(vec![u32::from(KEPT.with(|kept| kept.known.get()))]),
            "calls" => Ok(KEPT.with(|kept| vec![kept.calls.get(), kept.largest_batch.get()])),
            "refuse" => Err(ModelError::Template(command)),
            _ => Ok(Self::tokenize(command)),
        }
    }

    fn tokenize(text: String) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn tokenize_prompt(text: String) -> Vec<u32> {
        Self::tokenize(text)
    }

    fn detokenize(ids: Vec<u32>) -> Result<Vec<u8>, ModelError> {
        // Its vocabulary has more ids than there are bytes.
        let byte = |id: u32| if id < VOCABULARY { Ok(id as u8) } else { Err(ModelError::InvalidToken(id)) };
        ids.into_iter().map(byte).collect()
    }

    fn step(sessions: Vec<SessionBorrow<'_>>) -> Result<Vec<u32>, ModelError> {
        sessions.iter().map(|session| session.get::<Session>().step()).collect()
    }

    fn draft(sessions: Vec<SessionBorrow<'_>>, window: u32) -> Result<Vec<Vec<u32>>, ModelError> {
        KEPT.with(|kept| {
            kept.calls.set(kept.calls.get() + 1);
            kept.largest_batch.set(kept.largest_batch.get().max(sessions.len() as u32));
        });
        let sessions: Vec<&Session> = sessions.iter().map(|session| session.get::<Session>()).collect();
        if sessions.iter().any(|session| session.ids.borrow().is_empty()) {
            return Err(ModelError::InvalidUse("nothing was fed".to_owned()));
        }
        Ok(sessions.iter().map(|session| session.draft(window)).collect())
    }
}

fn survey() -> Findings {
    Findings { digest: "make-believe".to_owned(), tables: vec![vec![1, 2, 3], Vec::new()] }
}

fn misbehave(command: &str) {
    match command {
        "trap" => core::arch::wasm32::unreachable(),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "allocate" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(Vec::<u8>::with_capacity(1 << 20));
                std::hint::black_box(&hoard);
            }
        }
        _ => (),
    }
}

struct Session {
    sampling: Sampling,
    ids: RefCell<Vec<u32>>,
}

impl Session {
    fn step(&self) -> Result<u32, ModelError> {
        let draft = self.draft(1);
        draft.first().copied().ok_or(ModelError::ContextFull(CONTEXT))
    }

    fn draft(&self, window: u32) -> Vec<u32> {
        let mut drafted = Vec::new();
        let mut ids = self.ids.borrow_mut();
        while drafted.len() < window as usize && ids.len() < CONTEXT as usize {
            match ids.last() {
                Some(&TRAP_TOKEN) => misbehave("trap"),
                Some(&LOOP_TOKEN) => misbehave("loop"),
                _ => (),
            }
            let next = self.next(&ids);
            ids.push(next);
            drafted.push(next);
            if next == END {
                break;
            }
        }
        drafted
    }

    /// FNV-1a over seed and tokens, kept clear of the tokens that mean something.
    fn next(&self, ids: &[u32]) -> u32 {
        let words = ids.iter().copied().map(u64::from);
        let hash = words.fold(self.sampling.seed ^ 0xcbf2_9ce4_8422_2325, |hash, word| {
            (hash ^ word).wrapping_mul(0x0100_0000_01b3)
        });
        1 + (hash >> 20) as u32 % 600
    }
}

impl GuestSession for Session {
    fn new(sampling: Sampling, _answer_start: u32) -> Self {
        Self { sampling, ids: RefCell::new(Vec::new()) }
    }

    fn feed(&self, ids: Vec<u32>) -> Result<(), ModelError> {
        if let Some(id) = ids.iter().find(|id| **id >= VOCABULARY) {
            return Err(ModelError::InvalidToken(*id));
        }
        let mut held = self.ids.borrow_mut();
        if held.len() + ids.len() > CONTEXT as usize {
            return Err(ModelError::ContextFull(CONTEXT));
        }
        held.extend(ids);
        Ok(())
    }

    fn truncate(&self, length: u32) -> Result<(), ModelError> {
        let mut held = self.ids.borrow_mut();
        if length as usize > held.len() {
            return Err(ModelError::InvalidUse("past the end".to_owned()));
        }
        held.truncate(length as usize);
        Ok(())
    }

    fn length(&self) -> u32 {
        self.ids.borrow().len() as u32
    }

    fn logits(&self) -> Result<Vec<u32>, ModelError> {
        let next = self.next(&self.ids.borrow()) as usize;
        Ok((0..VOCABULARY as usize).map(|id| if id == next { 1.0_f32 } else { 0.0 }.to_bits()).collect())
    }

    /// With the seed [`FLOOD_SEED`], more alternatives than were asked for.
    fn draft_scored(&self, window: u32, alternatives: u32) -> Result<Vec<Scored>, ModelError> {
        let more = if self.sampling.seed == FLOOD_SEED { 1 } else { 0 };
        let candidate = |id| Candidate { id, logprob: -1.0, bytes: vec![b'x'] };
        let scored = self
            .draft(window)
            .into_iter()
            .map(|id| Scored { token: candidate(id), alternatives: (0..alternatives + more).map(candidate).collect() });
        Ok(scored.collect())
    }
}

export!(Hostile);
