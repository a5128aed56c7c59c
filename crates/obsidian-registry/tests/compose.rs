//! Components made of verified components: what fits, what does not, and always the same bytes.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use obsidian_registry::{Artifact, ComposeError, Digest, Facts, Verified};

/// A component of the text format, verified as guests inside the binary are.
fn part(name: &str, text: &str) -> Verified<Artifact> {
    let bytes: &'static [u8] = wat::parse_str(text).unwrap().leak();
    Verified::embedded(name, bytes, Digest::of(bytes)).unwrap()
}

/// Exports an instance `name` with one function that returns `value`, and a host import of its own.
fn counter(name: &str, interface: &str, value: u32) -> Verified<Artifact> {
    part(
        name,
        &format!(
            r#"(component
                (import "host:clock/now@1.0.0" (instance))
                (core module $m (func (export "f") (result i32) i32.const {value}))
                (core instance $i (instantiate $m))
                (func $f (result u32) (canon lift (core func $i "f")))
                (instance $e (export "next" (func $f)))
                (export "{interface}" (instance $e)))"#
        ),
    )
}

fn root() -> Verified<Artifact> {
    part(
        "root",
        r#"(component
            (import "host:log/log@1.0.0" (instance))
            (import "acme:count/up@1.0.0" (instance $up (export "next" (func (result u32)))))
            (import "acme:count/down@1.0.0" (instance $down (export "next" (func (result u32)))))
            (alias export $up "next" (func $f))
            (export "run" (func $f)))"#,
    )
}

#[test]
fn parts_satisfy_the_root_and_the_rest_is_still_asked_of_the_host() {
    let (up, down) = (counter("up", "acme:count/up@1.0.0", 1), counter("down", "acme:count/down@1.0.0", 2));
    let whole = Verified::composed("whole", &root(), &[&up, &down]).unwrap();
    assert_eq!((whole.name.as_str(), whole.digest()), ("whole", Digest::of(&whole.bytes)));
    let facts = Facts::of(&whole.bytes).unwrap();
    assert_eq!(facts.exports, ["run"]);
    let mut imports = facts.imports;
    imports.sort();
    assert_eq!(imports, ["host:clock/now@1.0.0", "host:log/log@1.0.0"]);
    // One part swapped alone is another whole.
    let other = Verified::composed("whole", &root(), &[&counter("up", "acme:count/up@1.0.0", 3), &down]).unwrap();
    assert_ne!(other.digest(), whole.digest());
    // A part that is left out stays an import.
    let half = Verified::composed("half", &root(), &[&up]).unwrap();
    assert!(Facts::of(&half.bytes).unwrap().imports.contains(&"acme:count/down@1.0.0".to_owned()));
}

#[test]
fn the_same_parts_give_the_same_bytes_in_any_order() {
    let (up, down) = (counter("up", "acme:count/up@1.0.0", 1), counter("down", "acme:count/down@1.0.0", 2));
    let first = Verified::composed("whole", &root(), &[&up, &down]).unwrap();
    for round in 0..32 {
        let parts = if round % 2 == 0 { [&down, &up] } else { [&up, &down] };
        assert_eq!(Verified::composed("whole", &root(), &parts).unwrap().digest(), first.digest());
    }
}

#[test]
fn a_compatible_version_fits() {
    let up = counter("up", "acme:count/up@1.2.0", 1);
    assert!(Verified::composed("whole", &root(), &[&up]).is_ok());
    let other = counter("up", "acme:count/up@2.0.0", 1);
    assert!(matches!(Verified::composed("whole", &root(), &[&other]), Err(ComposeError::Unused { .. })));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let up = counter("up", "acme:count/up@1.0.0", 1);
    let refused = |parts: &[&Verified<Artifact>]| Verified::composed("whole", &root(), parts).unwrap_err();
    assert_eq!(refused(&[]), ComposeError::Parts(0));
    assert!(matches!(Verified::composed("No", &root(), &[&up]), Err(ComposeError::Name(_))));
    let stranger = counter("stranger", "acme:other/thing@1.0.0", 1);
    assert!(refused(&[&up, &stranger]).to_string().contains("stranger exports nothing that root imports"));
    let again = counter("again", "acme:count/up@1.0.0", 2);
    assert!(matches!(refused(&[&up, &again]), ComposeError::Twice { .. }));
    let wrong = part(
        "wrong",
        r#"(component (core module $m (func (export "f") (result i64) i64.const 0))
            (core instance $i (instantiate $m)) (func $f (result u64) (canon lift (core func $i "f")))
            (instance $e (export "next" (func $f))) (export "acme:count/up@1.0.0" (instance $e)))"#,
    );
    assert!(matches!(refused(&[&wrong]), ComposeError::Shape { interface, .. } if interface == "acme:count/up@1.0.0"));
    let module = part("module", "(module)");
    assert!(matches!(refused(&[&module]), ComposeError::Part { .. }));
}
