//! The features of WebAssembly: for each, a module that cannot do without it, and what becomes of it. The table in
//! `docs/reference/wasm-features.md` says the same.

use std::path::Path;

use obsidian_types::FunctionGrants;

use crate::component::function;
use crate::fixture::{answer, block_on, node};

/// What becomes of a module that needs the feature.
enum Outcome {
    Runs,
    /// Refused when it is loaded, with these words.
    Refused(&'static str),
}
use Outcome::{Refused, Runs};

struct Feature {
    /// As the reference page spells it.
    name: &'static str,
    outcome: Outcome,
    /// A core module whose `run` computes 1.
    module: &'static str,
}

const FEATURES: [Feature; 20] = [
    Feature {
        name: "mutable globals",
        outcome: Runs,
        module: "(global $g (export \"g\") (mut i32) (i32.const 0))
                 (func (export \"run\") (result i32) (global.set $g (i32.const 1)) (global.get $g))",
    },
    Feature {
        name: "sign extension",
        outcome: Runs,
        module: "(func (export \"run\") (result i32) (i32.eq (i32.extend8_s (i32.const 0xff)) (i32.const -1)))",
    },
    Feature {
        name: "saturating conversions",
        outcome: Runs,
        module: "(func (export \"run\") (result i32) (i32.eqz (i32.trunc_sat_f32_s (f32.const nan))))",
    },
    Feature {
        name: "multi-value",
        outcome: Runs,
        module: "(func $two (result i32 i32) (i32.const 3) (i32.const 2))
                 (func (export \"run\") (result i32) (call $two) (i32.sub))",
    },
    Feature {
        name: "bulk memory",
        outcome: Runs,
        module: "(memory 1) (func (export \"run\") (result i32)
                   (memory.fill (i32.const 8) (i32.const 1) (i32.const 4))
                   (memory.copy (i32.const 0) (i32.const 8) (i32.const 1))
                   (i32.load (i32.const 0)))",
    },
    Feature {
        name: "reference types",
        outcome: Runs,
        module: "(table $t 1 externref) (func (export \"run\") (result i32) (ref.is_null (table.get $t (i32.const 0))))",
    },
    Feature {
        name: "SIMD",
        outcome: Runs,
        module: "(func (export \"run\") (result i32)
                   (i32x4.extract_lane 3 (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 0 0 0 -3))))",
    },
    Feature {
        name: "relaxed SIMD",
        outcome: Runs,
        module: "(func (export \"run\") (result i32)
                   (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 1.5)))))",
    },
    Feature {
        name: "tail calls",
        outcome: Runs,
        module: "(func $down (param i32) (result i32)
                   (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
                     (else (return_call $down (i32.sub (local.get 0) (i32.const 1))))))
                 (func (export \"run\") (result i32) (call $down (i32.const 2000000)))",
    },
    Feature {
        name: "extended constants",
        outcome: Runs,
        module: "(global $g i32 (i32.sub (i32.const 3) (i32.const 2)))
                 (func (export \"run\") (result i32) (global.get $g))",
    },
    Feature {
        name: "typed function references",
        outcome: Runs,
        module: "(type $f (func (result i32))) (func $one (type $f) (i32.const 1)) (elem declare func $one)
                 (func (export \"run\") (result i32) (call_ref $f (ref.func $one)))",
    },
    Feature {
        name: "garbage collection",
        outcome: Runs,
        module: "(type $list (array (mut i32)))
                 (func (export \"run\") (result i32) (local $l (ref null $list)) (local $n i32)
                   (loop $again
                     (local.set $l (array.new $list (i32.const 1) (i32.const 64)))
                     (local.set $n (i32.add (local.get $n) (i32.const 1)))
                     (br_if $again (i32.lt_u (local.get $n) (i32.const 10000))))
                   (array.get $list (local.get $l) (i32.const 63)))",
    },
    Feature {
        name: "exceptions",
        outcome: Runs,
        module: "(tag $e (param i32))
                 (func $throw (throw $e (i32.const 1)))
                 (func (export \"run\") (result i32)
                   (block $caught (result i32)
                     (try_table (catch $e $caught) (call $throw))
                     (i32.const 0)))",
    },
    Feature {
        name: "multi-memory",
        outcome: Runs,
        module: "(memory $a 1) (memory $b 1)
                 (func (export \"run\") (result i32)
                   (i32.store $b (i32.const 0) (i32.const 1))
                   (i32.sub (i32.load $b (i32.const 0)) (i32.load $a (i32.const 0))))",
    },
    Feature {
        name: "wide arithmetic",
        outcome: Runs,
        module: "(func (export \"run\") (result i32) (local $high i64)
                   (i64.mul_wide_u (i64.const -1) (i64.const 2))
                   (local.set $high) (drop) (i32.wrap_i64 (local.get $high)))",
    },
    Feature {
        name: "memory64",
        outcome: Refused("memory64"),
        module: "(memory i64 1) (func (export \"run\") (result i32)
                   (i32.store (i64.const 0) (i32.const 1)) (i32.load (i64.const 0)))",
    },
    Feature {
        name: "threads",
        outcome: Refused("shared memor"),
        module: "(memory 1 1 shared) (func (export \"run\") (result i32)
                   (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))) (i32.atomic.load (i32.const 0)))",
    },
    Feature {
        name: "shared-everything threads",
        outcome: Refused("shared-everything"),
        module: "(global $g (shared mut i32) (i32.const 1)) (func (export \"run\") (result i32) (global.get $g))",
    },
    Feature {
        name: "custom page sizes",
        outcome: Refused("custom"),
        module: "(memory 1 (pagesize 1)) (func (export \"run\") (result i32) (memory.size))",
    },
    Feature {
        name: "stack switching",
        outcome: Refused("stack switching"),
        module: "(type $f (func (result i32))) (type $c (cont $f)) (func $one (type $f) (i32.const 1))
                 (elem declare func $one)
                 (func (export \"run\") (result i32) (resume $c (cont.new $c (ref.func $one))))",
    },
];

#[test]
fn each_feature_runs_or_is_refused_as_the_table_says() {
    let mut wrong = Vec::new();
    for Feature { name, outcome, module } in &FEATURES {
        let loaded = node().try_load(&function(name, module), "features", FunctionGrants::default());
        match (outcome, loaded) {
            (Runs, Ok(module)) => {
                let (status, _) = block_on(answer(&module, "/"));
                if status != 200 {
                    wrong.push(format!("{name}: {status}"));
                }
            }
            (Refused(words), Err(error)) => {
                let error = error.to_string();
                if !error.contains(words) {
                    wrong.push(format!("{name}: refused without `{words}`: {error}"));
                }
            }
            (Runs, Err(error)) => wrong.push(format!("{name}: refused: {error}")),
            (Refused(_), Ok(_)) => wrong.push(format!("{name}: not refused")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows of the page are `| feature | runs or refused | note |`. The asynchronous part of the component model has no
/// module here: `answers.rs` calls a component of WASI 0.3.
#[test]
fn the_reference_page_says_the_same() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/wasm-features.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            Some((cells.next()?, cells.next()?))
        })
        .filter(|(_, outcome)| ["runs", "refused"].contains(outcome))
        .collect();
    let mut expected: Vec<(&str, &str)> = FEATURES
        .iter()
        .map(|feature| (feature.name, if matches!(feature.outcome, Runs) { "runs" } else { "refused" }))
        .collect();
    expected.push(("asynchronous components (WASI 0.3)", "runs"));
    assert_eq!(rows, expected);
}
