//! One arithmetic: equal bits however the rows are batched, split, truncated and whichever kernel runs.

use obsidian_model::gguf::TensorKind;
use obsidian_model::synthetic::Synthetic;
use obsidian_model::{Architecture, Kernel, KvCache, Lane, Model, ModelError, Wanted, Workspace};
use proptest::prelude::*;

fn model(synthetic: &Synthetic) -> Model {
    Model::from_bytes(synthetic.file()).unwrap()
}

fn feed(model: &Model, cache: &mut KvCache, ids: &[u32], wanted: Wanted) -> Vec<Vec<u32>> {
    let mut workspace = Workspace::new();
    let logits = model.forward(&mut [Lane { cache, ids, wanted }], &mut workspace).unwrap();
    let lane = logits.lane(0);
    (0..lane.rows()).map(|row| bits(lane.row(row))).collect()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|logit| logit.to_bits()).collect()
}

/// Logits after every token, one token at a time.
fn one_by_one(model: &Model, ids: &[u32]) -> Vec<Vec<u32>> {
    let mut cache = model.new_cache();
    ids.iter().flat_map(|id| feed(model, &mut cache, &[*id], Wanted::All)).collect()
}

fn ids(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32).map(|index| (index * 7919 + seed * 104_729) % 267).collect()
}

fn shapes() -> Vec<Synthetic> {
    let base = Synthetic::default();
    let mut shapes = vec![
        base.clone(),
        Synthetic { kind: TensorKind::F32, tied: false, seed: 2, ..base.clone() },
        Synthetic { kind: TensorKind::F16, key_heads: 4, seed: 3, ..base.clone() },
        Synthetic {
            width: 160,
            heads: 5,
            key_heads: 1,
            feed_width: 416,
            vocabulary: 301,
            tied: false,
            seed: 4,
            ..base
        },
    ];
    let architectures = Architecture::ALL.into_iter().cycle();
    let kinds = [TensorKind::BF16, TensorKind::Q4_0, TensorKind::Q5_0, TensorKind::Q4K, TensorKind::Q6K];
    shapes.extend(architectures.zip(kinds).map(|(architecture, kind)| Synthetic {
        architecture,
        width: 256,
        feed_width: 256,
        layers: 1,
        kind,
        varied_norms: true,
        ..Synthetic::default()
    }));
    shapes
}

#[test]
fn a_prompt_at_once_equals_token_by_token() {
    for synthetic in shapes() {
        let model = model(&synthetic);
        let ids = ids(100, 5);
        let expected = one_by_one(&model, &ids);
        assert_eq!(feed(&model, &mut model.new_cache(), &ids, Wanted::All), expected);
        let mut cache = model.new_cache();
        let mut split = Vec::new();
        for part in ids.chunks(37) {
            split.extend(feed(&model, &mut cache, part, Wanted::All));
        }
        assert_eq!(split, expected);
        let last = feed(&model, &mut model.new_cache(), &ids, Wanted::Last);
        assert_eq!(last, expected[99..]);
    }
}

#[test]
fn a_batch_equals_its_sequences_alone() {
    for synthetic in shapes() {
        let model = model(&synthetic);
        let prompts: Vec<Vec<u32>> = [3, 50, 1, 33, 2].iter().map(|count| ids(*count, *count as u32)).collect();
        let mut caches: Vec<KvCache> = prompts.iter().map(|_| model.new_cache()).collect();
        let mut workspace = Workspace::new();
        let mut lanes: Vec<Lane<'_>> =
            caches.iter_mut().zip(&prompts).map(|(cache, ids)| Lane { cache, ids, wanted: Wanted::All }).collect();
        let logits = model.forward(&mut lanes, &mut workspace).unwrap();
        for (index, prompt) in prompts.iter().enumerate() {
            let lane = logits.lane(index);
            let rows: Vec<Vec<u32>> = (0..lane.rows()).map(|row| bits(lane.row(row))).collect();
            assert_eq!(rows, one_by_one(&model, prompt), "lane {index}");
        }
        assert_eq!(caches[1].len(), 50);
    }
}

#[test]
fn truncation_is_as_if_never_fed() {
    let model = model(&Synthetic::default());
    let (kept, dropped, after) = (ids(40, 1), ids(45, 2), ids(20, 3));
    let mut cache = model.new_cache();
    feed(&model, &mut cache, &kept, Wanted::None);
    feed(&model, &mut cache, &dropped, Wanted::None);
    cache.truncate(40).unwrap();
    let logits = feed(&model, &mut cache, &after, Wanted::All);
    let mut fresh = model.new_cache();
    feed(&model, &mut fresh, &kept, Wanted::None);
    assert_eq!(logits, feed(&model, &mut fresh, &after, Wanted::All));
    assert!(matches!(cache.truncate(61), Err(ModelError::InvalidUse(_))));
    cache.truncate(0).unwrap();
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[test]
fn every_kernel_gives_the_same_logits() {
    for synthetic in shapes() {
        let file = synthetic.file();
        let ids = ids(70, 9);
        let run = |kernel: Kernel| {
            let model = Model::from_bytes(file.clone()).unwrap().with_kernel(kernel);
            feed(&model, &mut model.new_cache(), &ids, Wanted::All)
        };
        let expected = run(Kernel::Portable);
        for kernel in Kernel::available() {
            assert_eq!(run(kernel), expected, "{kernel:?}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_logits() {
    for synthetic in shapes() {
        // Wide enough that the work is split.
        let model = model(&Synthetic { feed_width: 3_328, ..synthetic });
        let ids = ids(90, 6);
        let run = |workspace: &mut Workspace| {
            let mut cache = model.new_cache();
            let mut rows = Vec::new();
            for part in [&ids[..64], &ids[64..65], &ids[65..]] {
                let lane = Lane { cache: &mut cache, ids: part, wanted: Wanted::All };
                let logits = model.forward(&mut [lane], workspace).unwrap();
                rows.extend((0..part.len()).map(|row| bits(logits.lane(0).row(row))));
            }
            rows
        };
        let expected = run(&mut Workspace::new());
        for threads in [2, 3, 7] {
            assert_eq!(run(&mut Workspace::with_threads(threads).unwrap()), expected, "{threads} threads");
        }
    }
}

/// The bits of this model's logits are a contract across machines: a change is a new numerics id.
#[test]
fn the_logits_are_pinned() {
    let model = model(&Synthetic::default());
    let rows = feed(&model, &mut model.new_cache(), &ids(48, 11), Wanted::Last);
    let shown: Vec<String> = rows[0].iter().take(16).map(|bits| format!("{bits:08x}")).collect();
    insta::assert_snapshot!(shown.join(" "));
}

#[test]
fn a_refused_call_changes_nothing() {
    let model = model(&Synthetic { context: 40, ..Synthetic::default() });
    let mut workspace = Workspace::new();
    let (mut first, mut second) = (model.new_cache(), model.new_cache());
    feed(&model, &mut second, &ids(30, 1), Wanted::None);
    let long = ids(11, 2);
    let mut lanes = [
        Lane { cache: &mut first, ids: &[1, 2], wanted: Wanted::Last },
        Lane { cache: &mut second, ids: &long, wanted: Wanted::Last },
    ];
    assert_eq!(model.forward(&mut lanes, &mut workspace).unwrap_err(), ModelError::ContextFull(40));
    lanes[1].ids = &[288];
    assert_eq!(model.forward(&mut lanes, &mut workspace).unwrap_err(), ModelError::InvalidToken(288));
    lanes[1].ids = &[];
    assert!(matches!(model.forward(&mut lanes, &mut workspace).unwrap_err(), ModelError::InvalidUse(_)));
    assert_eq!((first.len(), second.len()), (0, 30));
    let other = Model::from_bytes(Synthetic { layers: 3, ..Synthetic::default() }.file()).unwrap();
    let mut foreign = other.new_cache();
    let mut lanes = [Lane { cache: &mut foreign, ids: &[1], wanted: Wanted::Last }];
    assert!(matches!(model.forward(&mut lanes, &mut workspace).unwrap_err(), ModelError::InvalidUse(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Any way of feeding and truncating ends in the logits of the tokens that are left.
    #[test]
    fn only_the_tokens_held_matter(
        steps in proptest::collection::vec((0_usize..40, 0_usize..40), 1..6),
        seed in 0_u32..100,
    ) {
        let model = model(&Synthetic::default());
        let mut cache = model.new_cache();
        let mut held = Vec::new();
        for (index, (fed, dropped)) in steps.iter().enumerate() {
            let new = ids(*fed, seed + index as u32);
            feed(&model, &mut cache, &new, Wanted::None);
            held.extend(new);
            held.truncate(held.len().saturating_sub(*dropped));
            cache.truncate(held.len() as u32).unwrap();
        }
        let logits = feed(&model, &mut cache, &[7], Wanted::Last);
        held.push(7);
        prop_assert_eq!(logits, feed(&model, &mut model.new_cache(), &held, Wanted::Last));
    }
}
