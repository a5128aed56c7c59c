//! The function engine: a fresh instance per request, and failures that stay where they are.

use obsidian_sandbox::{Refusal, SandboxError, ShieldSandbox};
use obsidian_shield::{MaskError, ShieldKey, Vault};
use obsidian_types::limits::MAX_PROMPT_BYTES;

use crate::engines;

fn hostile() -> ShieldSandbox {
    let artifact = obsidian_guests::hostile_shield().expect("embedded");
    ShieldSandbox::load(engines(), &artifact).expect("a shield")
}

fn shield() -> ShieldSandbox {
    let artifact = obsidian_guests::shield().expect("embedded");
    ShieldSandbox::load(engines(), &artifact).expect("a shield")
}

fn key() -> ShieldKey {
    ShieldKey::derive(&[7; 32], "conversation")
}

fn ask(shield: &ShieldSandbox, command: &str) -> Result<String, SandboxError> {
    let masked = shield.mask(&[command.to_owned()], &key())?;
    Ok(masked.fields[0].clone())
}

#[test]
fn the_sandboxed_shield_masks_like_the_native_one() {
    let fields = [
        "Write to alice@example.com or call +49 30 901820.".to_owned(),
        "card 4111 1111 1111 1111, again alice@example.com".to_owned(),
        String::new(),
    ];
    let shield = shield();
    let masked = shield.mask(&fields, &key()).expect("masked");
    let native = obsidian_shield::mask(&fields, &key()).expect("masked");
    assert_eq!(masked, native);
    assert!(!masked.vault.is_empty());
    assert!(!masked.fields.iter().any(|field| field.contains("alice")));

    let mut restorer = shield.restorer(&masked.vault).expect("a restorer");
    let mut restored = Vec::new();
    for byte in masked.fields[0].bytes() {
        restored.extend(restorer.push(&[byte]).expect("restored"));
    }
    restored.extend(restorer.finish().expect("restored"));
    assert_eq!(restored, fields[0].as_bytes());
}

#[test]
fn the_largest_request_fits_memory_and_copy_budget() {
    let engines = obsidian_sandbox::Engines::new(&obsidian_sandbox::EngineOptions {
        function_instances: 4,
        // The time of a debug machine under load is not what is tested.
        function_deadline: std::time::Duration::from_secs(60),
        ..crate::options(crate::shared_cache())
    });
    let artifact = obsidian_guests::shield().expect("embedded");
    let shield = ShieldSandbox::load(&engines.expect("engines start"), &artifact).expect("a shield");
    let text: String =
        (0..4_000).map(|index| format!("Write to person{index}@example.com about it, please. ")).collect();
    let padding = "All work and no play makes a long prompt. ".repeat((MAX_PROMPT_BYTES - text.len()) / 42);
    let fields = [text, padding];
    let masked = shield.mask(&fields, &key()).expect("masked");
    assert_eq!(masked.vault.len(), 4_000);
    assert!(shield.restorer(&masked.vault).is_ok());
}

#[test]
fn refusals_of_the_guest_are_typed() {
    let shield = shield();
    let many = vec!["x".repeat(1 << 20), "y".to_owned()];
    let refused = shield.mask(&many, &key());
    let too_large = |error| matches!(error, SandboxError::Refused(Refusal::Mask(MaskError::TooLarge { .. })));
    assert!(refused.is_err_and(too_large));
    assert!(ask(&hostile(), "large").is_err_and(too_large));
}

#[test]
fn every_way_to_fail_is_told_apart() {
    let hostile = hostile();
    let trap = |command, wanted: &str| match ask(&hostile, command) {
        Err(SandboxError::Trap { guest, reason }) => {
            assert_eq!(guest, "hostile_shield");
            assert!(reason.contains(wanted), "{command}: {reason}");
        }
        other => panic!("{command}: {other:?}"),
    };
    trap("trap", "unreachable");
    trap("recurse", "stack");
    trap("sleep", "waiting is not granted");
    trap("exit", "status");
    trap("huge", "");
    assert!(matches!(ask(&hostile, "loop"), Err(SandboxError::Deadline { limit_ms: 1_000, .. })));
    assert!(matches!(ask(&hostile, "allocate"), Err(SandboxError::Memory { .. })));
    assert!(matches!(ask(&hostile, "few"), Err(SandboxError::Contract { .. })));
    assert!(matches!(ask(&hostile, "forged"), Err(SandboxError::Contract { .. })));
    // Form is right, so this is for the seal to catch.
    assert_eq!(ask(&hostile, "alice@example.com").expect("echoed"), "alice@example.com");
}

#[test]
fn nothing_outside_can_be_reached() {
    assert_eq!(ask(&hostile(), "escape").expect("answers"), "");
}

#[test]
fn an_instance_remembers_nothing_of_the_one_before() {
    let hostile = hostile();
    // More calls than slots, so every slot is used again.
    for _ in 0..100 {
        assert_eq!(ask(&hostile, "remember").expect("answers"), "1");
    }
}

#[test]
fn hostile_guests_do_not_harm_the_good_one_beside_them() {
    let (hostile, shield) = (hostile(), shield());
    let fields = ["Write to alice@example.com".to_owned()];
    let expected = obsidian_shield::mask(&fields, &key()).expect("masked");
    std::thread::scope(|scope| {
        for command in ["trap", "loop", "allocate", "recurse", "huge", "sleep"] {
            let hostile = &hostile;
            scope.spawn(move || (0..3).for_each(|_| assert!(ask(hostile, command).is_err())));
        }
        for _ in 0..200 {
            assert_eq!(shield.mask(&fields, &key()).expect("masked"), expected);
        }
    });
}

#[test]
fn a_restorer_that_fails_ends_only_its_own_stream() {
    let hostile = hostile();
    let mut broken = hostile.restorer(&Vault::default()).expect("a restorer");
    let mut good = hostile.restorer(&Vault::default()).expect("a restorer");
    assert_eq!(good.push(b"one").expect("answers"), b"");
    assert!(matches!(broken.push(b"trap"), Err(SandboxError::Trap { .. })));
    assert!(matches!(broken.push(b"more"), Err(SandboxError::Trap { .. })));
    assert_eq!(good.push(b"two").expect("answers"), b"one");
    assert_eq!(good.finish().expect("answers"), b"two");
}

#[test]
fn a_full_pool_refuses_and_recovers() {
    let options = obsidian_sandbox::EngineOptions { function_instances: 2, ..crate::options(crate::shared_cache()) };
    let engines = obsidian_sandbox::Engines::new(&options).expect("engines start");
    let artifact = obsidian_guests::hostile_shield().expect("embedded");
    let shield = ShieldSandbox::load(&engines, &artifact).expect("a shield");
    let held: Vec<_> = (0..2).map(|_| shield.restorer(&Vault::default()).expect("room")).collect();
    assert!(matches!(ask(&shield, "hello"), Err(SandboxError::Overloaded { .. })));
    drop(held);
    assert_eq!(ask(&shield, "hello").expect("room again"), "hello");
}

#[test]
fn a_guest_of_another_world_is_refused() {
    let artifact = obsidian_guests::drafter().expect("embedded");
    let refused = ShieldSandbox::load(engines(), &artifact);
    assert!(refused.is_err_and(|error| matches!(error, SandboxError::Artifact { .. })));
}

/// `obsidian doctor` reckons with it when it says how many sandboxes a machine can carry.
#[test]
fn a_live_sandbox_has_few_mappings() {
    let shield = shield();
    let masked = obsidian_shield::mask(&["alice@example.com".to_owned()], &key()).expect("masked");
    let mappings = || std::fs::read_to_string("/proc/self/maps").expect("Linux").lines().count() as u64;
    // The first makes what all share.
    let first = shield.restorer(&masked.vault).expect("a sandbox");
    let before = mappings();
    let live: Vec<_> = (0..24).map(|_| shield.restorer(&masked.vault).expect("a sandbox")).collect();
    let each = (mappings() - before).div_ceil(live.len() as u64);
    eprintln!("{each} mappings for each live sandbox");
    assert!((1..=obsidian_types::limits::MAPPINGS_PER_SANDBOX).contains(&each), "{each}");
    drop(first);
}
