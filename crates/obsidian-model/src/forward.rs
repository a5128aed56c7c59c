//! The one forward pass: prefill, decoding, verification and batches of sessions are the same code.
//!
//! Every row (one token of one sequence) is computed by operations whose order does not depend on the
//! other rows, so batches, splits of a prompt and single tokens give equal bits.

use crate::cache::KvCache;
use crate::error::ModelError;
use crate::gguf::TensorKind;
use crate::kernel::portable::{self, Attention};
use crate::kernel::{Activations, Kernel, decode};
use crate::math;
use crate::source::Source;
use crate::threads::Threads;
use crate::weights::{HeadNorms, Layer, Matrix, Weights};

/// Rows computed in one pass over the weights.
const ROWS_PER_PASS: usize = 64;
/// Matrix rows are split between threads at multiples of this, so that kernels see whole tiles.
const ROW_GRANULE: usize = 16;

/// Which logits a lane wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: the tokens only fill the cache.
    None,
    /// Those after the last token.
    Last,
    /// Those after every token.
    All,
}

/// One sequence's part of a forward pass.
#[derive(Debug)]
pub struct Lane<'call> {
    /// The sequence; the new tokens are appended to it.
    pub cache: &'call mut KvCache,
    /// The new tokens.
    pub ids: &'call [u32],
    /// Which logits to compute.
    pub wanted: Wanted,
}

/// Scratch memory of forward passes, and the threads that compute them; reuse it.
#[derive(Debug, Default)]
pub struct Workspace {
    hidden: Vec<f32>,
    normed: Vec<f32>,
    quantised: Activations,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    projected: Vec<f32>,
    gates: Vec<f32>,
    ups: Vec<f32>,
    angles: Vec<(f32, f32)>,
    logits: Vec<f32>,
    spans: Vec<(usize, usize)>,
    threads: Threads,
}

impl Workspace {
    /// Empty scratch memory; passes are computed by the calling thread alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty scratch memory; passes are computed by the calling thread and `threads` − 1 more, which live
    /// as long as this value. The results do not depend on the number.
    ///
    /// # Errors
    /// A thread cannot be started.
    #[cfg(not(target_family = "wasm"))]
    pub fn with_threads(threads: usize) -> std::io::Result<Self> {
        Ok(Self { threads: Threads::new(threads)?, ..Self::default() })
    }
}

/// The logits of one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'workspace> {
    floats: &'workspace [f32],
    spans: &'workspace [(usize, usize)],
    vocabulary: usize,
}

/// The logits of one lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneLogits<'workspace> {
    floats: &'workspace [f32],
    vocabulary: usize,
}

impl<'workspace> Logits<'workspace> {
    /// The rows of lane `index`; none if there is no such lane or it wanted none.
    pub fn lane(&self, index: usize) -> LaneLogits<'workspace> {
        let (start, rows) = self.spans.get(index).copied().unwrap_or((0, 0));
        let floats = &self.floats[start * self.vocabulary..(start + rows) * self.vocabulary];
        LaneLogits { floats, vocabulary: self.vocabulary }
    }
}

impl<'workspace> LaneLogits<'workspace> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.floats.len() / self.vocabulary
    }

    /// Row `index`: one logit for each token of the vocabulary. Empty if there is no such row.
    pub fn row(&self, index: usize) -> &'workspace [f32] {
        self.floats.chunks_exact(self.vocabulary).nth(index).unwrap_or(&[])
    }

    /// The last row. Empty if there is none.
    pub fn last(&self) -> &'workspace [f32] {
        self.row(self.rows().wrapping_sub(1))
    }
}

/// One token on its way through the layers.
#[derive(Clone, Copy)]
struct Row {
    lane: usize,
    position: usize,
    id: u32,
    wanted: bool,
}

/// A model's weights with the files they lie in and the kernel that reads them.
pub(crate) struct Engine<'model> {
    pub(crate) weights: &'model Weights,
    pub(crate) sources: &'model [Source],
    pub(crate) kernel: Kernel,
}

impl Engine<'_> {
    pub(crate) fn forward<'workspace>(
        &self,
        lanes: &mut [Lane<'_>],
        workspace: &'workspace mut Workspace,
    ) -> Result<Logits<'workspace>, ModelError> {
        let rows = self.prepare(lanes, workspace)?;
        let before: Vec<u32> = lanes.iter().map(|lane| lane.cache.len()).collect();
        workspace.logits.clear();
        for rows in rows.chunks(ROWS_PER_PASS) {
            self.pass(rows, lanes, workspace);
        }
        if workspace.logits.iter().any(|logit| !logit.is_finite()) {
            for (lane, length) in lanes.iter_mut().zip(before) {
                lane.cache.truncate(length)?;
            }
            return Err(ModelError::NotFinite);
        }
        let vocabulary = self.weights.shape.vocabulary;
        Ok(Logits { floats: &workspace.logits, spans: &workspace.spans, vocabulary })
    }

    /// Checks the call before anything changes, makes room in the caches and lists the rows.
    fn prepare(&self, lanes: &mut [Lane<'_>], workspace: &mut Workspace) -> Result<Vec<Row>, ModelError> {
        let shape = &self.weights.shape;
        for lane in lanes.iter() {
            if *lane.cache.shape() != shape.cache {
                return Err(ModelError::InvalidUse("the cache belongs to another model".to_owned()));
            }
            if let Some(id) = lane.ids.iter().find(|id| **id as usize >= shape.vocabulary) {
                return Err(ModelError::InvalidToken(*id));
            }
            if lane.ids.is_empty() && lane.wanted == Wanted::Last {
                return Err(ModelError::InvalidUse("logits of a lane without tokens".to_owned()));
            }
        }
        lanes.iter_mut().try_for_each(|lane| lane.cache.reserve(lane.ids.len()))?;
        let mut rows = Vec::new();
        let mut first = 0;
        workspace.spans.clear();
        for (index, lane) in lanes.iter().enumerate() {
            let start = lane.cache.len() as usize;
            for (offset, id) in lane.ids.iter().enumerate() {
                let wanted = match lane.wanted {
                    Wanted::None => false,
                    Wanted::Last => offset + 1 == lane.ids.len(),
                    Wanted::All => true,
                };
                rows.push(Row { lane: index, position: start + offset, id: *id, wanted });
            }
            let count = match lane.wanted {
                Wanted::None => 0,
                Wanted::Last => 1,
                Wanted::All => lane.ids.len(),
            };
            workspace.spans.push((first, count));
            first += count;
        }
        Ok(rows)
    }

    fn pass(&self, rows: &[Row], lanes: &mut [Lane<'_>], workspace: &mut Workspace) {
        let width = self.weights.shape.width;
        workspace.hidden.resize(rows.len() * width, 0.0);
        for (row, hidden) in rows.iter().zip(workspace.hidden.chunks_exact_mut(width)) {
            self.decode_row(&self.weights.embedding, row.id as usize, hidden);
        }
        self.set_angles(rows, &mut workspace.angles);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.attention(index, layer, rows, lanes, workspace);
            self.feed_forward(layer, workspace);
        }
        for row in rows {
            lanes[row.lane].cache.advance(1);
        }
        self.logits(rows, workspace);
    }

    fn set_angles(&self, rows: &[Row], angles: &mut Vec<(f32, f32)>) {
        angles.clear();
        for row in rows {
            let rope = &self.weights.rope;
            angles.extend(rope.frequencies.iter().map(|frequency| {
                let (sine, cosine) = math::sin_cos(row.position as f64 * frequency);
                ((cosine * rope.magnitude) as f32, (sine * rope.magnitude) as f32)
            }));
        }
    }

    fn attention(&self, index: usize, layer: &Layer, rows: &[Row], lanes: &mut [Lane<'_>], workspace: &mut Workspace) {
        let Workspace { hidden, normed, quantised, queries, keys, values, attended, projected, threads, .. } =
            workspace;
        let shape = &self.weights.shape;
        self.normalise(hidden, &layer.attention_norm, normed);
        let kinds = [layer.query.kind, layer.key.kind, layer.value.kind];
        quantised.set(normed, shape.width, self.kernel, kinds);
        for (matrix, output) in [(&layer.query, &mut *queries), (&layer.key, keys), (&layer.value, values)] {
            self.multiply(matrix, normed, quantised, threads, output);
        }
        if let Some(HeadNorms { query, key }) = &layer.head_norms {
            self.normalise_heads(queries, query);
            self.normalise_heads(keys, key);
        }
        let pairing = self.weights.rope.pairing;
        let pairs = self.weights.rope.frequencies.len();
        let (query_width, key_width) = (layer.query.rows, layer.key.rows);
        for (at, row) in rows.iter().enumerate() {
            let angles = &workspace.angles[at * pairs..][..pairs];
            let (query, key) =
                (&mut queries[at * query_width..][..query_width], &mut keys[at * key_width..][..key_width]);
            self.kernel.rotate(query, shape.head_size, angles, pairing);
            self.kernel.rotate(key, shape.head_size, angles, pairing);
            lanes[row.lane].cache.store(index, row.position, key, &values[at * key_width..][..key_width]);
        }
        self.attend(index, rows, lanes, queries, threads, attended);
        quantised.set(attended, query_width, self.kernel, [layer.attention_output.kind]);
        self.multiply(&layer.attention_output, attended, quantised, threads, projected);
        add(hidden, projected);
    }

    fn feed_forward(&self, layer: &Layer, workspace: &mut Workspace) {
        let Workspace { hidden, normed, quantised, gates, ups, projected, threads, .. } = workspace;
        self.normalise(hidden, &layer.feed_norm, normed);
        quantised.set(normed, self.weights.shape.width, self.kernel, [layer.gate.kind, layer.up.kind]);
        self.multiply(&layer.gate, normed, quantised, threads, gates);
        self.multiply(&layer.up, normed, quantised, threads, ups);
        self.kernel.gate(gates, ups);
        quantised.set(gates, self.weights.shape.feed_width, self.kernel, [layer.down.kind]);
        self.multiply(&layer.down, gates, quantised, threads, projected);
        add(hidden, projected);
    }

    fn logits(&self, rows: &[Row], workspace: &mut Workspace) {
        let width = self.weights.shape.width;
        let Workspace { hidden, normed, quantised, projected, threads, logits, .. } = workspace;
        let mut kept = 0;
        for (at, _) in rows.iter().enumerate().filter(|(_, row)| row.wanted) {
            hidden.copy_within(at * width..(at + 1) * width, kept * width);
            kept += 1;
        }
        if kept == 0 {
            return;
        }
        hidden.truncate(kept * width);
        self.normalise(hidden, &self.weights.output_norm, normed);
        quantised.set(normed, width, self.kernel, [self.weights.output.kind]);
        self.multiply(&self.weights.output, normed, quantised, threads, projected);
        logits.extend_from_slice(projected);
    }

    fn normalise(&self, hidden: &[f32], weights: &[f32], normed: &mut Vec<f32>) {
        let width = weights.len();
        normed.resize(hidden.len(), 0.0);
        for (row, output) in hidden.chunks_exact(width).zip(normed.chunks_exact_mut(width)) {
            self.kernel.normalise(row, weights, self.weights.shape.epsilon, output);
        }
    }

    /// Normalises every head by itself, in place.
    fn normalise_heads(&self, rows: &mut [f32], weights: &[f32]) {
        for head in rows.chunks_exact_mut(weights.len()) {
            portable::normalise_in_place(head, weights, self.weights.shape.epsilon);
        }
    }

    /// `outputs[row][i]` = row `i` of `matrix` · row of the inputs, which come as floats and quantised, plus
    /// the bias.
    fn multiply(
        &self,
        matrix: &Matrix,
        floats: &[f32],
        quantised: &Activations,
        threads: &mut Threads,
        outputs: &mut Vec<f32>,
    ) {
        let count = floats.len() / matrix.columns;
        outputs.resize(count * matrix.rows, 0.0);
        let bytes = self.bytes(matrix);
        let width = bytes.len() / matrix.rows;
        let cost = count * matrix.rows * matrix.columns;
        threads.split(outputs, count, ROW_GRANULE, cost, &|outputs, decoded| {
            let rows = outputs.range();
            let bytes = &bytes[rows.start * width..rows.end * width];
            match matrix.kind {
                TensorKind::F32 | TensorKind::F16 | TensorKind::BF16 => {
                    decoded.resize(matrix.columns, 0.0);
                    for (at, bytes) in bytes.chunks_exact(width).enumerate() {
                        decode(matrix.kind, bytes, decoded);
                        for (input, floats) in floats.chunks_exact(matrix.columns).enumerate() {
                            outputs.row(input)[at] = portable::dot(decoded, floats);
                        }
                    }
                }
                kind => self.kernel.multiply(kind, bytes, quantised, outputs),
            }
        });
        if let Some(bias) = &matrix.bias {
            outputs.chunks_exact_mut(matrix.rows).for_each(|row| add(row, bias));
        }
    }

    /// Attention of all rows to what their sequences hold, head by head.
    fn attend(
        &self,
        layer: usize,
        rows: &[Row],
        lanes: &[Lane<'_>],
        queries: &[f32],
        threads: &mut Threads,
        attended: &mut Vec<f32>,
    ) {
        let shape = &self.weights.shape;
        let groups = shape.cache.heads;
        let group = shape.heads / groups * shape.head_size;
        attended.resize(queries.len(), 0.0);
        let positions: usize = rows.iter().map(|row| row.position + 1).sum();
        threads.split(attended, 1, group, 2 * positions * groups * group, &|outputs, scores| {
            let first = outputs.range().start / group;
            for (at, output) in outputs.row(0).chunks_exact_mut(group).enumerate() {
                let (row, head) = ((first + at) / groups, (first + at) % groups);
                self.kernel.attend(&mut Attention {
                    queries: &queries[(first + at) * group..][..group],
                    head_size: shape.head_size,
                    slabs: lanes[rows[row].lane].cache.slabs(layer, head),
                    positions: rows[row].position + 1,
                    scale: 1.0 / (shape.head_size as f32).sqrt(),
                    scores,
                    outputs: output,
                });
            }
        });
    }

    /// The bytes of a matrix.
    fn bytes(&self, matrix: &Matrix) -> &[u8] {
        &self.sources[matrix.part].bytes()[matrix.range.clone()]
    }

    /// One row of a matrix as floats.
    fn decode_row(&self, matrix: &Matrix, row: usize, floats: &mut [f32]) {
        let bytes = self.bytes(matrix);
        let width = bytes.len() / matrix.rows;
        decode(matrix.kind, &bytes[row * width..][..width], floats);
    }
}

fn add(hidden: &mut [f32], projected: &[f32]) {
    hidden.iter_mut().zip(projected).for_each(|(hidden, value)| *hidden += value);
}
