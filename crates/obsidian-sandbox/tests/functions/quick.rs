//! Code that is compiled quickly: it does the same, until better code is there.

use std::time::Instant;

use obsidian_sandbox::functions::{FunctionError, FunctionModule};
use obsidian_types::{FunctionGrants, FunctionLimits};

use crate::component::function;
use crate::fixture::{answer, block_on, fresh, node, tenant_id};

/// Status, body.
fn told(module: &FunctionModule, path: &str) -> (u16, String) {
    let (status, body) = block_on(answer(module, path));
    (status.as_u16(), body)
}

#[test]
fn what_was_compiled_quickly_answers_the_same_and_gives_way_to_better_code() {
    for (component, path) in [
        (obsidian_guests::functions_hello_std(), "/wasi"),
        (obsidian_guests::functions_hello_p3(), "/"),
        (obsidian_guests::functions_conformance(), "/headers"),
    ] {
        let component = fresh(&component.expect("the embedded bytes are the pinned ones"));
        for limits in [FunctionLimits::default(), FunctionLimits { fuel: Some(1 << 40), ..FunctionLimits::default() }] {
            let grants = || FunctionGrants { limits: limits.clone(), ..FunctionGrants::default() };
            let soon =
                |tenant: &str| node().host.load_soon(&component, &tenant_id(tenant), grants()).expect("it loads");
            let begun = Instant::now();
            let quick = soon("quick");
            let took = begun.elapsed();
            assert!(quick.is_quick(), "{}", component.name);
            let begun = Instant::now();
            let good = node().load(&component, "good", grants());
            eprintln!("{}: quickly in {took:?}, well in {:?}", component.name, begun.elapsed());
            assert!(!good.is_quick());
            let expected = told(&good, path);
            assert_eq!((told(&quick, path), expected.0), (expected.clone(), 200), "{}", component.name);
            assert!(!soon("late").is_quick(), "better code is at hand");
            drop(good);
            assert!(!soon("later").is_quick(), "and stays on the disk");
        }
    }
}

#[test]
fn what_the_quick_compiler_does_not_know_is_compiled_well_at_once() {
    let tail_call = "(func $one (result i32) (i32.const 1)) (func (export \"run\") (result i32) (return_call $one))";
    let component = fresh(&function("tail call", tail_call));
    let module = node().host.load_soon(&component, &tenant_id("quick"), FunctionGrants::default()).expect("it loads");
    assert!(!module.is_quick());
    assert_eq!(told(&module, "/").0, 200);
}

#[test]
fn limits_hold_in_quick_code_too() {
    let endless = "(func (export \"run\") (result i32) (loop (br 0)) (i32.const 1))";
    let component = fresh(&function("endless", endless));
    let limits = FunctionLimits { cpu_ms: 50, ..FunctionLimits::default() };
    let grants = FunctionGrants { limits, ..FunctionGrants::default() };
    let module = node().host.load_soon(&component, &tenant_id("quick"), grants).expect("it loads");
    assert!(module.is_quick());
    let ended = block_on(crate::fixture::get(&module, "/")).map(|response| response.status());
    assert!(matches!(ended, Err(FunctionError::CpuTime { .. })), "{ended:?}");
}
