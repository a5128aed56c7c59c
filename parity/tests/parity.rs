//! Both engines choose the same 64 tokens, and their logits differ no more than stated.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use obsidian_model::gguf::TensorKind;
use obsidian_model::{Model, Specials, llama2c};
use obsidian_parity::cases::{Tolerance, cases, prompt, rounded_alike, tolerance};
use obsidian_parity::compare::{Found, compare};
use obsidian_parity::peer::Peer;

const TOKENS: usize = 64;

/// llama.cpp can be started once in a process; tests take turns.
fn peer() -> MutexGuard<'static, Option<Peer>> {
    static PEER: Mutex<Option<Peer>> = Mutex::new(None);
    let mut peer = PEER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    peer.get_or_insert_with(|| Peer::start().unwrap());
    peer
}

fn found(path: &Path, prompt: &[u32]) -> Found {
    compare(peer().as_ref().unwrap(), path, prompt, TOKENS).unwrap()
}

fn check(name: &str, found: &Found, tolerance: Tolerance) {
    assert_eq!(found.equal, TOKENS, "{name}: {found:?}");
    check_logits(name, found, tolerance);
}

fn check_logits(name: &str, found: &Found, tolerance: Tolerance) {
    println!("{name}: {:.1e} typical, {:.1e} largest", found.relative_typical(), found.relative());
    assert!(found.relative_typical() <= tolerance.typical, "{name}: {}, {found:?}", found.relative_typical());
    assert!(found.relative() <= tolerance.largest, "{name}: {}, {found:?}", found.relative());
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn random_models_of_every_architecture_and_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for case in cases() {
        std::fs::write(&path, case.model.file()).unwrap();
        let found = found(&path, &prompt());
        check(&case.name, &found, case.tolerance);
        // Otherwise equal tokens would be luck.
        let margin = found.margin / found.spread;
        assert!(margin > 2.0 * case.tolerance.largest, "{}: the tokens are a near tie: {found:?}", case.name);
    }
}

/// Where no activation lies so close to the middle between two steps that the engines round it differently, nothing is
/// left but the order of sums: the K formats are the same arithmetic, not merely close.
#[test]
fn rounded_alike_the_k_formats_agree_like_floats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for kind in [TensorKind::Q4K, TensorKind::Q6K] {
        let alike = (1..=8).filter(|seed| {
            std::fs::write(&path, rounded_alike(kind, *seed).file()).unwrap();
            found(&path, &prompt()).relative() <= tolerance(TensorKind::F32).largest
        });
        let alike = alike.count();
        println!("{}: {alike} of 8 models were rounded alike throughout", kind.name());
        assert!(alike >= 2, "{}: only {alike} of 8", kind.name());
    }
}

/// The prompts that the models were measured with, as their template renders them.
fn golden_prompts() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("models/golden/prompts.json")).unwrap();
    let prompts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let render = |prompt: &serde_json::Value| {
        let messages = prompt["messages"].as_array().unwrap().iter().map(|message| {
            let (role, content) = (message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
            format!("<|im_start|>{role}\n{content}<|im_end|>\n")
        });
        messages.collect::<String>() + "<|im_start|>assistant\n"
    };
    prompts.as_array().unwrap().iter().map(render).collect()
}

/// A trained model has outliers, so single logits differ more than a random model's; those of tokens that may come
/// next do not.
const TRAINED: Tolerance = Tolerance { typical: 0.02, largest: 0.5 };

#[test]
fn shipped_models() {
    for name in ["obsidian-target", "obsidian-draft"] {
        let path = repository().join(format!("models/{name}.gguf"));
        let model = Model::open(&path).unwrap();
        let (mut equal, prompts) = (0, golden_prompts());
        for text in &prompts {
            let ids = model.tokenizer().encode(text, Specials::Parse);
            let found = found(&path, &ids);
            check_logits(&format!("{name}, {text:?}"), &found, TRAINED);
            equal += usize::from(found.equal == TOKENS);
            // These leave no token in doubt; others have near ties, most of them after the end of the answer.
            if SURE.iter().any(|sure| text.contains(sure)) {
                assert_eq!(found.equal, TOKENS, "{name}, {text:?}: {found:?}");
            }
        }
        println!("{name}: {equal} of {} prompts with {TOKENS} equal tokens", prompts.len());
        assert!(3 * equal >= 2 * prompts.len(), "{name}: only {equal} of {} prompts", prompts.len());
    }
}

/// Prompts whose 64 tokens have margins, in both models.
const SURE: [&str; 5] = [
    "Show the parts of Obsidian as a table.",
    "Here is a note: Tariq lives in Chicago.",
    "The deadline of project Spoon is December 23.",
    "My account is PII_IBAN_J7QD18.",
    "Give me id, phone as JSON.",
];

#[test]
fn stories260k() {
    let folder = repository().join("../shared/data/lm");
    let (Ok(checkpoint), Ok(tokenizer)) =
        (std::fs::read(folder.join("stories260K.bin")), std::fs::read(folder.join("tok512.bin")))
    else {
        eprintln!("SKIPPED: stories260K.bin and tok512.bin are not beside the checkout");
        return;
    };
    let mut file = Vec::new();
    let length = checkpoint.len() as u64;
    llama2c::import(&mut checkpoint.as_slice(), length, &tokenizer, "stories260K", &mut file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stories260K.gguf");
    std::fs::write(&path, file).unwrap();
    let model = Model::open(&path).unwrap();
    for text in ["Once upon a time", "The little dog", "Tom and Lily went to the park."] {
        let ids = model.tokenizer().encode_prompt(text);
        check(&format!("stories260K, {text:?}"), &found(&path, &ids), tolerance(TensorKind::F32));
    }
}
