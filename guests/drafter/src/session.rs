//! Conversations: tokens held, tokens computed, and steps over many of them at once.

use obsidian_model::{KvCache, Lane, Model, ModelError, Sampler, Sampling, Score, Wanted, Workspace};

/// One conversation.
///
/// Either `latest` holds the logits after the last token, or the last token is not computed yet.
pub struct Session {
    sampler: Sampler,
    /// Where the answer begins: the sampler has counted exactly the tokens from here on.
    answer_start: usize,
    tokens: Vec<u32>,
    cache: KvCache,
    latest: Option<Vec<f32>>,
}

impl Session {
    /// An empty conversation whose answer will begin after `answer_start` tokens.
    pub fn new(model: &Model, sampling: Sampling, answer_start: usize) -> Self {
        let sampler = Sampler::new(sampling);
        Self { sampler, answer_start, tokens: Vec::new(), cache: model.new_cache(), latest: None }
    }

    /// Tokens held, computed or not.
    pub fn length(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Appends tokens.
    pub fn feed(&mut self, model: &Model, ids: &[u32]) -> Result<(), ModelError> {
        let info = model.info();
        if let Some(id) = ids.iter().find(|id| **id >= info.vocabulary_size) {
            return Err(ModelError::InvalidToken(*id));
        }
        if self.tokens.len() + ids.len() > info.context_length as usize {
            return Err(ModelError::ContextFull(info.context_length));
        }
        if !ids.is_empty() {
            self.extend(ids);
        }
        Ok(())
    }

    fn extend(&mut self, ids: &[u32]) {
        let of_the_prompt = self.answer_start.saturating_sub(self.tokens.len()).min(ids.len());
        self.sampler.count(&ids[of_the_prompt..]);
        self.tokens.extend(ids);
        self.latest = None;
    }

    /// Keeps the first `length` tokens.
    pub fn truncate(&mut self, length: u32) -> Result<(), ModelError> {
        if length > self.length() {
            return Err(ModelError::InvalidUse("truncate past the end of the session".to_owned()));
        }
        if length == self.length() {
            return Ok(());
        }
        let of_the_answer = self.answer_start.max(length as usize).min(self.tokens.len());
        self.sampler.uncount(&self.tokens[of_the_answer..]);
        self.tokens.truncate(length as usize);
        self.latest = None;
        // The last token kept is computed once more: its logits are not kept.
        if self.cache.len() >= length {
            self.cache.truncate(length.saturating_sub(1))?;
        }
        Ok(())
    }

    /// Logits after the last token.
    pub fn logits(&mut self, model: &Model, workspace: &mut Workspace) -> Result<Vec<f32>, ModelError> {
        if let Some(latest) = &self.latest {
            return Ok(latest.clone());
        }
        let start = self.cache.len() as usize;
        let mut lanes = [Lane { cache: &mut self.cache, ids: &self.tokens[start..], wanted: Wanted::Last }];
        let row = model.forward(&mut lanes, workspace)?.lane(0).last().to_vec();
        self.latest = Some(row.clone());
        Ok(row)
    }

    fn is_full(&self, model: &Model) -> bool {
        self.length() >= model.info().context_length
    }
}

/// Picks and appends one token for each session; the weights are read once for all.
pub(crate) fn step(
    model: &Model,
    sessions: &mut [&mut Session],
    workspace: &mut Workspace,
) -> Result<Vec<u32>, ModelError> {
    if sessions.iter().any(|session| session.tokens.is_empty()) {
        return Err(ModelError::InvalidUse("a step with no token fed".to_owned()));
    }
    if sessions.iter().any(|session| session.is_full(model)) {
        return Err(ModelError::ContextFull(model.info().context_length));
    }
    let mut lanes: Vec<Lane<'_>> = Vec::with_capacity(sessions.len());
    for session in sessions.iter_mut() {
        let session = &mut **session;
        let (ids, wanted) = match session.latest {
            Some(_) => (&[][..], Wanted::None),
            None => (&session.tokens[session.cache.len() as usize..], Wanted::Last),
        };
        lanes.push(Lane { cache: &mut session.cache, ids, wanted });
    }
    let logits = model.forward(&mut lanes, workspace)?;
    let mut picked = Vec::with_capacity(sessions.len());
    for (index, session) in sessions.iter_mut().enumerate() {
        let position = session.length();
        let token = match &session.latest {
            Some(latest) => session.sampler.pick(latest, position),
            None => session.sampler.pick(logits.lane(index).last(), position),
        };
        session.extend(&[token]);
        picked.push(token);
    }
    Ok(picked)
}

/// Picks and appends up to `window` tokens for each session; a session stops after an end id or at its
/// context length.
pub(crate) fn draft(
    model: &Model,
    sessions: &mut [&mut Session],
    window: u32,
    workspace: &mut Workspace,
) -> Result<Vec<Vec<u32>>, ModelError> {
    let mut drafts = vec![Vec::new(); sessions.len()];
    for _ in 0..window {
        let is_open = |index: usize, session: &Session| {
            let ended = drafts[index].last().is_some_and(|token| model.info().end_ids.contains(token));
            !ended && !session.is_full(model)
        };
        let open: Vec<usize> = (0..sessions.len()).filter(|index| is_open(*index, sessions[*index])).collect();
        if open.is_empty() {
            break;
        }
        let chosen = sessions.iter_mut().enumerate().filter(|(index, _)| open.binary_search(index).is_ok());
        let mut chosen: Vec<&mut Session> = chosen.map(|(_, session)| &mut **session).collect();
        let tokens = step(model, &mut chosen, workspace)?;
        for (index, token) in open.iter().zip(tokens) {
            drafts[*index].push(token);
        }
    }
    Ok(drafts)
}

/// Like [`draft`] for one session, with the score of each token and of the likeliest `alternatives`.
pub(crate) fn draft_scored(
    model: &Model,
    session: &mut Session,
    window: u32,
    alternatives: u32,
    workspace: &mut Workspace,
) -> Result<Vec<(u32, Score)>, ModelError> {
    let mut scored: Vec<(u32, Score)> = Vec::new();
    for _ in 0..window {
        let ended = scored.last().is_some_and(|(token, _)| model.info().end_ids.contains(token));
        if ended || session.is_full(model) {
            break;
        }
        if session.tokens.is_empty() {
            return Err(ModelError::InvalidUse("a step with no token fed".to_owned()));
        }
        let logits = session.logits(model, workspace)?;
        let token = session.sampler.pick(&logits, session.length());
        session.extend(&[token]);
        scored.push((token, Score::of(&logits, token, alternatives as usize)));
    }
    Ok(scored)
}
