//! The draft model as a component of world `drafter`.
//!
//! Weights are attached by the host and read where they lie ([`region`]); the model itself is
//! `obsidian-model`, the same code that runs natively. Start at [`Drafter`].

mod region;
mod session;

use std::cell::RefCell;
use std::sync::OnceLock;

use obsidian_model::{
    ChatMessage, ChatPrompt, ChatTool, ChatToolCall, Model, ModelError as Failure, Specials, Workspace,
};

use exports::obsidian::edge::drafting::{
    Candidate, Conversation, Findings, Guest, GuestSession, ModelError, ModelInfo, Sampling, Scored, SessionBorrow,
    ToolForm,
};
use session::Session;

wit_bindgen::generate!({ path: "../../wit", world: "drafter" });

/// Vocabularies from this size on take longer to look through than to copy what was found.
const WORTH_KEEPING: u32 = 16_384;
/// What was found is told up to this many numbers: the host copies no more than 16 MiB a call.
const MOST_KEPT: usize = 2 << 20;

static MODEL: OnceLock<Model> = OnceLock::new();

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
}

/// The loaded model.
///
/// # Panics
/// (a trap) if `load` was not called before: the contract puts it before anything else, and the calls
/// that end here have no error to return.
fn model() -> &'static Model {
    let model = MODEL.get();
    assert!(model.is_some(), "load comes before anything else");
    model.unwrap_or_else(|| unreachable!())
}

struct Drafter;

impl Guest for Drafter {
    type Session = RefCell<Session>;

    fn load(known: Option<Findings>) -> Result<ModelInfo, ModelError> {
        if MODEL.get().is_some() {
            return Err(ModelError::InvalidUse("load is called once".to_owned()));
        }
        let bytes = region::attach().map_err(ModelError::InvalidModel)?;
        let model = match known {
            Some(Findings { digest, tables }) => {
                Model::from_static_surveyed(bytes, obsidian_model::Survey { digest, tables })
            }
            None => Model::from_static(bytes),
        };
        let model = model.map_err(translate)?;
        let info = model.info().clone();
        let tool_form = model.tool_form().map(|form| match form {
            obsidian_model::ToolForm::Hermes => ToolForm::Hermes,
            obsidian_model::ToolForm::BareJson => ToolForm::BareJson,
        });
        let _ = MODEL.set(model);
        Ok(ModelInfo {
            name: info.name,
            architecture: info.architecture,
            vocabulary_size: info.vocabulary_size,
            context_length: info.context_length,
            parameters: info.parameters,
            end_ids: info.end_ids,
            vocabulary_digest: info.vocabulary_digest,
            numerics_id: info.numerics_id.to_owned(),
            tool_form,
        })
    }

    fn survey() -> Findings {
        let obsidian_model::Survey { digest, tables } = match model().info().vocabulary_size {
            WORTH_KEEPING.. => model().survey(),
            _ => obsidian_model::Survey::default(),
        };
        let is_small = tables.iter().map(Vec::len).sum::<usize>() <= MOST_KEPT;
        Findings { digest, tables: if is_small { tables } else { Vec::new() } }
    }

    fn render(conversation: Conversation) -> Result<Vec<u32>, ModelError> {
        render(&conversation).map_err(translate)
    }

    fn tokenize(text: String) -> Vec<u32> {
        model().tokenizer().encode(&text, Specials::AsText)
    }

    fn tokenize_prompt(text: String) -> Vec<u32> {
        model().tokenizer().encode_prompt(&text)
    }

    fn detokenize(ids: Vec<u32>) -> Result<Vec<u8>, ModelError> {
        model().tokenizer().decode(&ids).map_err(translate)
    }

    fn step(sessions: Vec<SessionBorrow<'_>>) -> Result<Vec<u32>, ModelError> {
        let mut sessions = borrow_all(&sessions)?;
        let mut sessions: Vec<&mut Session> = sessions.iter_mut().map(|session| &mut **session).collect();
        WORKSPACE.with_borrow_mut(|workspace| session::step(model(), &mut sessions, workspace)).map_err(translate)
    }

    fn draft(sessions: Vec<SessionBorrow<'_>>, window: u32) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut sessions = borrow_all(&sessions)?;
        let mut sessions: Vec<&mut Session> = sessions.iter_mut().map(|session| &mut **session).collect();
        WORKSPACE
            .with_borrow_mut(|workspace| session::draft(model(), &mut sessions, window, workspace))
            .map_err(translate)
    }
}

fn render(conversation: &Conversation) -> Result<Vec<u32>, Failure> {
    let calls: Vec<Vec<ChatToolCall<'_>>> = conversation
        .turns
        .iter()
        .map(|turn| {
            let calls = turn.tool_calls.iter();
            calls.map(|call| ChatToolCall { id: &call.id, name: &call.name, arguments: &call.arguments }).collect()
        })
        .collect();
    let messages = conversation.turns.iter().zip(&calls).map(|(turn, tool_calls)| ChatMessage {
        role: &turn.role,
        content: &turn.content,
        name: turn.name.as_deref(),
        tool_calls,
        tool_call_id: turn.tool_call_id.as_deref(),
    });
    let messages: Vec<ChatMessage<'_>> = messages.collect();
    let tools = conversation.tools.iter().map(|tool| ChatTool {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: &tool.parameters,
        strict: tool.strict,
    });
    let tools: Vec<ChatTool<'_>> = tools.collect();
    let prompt = ChatPrompt { tools: &tools, now_seconds: conversation.now_seconds, ..ChatPrompt::new(&messages) };
    model().render(&prompt)
}

/// Borrows every session; the same one twice is refused.
fn borrow_all<'call>(
    sessions: &'call [SessionBorrow<'_>],
) -> Result<Vec<std::cell::RefMut<'call, Session>>, ModelError> {
    let borrow = |session: &'call SessionBorrow<'_>| {
        let session = session.get::<RefCell<Session>>().try_borrow_mut();
        session.map_err(|_| ModelError::InvalidUse("the same session twice in a list".to_owned()))
    };
    sessions.iter().map(borrow).collect()
}

impl GuestSession for RefCell<Session> {
    fn new(sampling: Sampling, answer_start: u32) -> Self {
        let sampling = obsidian_model::Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            seed: sampling.seed,
            choice: sampling.choice,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            logit_bias: sampling.logit_bias.into(),
        };
        RefCell::new(Session::new(model(), sampling, answer_start as usize))
    }

    fn feed(&self, ids: Vec<u32>) -> Result<(), ModelError> {
        self.borrow_mut().feed(model(), &ids).map_err(translate)
    }

    fn truncate(&self, length: u32) -> Result<(), ModelError> {
        self.borrow_mut().truncate(length).map_err(translate)
    }

    fn length(&self) -> u32 {
        self.borrow().length()
    }

    fn logits(&self) -> Result<Vec<u32>, ModelError> {
        let mut session = self.borrow_mut();
        let logits = WORKSPACE.with_borrow_mut(|workspace| session.logits(model(), workspace)).map_err(translate)?;
        Ok(logits.into_iter().map(f32::to_bits).collect())
    }

    fn draft_scored(&self, window: u32, alternatives: u32) -> Result<Vec<Scored>, ModelError> {
        let mut session = self.borrow_mut();
        let scored = WORKSPACE
            .with_borrow_mut(|workspace| session::draft_scored(model(), &mut session, window, alternatives, workspace));
        let scored = scored.map_err(translate)?;
        scored.into_iter().map(|(token, score)| describe(token, &score).map_err(translate)).collect()
    }
}

/// A score with the bytes of its tokens.
fn describe(token: u32, score: &obsidian_model::Score) -> Result<Scored, Failure> {
    let candidate =
        |id: u32, logprob: f32| Ok::<_, Failure>(Candidate { id, logprob, bytes: model().tokenizer().decode(&[id])? });
    let alternatives = score.alternatives.iter().map(|(id, logprob)| candidate(*id, *logprob));
    Ok(Scored { token: candidate(token, score.logprob)?, alternatives: alternatives.collect::<Result<_, _>>()? })
}

fn translate(failure: Failure) -> ModelError {
    match failure {
        Failure::ContextFull(length) => ModelError::ContextFull(length),
        Failure::InvalidToken(id) => ModelError::InvalidToken(id),
        Failure::Template(reason) => ModelError::Template(reason),
        Failure::InvalidUse(reason) => ModelError::InvalidUse(reason),
        Failure::Read(_) | Failure::Write(_) | Failure::Malformed(_) | Failure::Unsupported(_) | Failure::NotFinite => {
            ModelError::InvalidModel(failure.to_string())
        }
    }
}

export!(Drafter);
