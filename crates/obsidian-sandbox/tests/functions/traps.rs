//! Traps by their kind, and limits that only a module written by hand can reach.

use http::StatusCode;
use obsidian_sandbox::functions::FunctionError;
use obsidian_types::{FunctionGrants, FunctionLimits};

use crate::component::function;
use crate::fixture::{answer, block_on, get, node, short};

/// What `run` does, and a word of the reason.
const TRAPS: [(&str, &str, &str); 10] = [
    ("division by zero", "(i32.div_s (i32.const 1) (i32.const 0))", "divide by zero"),
    ("overflow", "(i32.div_s (i32.const 0x80000000) (i32.const -1))", "overflow"),
    ("conversion", "(i32.trunc_f32_s (f32.const nan))", "conversion"),
    ("memory", "(i32.load (i32.const 65536))", "out of bounds"),
    ("memory far away", "(i32.load offset=0xffffffff (i32.const -1))", "out of bounds"),
    ("table", "(call_indirect (type $run) (i32.const 9))", "table"),
    ("empty element", "(call_indirect (type $run) (i32.const 0))", "uninitialized"),
    ("wrong signature", "(call_indirect (type $run) (i32.const 1))", "type mismatch"),
    ("null", "(struct.get $struct 0 (ref.null $struct))", "null"),
    ("unreachable", "(unreachable)", "unreachable"),
];

#[test]
fn each_kind_of_trap_is_named() {
    for (name, body, word) in TRAPS {
        let module = format!(
            "(type $run (func (result i32))) (type $struct (struct (field i32)))
             (memory 1) (table 4 funcref) (elem (i32.const 1) func $other)
             (func $other (param i64))
             (func (export \"run\") (result i32) {body})"
        );
        let module = node().load(&function(name, &module), "traps", FunctionGrants::default());
        let error = block_on(get(&module, "/")).expect_err("it traps");
        assert!(matches!(&error, FunctionError::Trap { reason, .. } if reason.contains(word)), "{name}: {error}");
    }
}

#[test]
fn the_component_around_a_module_answers() {
    let module = function("one", "(func (export \"run\") (result i32) (i32.const 1))");
    let module = node().load(&module, "one", FunctionGrants::default());
    assert_eq!(block_on(answer(&module, "/")), (StatusCode::OK, String::new()));
}

#[test]
fn tables_grow_to_their_limit() {
    let grow = |by: u32| {
        format!(
            "(table $t 1 funcref)
             (func (export \"run\") (result i32)
               (if (i32.eq (table.grow $t (ref.null func) (i32.const {by})) (i32.const -1)) (then unreachable))
               (i32.const 1))"
        )
    };
    let limits = FunctionLimits { table_elements: 1_000, ..short() };
    let grants = FunctionGrants { limits, ..FunctionGrants::default() };
    let fits = node().load(&function("fits", &grow(500)), "tables", grants.clone());
    assert_eq!(block_on(answer(&fits, "/")).0, StatusCode::OK);
    let over = node().load(&function("over", &grow(5_000)), "tables", grants.clone());
    let error = block_on(get(&over, "/")).expect_err("past the limit");
    assert!(matches!(error, FunctionError::Table { limit: 1_000, .. }), "{error}");
    let large = "(table 5000 funcref) (func (export \"run\") (result i32) (i32.const 1))";
    let large = node().load(&function("large", large), "tables", grants);
    let error = block_on(get(&large, "/")).expect_err("past the limit from the start");
    assert!(matches!(error, FunctionError::Table { limit: 1_000, .. }), "{error}");
}

#[test]
fn a_start_function_that_does_not_end_is_stopped() {
    let module = "(func $start (loop (br 0))) (start $start) (func (export \"run\") (result i32) (i32.const 1))";
    let module = function("endless-start", module);
    let module = node().load(&module, "start", FunctionGrants { limits: short(), ..FunctionGrants::default() });
    let error = block_on(get(&module, "/")).expect_err("it never starts");
    assert!(matches!(error, FunctionError::CpuTime { .. }), "{error}");
}

#[test]
fn what_is_no_function_is_refused_at_load() {
    for (name, text, words) in [
        ("core", "(module)", "component"),
        ("nothing", "(component)", "incoming-handler"),
        (
            "import",
            "(component (import \"acme:thing/face@1.0.0\" (instance (export \"f\" (func)))))",
            "acme:thing/face",
        ),
    ] {
        let bytes = wat::parse_str(text).expect("valid text");
        let result = node().try_load(&crate::fixture::artifact(name, bytes), "refused", FunctionGrants::default());
        let error = result.err().expect("it is refused").to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{name}: {error}");
    }
    let junk = crate::fixture::artifact("junk", b"\0asm\x0d\0\x01\0junk".to_vec());
    assert!(node().try_load(&junk, "refused", FunctionGrants::default()).is_err());
}
