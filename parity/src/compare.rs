//! One model through both engines.

use std::path::Path;

use anyhow::{Context, Result};
use obsidian_model::{KvCache, Lane, Model, Wanted, Workspace};

use crate::peer::{Cache, Peer, Sequence};

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Greedy tokens that were equal before the first that was not.
    pub equal: usize,
    /// Greedy tokens compared.
    pub decoded: usize,
    /// Largest difference of two logits, over prompt and decoded tokens.
    pub difference: f32,
    /// Root mean square of the differences.
    pub typical: f32,
    /// Root mean square of our logits around their mean: what a difference must be seen against.
    pub spread: f32,
    /// Smallest distance between our best and second-best logit at a decoded token.
    pub margin: f32,
    /// The tokens that were equal.
    pub tokens: Vec<u32>,
}

impl Found {
    /// The largest difference in units of the logits' own spread.
    pub fn relative(&self) -> f32 {
        self.difference / self.spread
    }

    /// The typical difference in units of the logits' own spread.
    pub fn relative_typical(&self) -> f32 {
        self.typical / self.spread
    }
}

/// Feeds `prompt` and decodes `count` tokens greedily in both engines. Each follows its own choices until they
/// differ; logits are compared as long as they do not.
///
/// # Errors
/// An engine cannot load or run the model.
pub fn compare(peer: &Peer, path: &Path, prompt: &[u32], count: usize) -> Result<Found> {
    let model = Model::open(path).with_context(|| format!("we cannot load {}", path.display()))?;
    let theirs = peer.load(path)?;
    let mut ours = Ours { cache: model.new_cache(), model: &model, workspace: Workspace::new() };
    let mut theirs = peer.sequence(&theirs, prompt.len() + count + 1, Cache::Exact)?;
    let mut found = Found {
        equal: 0,
        decoded: count,
        difference: 0.0,
        typical: 0.0,
        spread: 0.0,
        margin: f32::MAX,
        tokens: Vec::new(),
    };
    let mut rows = both(&mut ours, &mut theirs, prompt)?;
    let (mut squares, mut differences) = (0.0_f64, 0.0_f64);
    let mut compared = 0_usize;
    loop {
        for (ours, theirs) in rows.0.iter().zip(&rows.1) {
            for difference in ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs()) {
                // NaN must not vanish in a maximum.
                found.difference = if difference <= found.difference { found.difference } else { difference };
                differences += f64::from(difference).powi(2) / ours.len() as f64;
            }
            squares += variance(ours);
            compared += 1;
        }
        found.spread = (squares / compared as f64).sqrt() as f32;
        found.typical = (differences / compared as f64).sqrt() as f32;
        if found.equal == count {
            return Ok(found);
        }
        let (Some(our_row), Some(their_row)) = (rows.0.last(), rows.1.last()) else { return Ok(found) };
        let (token, margin) = best(our_row);
        found.margin = found.margin.min(margin);
        if token != best(their_row).0 {
            return Ok(found);
        }
        found.equal += 1;
        found.tokens.push(token);
        rows = both(&mut ours, &mut theirs, &[token])?;
    }
}

struct Ours<'model> {
    model: &'model Model,
    cache: KvCache,
    workspace: Workspace,
}

type Rows = Vec<Vec<f32>>;

/// The logits after each of `ids` in both engines.
fn both(ours: &mut Ours<'_>, theirs: &mut Sequence<'_>, ids: &[u32]) -> Result<(Rows, Rows)> {
    let mut lanes = [Lane { cache: &mut ours.cache, ids, wanted: Wanted::All }];
    let logits = ours.model.forward(&mut lanes, &mut ours.workspace)?;
    let lane = logits.lane(0);
    let our_rows = (0..lane.rows()).map(|row| lane.row(row).to_vec()).collect();
    Ok((our_rows, theirs.feed(ids, ids.len())?))
}

/// The best token and how far the second-best is behind it.
fn best(row: &[f32]) -> (u32, f32) {
    let (mut best, mut at, mut second) = (f32::MIN, 0, f32::MIN);
    for (index, logit) in (0_u32..).zip(row) {
        if *logit > best {
            (second, best, at) = (best, *logit, index);
        } else if *logit > second {
            second = *logit;
        }
    }
    (at, best - second)
}

fn variance(row: &[f32]) -> f64 {
    let mean = row.iter().map(|logit| f64::from(*logit)).sum::<f64>() / row.len() as f64;
    row.iter().map(|logit| (f64::from(*logit) - mean).powi(2)).sum::<f64>() / row.len() as f64
}
