//! `unsafe` stands only in the modules named here, each attacked by a test.

use super::Source;

/// Where `unsafe` may stand: SIMD kernels, the attached region, weight mapping, loading of compiled code,
/// a system call for the scheduler.
const NAMED: [&str; 20] = [
    "crates/obsidian-model/src/kernel/avx2.rs",
    "crates/obsidian-model/src/kernel/avx512.rs",
    "crates/obsidian-model/src/kernel/wasm.rs",
    "crates/obsidian-model/src/kernel/mod.rs",
    "crates/obsidian-model/src/kernel/q4_k/avx2.rs",
    "crates/obsidian-model/src/kernel/q4_k/wasm.rs",
    "crates/obsidian-model/src/kernel/q6_k/avx2.rs",
    "crates/obsidian-model/src/kernel/q6_k/wasm.rs",
    "crates/obsidian-model/src/kernel/small/avx2.rs",
    "crates/obsidian-model/src/kernel/small/wasm.rs",
    "crates/obsidian-model/src/source.rs",
    "crates/obsidian-model/src/threads.rs",
    "crates/obsidian-model/src/threads/pool.rs",
    "crates/obsidian-sandbox/src/weights/attach.rs",
    "crates/obsidian-sandbox/src/aot.rs",
    "crates/obsidian-sandbox/src/scheduling.rs",
    "crates/obsidian/src/allocator.rs",
    "guests/drafter/src/region.rs",
    "guests/hostile/drafter/src/attack.rs",
    "guests/hostile/function/src/raw.rs",
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| source.is_shipped_rust()) {
        let path = source.path.to_string_lossy();
        if NAMED.contains(&&*path) {
            continue;
        }
        for (number, line) in source.shipped_part().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") {
                problems.push(format!("{path}:{}: `unsafe` outside the named modules", number + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    #[test]
    fn unsafe_in_an_unnamed_module_is_found() {
        let text = "fn f() { unsafe { g() } }\n";
        let source = |path: &str| Source { path: path.into(), text: text.into() };
        assert_eq!(check(&[source("crates/obsidian-edge/src/x.rs")]).len(), 1);
        assert!(check(&[source("crates/obsidian-sandbox/src/weights/attach.rs")]).is_empty());
    }
}
