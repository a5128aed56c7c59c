//! The machine: processor, memory, limits of the kernel and of this process, clock.

use std::time::{SystemTime, UNIX_EPOCH};

use obsidian_model::Kernel;
use obsidian_types::limits::MAX_CONNECTIONS;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::model::show::size;

/// Files a node has open beside its connections: models, caches, certificates, listeners.
const OTHER_FILES: u64 = 512;
/// Address space that the sandboxes of a node reserve, nearly all of it never touched.
const RESERVED_BYTES: u64 = 1 << 40;
/// The kernel's own default.
const DEFAULT_MAP_COUNT: u64 = 65_530;
/// A node with the shipped models at work.
const LEAST_MEMORY_BYTES: u64 = 256 << 20;
const GOOD_MEMORY_BYTES: u64 = 1 << 30;
/// 2026-01-01: no node of this version ran before.
const EARLIEST_SECONDS: u64 = 1_767_225_600;
/// 2076-01-01: a clock that says this is set wrong.
const LATEST_SECONDS: u64 = 3_345_062_400;

/// What the machine says about itself. `None`: it does not say.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) processor: &'static str,
    /// Instructions the kernels make use of, best first.
    pub(super) instructions: Vec<&'static str>,
    /// The arithmetic kernel that will run.
    pub(super) kernel: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: Option<u64>,
    pub(super) overcommit: Option<u64>,
    pub(super) max_map_count: Option<u64>,
    /// Open files this process may have now, and could ask for; `None`: any number.
    pub(super) open_files: (Option<u64>, Option<u64>),
    /// Address space this process may have; `None`: all of it.
    pub(super) address_space: Option<u64>,
    /// Seconds since 1970.
    pub(super) now_seconds: u64,
}

impl Facts {
    /// Asks this machine.
    pub(super) fn read() -> Self {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        let files = getrlimit(Resource::Nofile);
        Self {
            processor: std::env::consts::ARCH,
            instructions: instructions(),
            kernel: format!("{:?}", Kernel::best()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: crate::model::measure::free_memory_bytes(),
            overcommit: number("/proc/sys/vm/overcommit_memory"),
            max_map_count: number("/proc/sys/vm/max_map_count"),
            open_files: (files.current, files.maximum),
            address_space: getrlimit(Resource::As).current,
            now_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<&'static str> {
    let known = [
        ("AVX-512 VNNI", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512bw")),
        ("AVX-VNNI", std::arch::is_x86_feature_detected!("avxvnni")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
    ];
    known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Vec<&'static str> {
    Vec::new()
}

/// What the facts mean for a node.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![
        processor(facts),
        cores(facts),
        memory(facts),
        overcommit(facts),
        map_count(facts),
        open_files(facts),
        address_space(facts),
        clock(facts),
    ]
}

fn processor(facts: &Facts) -> Finding {
    let check = "processor";
    let Facts { processor, kernel, instructions, .. } = facts;
    if instructions.is_empty() {
        return Finding::warning(
            check,
            format!("{processor} without AVX2; models run on the {kernel} kernel"),
            "answers are the same but many times slower; use a machine with AVX2, better AVX-512 VNNI",
        );
    }
    Finding::good(check, format!("{processor} with {}; models run on the {kernel} kernel", instructions.join(", ")))
}

fn cores(facts: &Facts) -> Finding {
    match facts.cores {
        1 => Finding::warning(
            "cores",
            "1",
            "a model at work delays every other request; give the node two cores or more",
        ),
        cores => Finding::good("cores", cores.to_string()),
    }
}

fn memory(facts: &Facts) -> Finding {
    let check = "memory";
    let Some(bytes) = facts.memory_bytes else {
        return Finding::warning(check, "the system does not say how much is free", "make sure that 1 GiB is");
    };
    let found = format!("{} free", size(bytes));
    if bytes < LEAST_MEMORY_BYTES {
        return Finding::failure(check, found, "a node with the shipped models needs 256 MiB; free some, or add some");
    }
    if bytes < GOOD_MEMORY_BYTES {
        return Finding::warning(
            check,
            found,
            "enough for the shipped models and few requests; `obsidian model inspect NAME` tells what a model needs",
        );
    }
    Finding::good(check, found)
}

fn overcommit(facts: &Facts) -> Finding {
    let check = "vm.overcommit";
    match facts.overcommit {
        Some(2) => Finding::warning(
            check,
            "vm.overcommit_memory = 2: memory that is only reserved may be refused",
            "sandboxes reserve far more than they use; set it with `sysctl vm.overcommit_memory=0`",
        ),
        Some(mode) => Finding::good(check, format!("vm.overcommit_memory = {mode}")),
        None => Finding::good(check, "the system does not say"),
    }
}

fn map_count(facts: &Facts) -> Finding {
    let check = "vm.max_map_count";
    match facts.max_map_count {
        Some(count) if count < DEFAULT_MAP_COUNT => Finding::warning(
            check,
            count.to_string(),
            format!(
                "many sandboxes need many mappings; set it with `sysctl vm.max_map_count={}`",
                DEFAULT_MAP_COUNT * 4
            ),
        ),
        Some(count) => Finding::good(check, count.to_string()),
        None => Finding::good(check, "the system does not say"),
    }
}

fn open_files(facts: &Facts) -> Finding {
    let check = "open files";
    let needed = MAX_CONNECTIONS as u64 + OTHER_FILES;
    let (now, most) = facts.open_files;
    let Some(now) = now.filter(|now| *now < needed) else {
        return Finding::good(check, now.map_or_else(|| "unlimited".to_owned(), |now| format!("{now} allowed")));
    };
    let found = format!("{now} allowed, {needed} are needed with every connection in use");
    let advice = match most.is_none_or(|most| most >= needed) {
        true => format!("start it after `ulimit -n {needed}`, or with LimitNOFILE={needed} in its systemd unit"),
        false => {
            format!("let an administrator raise the hard limit to {needed} (LimitNOFILE={needed} in its systemd unit)")
        }
    };
    if now < OTHER_FILES { Finding::failure(check, found, advice) } else { Finding::warning(check, found, advice) }
}

fn address_space(facts: &Facts) -> Finding {
    let check = "address space";
    match facts.address_space {
        Some(limit) if limit < RESERVED_BYTES => Finding::failure(
            check,
            format!("limited to {}", size(limit)),
            "sandboxes reserve address space without using memory; start it after `ulimit -v unlimited`",
        ),
        _ => Finding::good(check, "not limited"),
    }
}

fn clock(facts: &Facts) -> Finding {
    if (EARLIEST_SECONDS..LATEST_SECONDS).contains(&facts.now_seconds) {
        return Finding::good("clock", "plausible");
    }
    Finding::failure(
        "clock",
        format!("{} seconds since 1970, which cannot be", facts.now_seconds),
        "certificates are judged by it; set it, for example with `timedatectl set-ntp true`",
    )
}

#[cfg(test)]
mod tests {
    use super::{EARLIEST_SECONDS, Facts, judge};
    use crate::doctor::{Level, table};

    fn fine() -> Facts {
        Facts {
            processor: "x86_64",
            instructions: vec!["AVX-512 VNNI", "AVX-512", "AVX2"],
            kernel: "Avx512".to_owned(),
            cores: 8,
            memory_bytes: Some(16 << 30),
            overcommit: Some(0),
            max_map_count: Some(65_530),
            open_files: (Some(65_536), Some(65_536)),
            address_space: None,
            now_seconds: EARLIEST_SECONDS + 1,
        }
    }

    #[test]
    fn a_good_machine() {
        insta::assert_snapshot!(table(&judge(&fine())));
    }

    #[test]
    fn a_small_machine() {
        let facts = Facts {
            instructions: Vec::new(),
            kernel: "Portable".to_owned(),
            cores: 1,
            memory_bytes: Some(700 << 20),
            overcommit: Some(2),
            max_map_count: Some(4_096),
            open_files: (Some(1_024), Some(1 << 20)),
            ..fine()
        };
        let findings = judge(&facts);
        assert!(findings.iter().all(|finding| finding.level != Level::Failure));
        insta::assert_snapshot!(table(&findings));
    }

    #[test]
    fn a_machine_that_cannot_run_a_node() {
        let facts = Facts {
            memory_bytes: Some(100 << 20),
            open_files: (Some(64), Some(128)),
            address_space: Some(8 << 30),
            now_seconds: 12,
            ..fine()
        };
        insta::assert_snapshot!(table(&judge(&facts)));
    }

    #[test]
    fn this_machine_is_read() {
        let facts = Facts::read();
        assert!(facts.cores > 0 && facts.memory_bytes.is_some_and(|bytes| bytes > 0));
    }
}
