//! The bytes of every message, frozen, and that they read back as what was written.

use obsidian_wire::proto::{
    Append, Close, Down, Draft, Finish, Mode, NeedPrefix, Open, Opened, Prefix, Read, Sampling, Up, Verdict, down, up,
};
use proptest::prelude::*;
use prost::Message;

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open() -> Open {
    Open {
        versions: vec![1],
        model: "target".to_owned(),
        vocabulary_digest: vec![0xaa; 32],
        numerics_id: "obsidian-q8-1".to_owned(),
        sampling: Some(Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            seed: 42,
            choice: 1,
            ..Sampling::default()
        }),
        mode: Mode::Sync.into(),
        max_tokens: 256,
        end_ids: vec![2],
        tenant_salt: vec![0xbb; 16],
        prefix: Some(Prefix { blocks: 3, tip: vec![0xcc; 32] }),
        suffix: vec![1, 300, 70_000],
        answer_start: 0,
    }
}

/// What version 2 added. Everything before it is as it was.
fn adjusted() -> Open {
    let sampling = Sampling {
        frequency_penalty: 0.5,
        presence_penalty: -0.25,
        bias_ids: vec![7, 300],
        biases: vec![1.5, -100.0],
        ..open().sampling.unwrap()
    };
    Open { versions: vec![2], sampling: Some(sampling), answer_start: 51, ..open() }
}

#[test]
fn frames_are_frozen() {
    let opened = Opened {
        version: 1,
        model: "target".to_owned(),
        model_digest: vec![0xdd; 32],
        numerics_id: "obsidian-q8-1".to_owned(),
        reused_tokens: 48,
        prompt_tokens: 51,
    };
    let verdict = Verdict { epoch: 2, position: 51, accepted: 3, next: vec![300], finish: Finish::End.into() };
    let ups = [
        ("open", up::Kind::Open(open())),
        ("open with penalties and bias", up::Kind::Open(adjusted())),
        ("append", up::Kind::Append(Append { position: 0, ids: vec![1, 2, 300] })),
        ("draft", up::Kind::Draft(Draft { epoch: 2, position: 51, ids: vec![17, 300, 5, 4095] })),
        ("close", up::Kind::Close(Close {})),
        ("read", up::Kind::Read(Read { position: 300 })),
    ];
    let downs = [
        ("opened", down::Kind::Opened(opened)),
        ("need prefix", down::Kind::NeedPrefix(NeedPrefix { from: 0 })),
        ("verdict", down::Kind::Verdict(verdict)),
    ];
    let ups = ups.into_iter().map(|(name, kind)| format!("{name}: {}", hex(&Up::from(kind))));
    let downs = downs.into_iter().map(|(name, kind)| format!("{name}: {}", hex(&Down::from(kind))));
    insta::assert_snapshot!(ups.chain(downs).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_window_of_four_is_small() {
    let draft = Up::from(up::Kind::Draft(Draft { epoch: 9, position: 700, ids: vec![4000, 4001, 4002, 4003] }));
    let verdict = Verdict { epoch: 9, position: 700, accepted: 4, next: vec![4004], finish: 0 };
    assert!(draft.encoded_len() <= 20, "{}", draft.encoded_len());
    assert!(Down::from(down::Kind::Verdict(verdict)).encoded_len() <= 16);
}

fn ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..40)
}

fn ups() -> impl Strategy<Value = up::Kind> {
    let sampling = (any::<f32>(), any::<u32>(), any::<u64>());
    prop_oneof![
        (ids(), ids(), prop::collection::vec(any::<u8>(), 0..40), sampling, 0i32..3).prop_map(
            |(suffix, end_ids, tip, (temperature, top_k, seed), mode)| up::Kind::Open(Open {
                suffix,
                end_ids,
                mode,
                prefix: Some(Prefix { blocks: top_k, tip }),
                sampling: Some(Sampling { temperature, top_k, seed, ..Sampling::default() }),
                ..open()
            })
        ),
        (any::<u32>(), ids()).prop_map(|(position, ids)| up::Kind::Append(Append { position, ids })),
        (any::<u32>(), any::<u32>(), ids()).prop_map(|(epoch, position, ids)| up::Kind::Draft(Draft {
            epoch,
            position,
            ids
        })),
        Just(up::Kind::Close(Close {})),
        any::<u32>().prop_map(|position| up::Kind::Read(Read { position })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(kind in ups()) {
        let message = Up::from(kind);
        let bytes = message.encode_to_vec();
        let read = Up::decode(bytes.as_slice()).unwrap();
        // By bytes, because a NaN temperature is not equal to itself.
        prop_assert_eq!(read.encode_to_vec(), bytes);
    }

    #[test]
    fn verdicts_too(epoch: u32, position: u32, accepted: u32, next in ids(), finish in 0i32..3) {
        let message = Down::from(down::Kind::Verdict(Verdict { epoch, position, accepted, next, finish }));
        prop_assert_eq!(Down::decode(message.encode_to_vec().as_slice()).unwrap(), message);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Up::decode(bytes.as_slice());
        let _ = Down::decode(bytes.as_slice());
    }
}
