//! What many live sandboxes need of the kernel: mappings, address space, threads, memory, and pages of the right size.

use std::path::Path;

use obsidian_types::limits::{
    LIVE_SANDBOX_BYTES, MAPPINGS_PER_SANDBOX, MAX_RUNNING_FUNCTIONS, SANDBOX_RESERVATION_BYTES,
};
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::model::show::size;

/// Mappings that a node has without sandboxes: its own code, threads' stacks, models, compiled guests.
const OTHER_MAPPINGS: u64 = 4_096;
/// Mappings of a stack that a running call has: the stack and the page that guards it.
const MAPPINGS_PER_STACK: u64 = 2;
/// Threads that a node has at most: workers, compute pool, models, and tokio's pool for blocking work.
const THREADS: u64 = 1_024;

/// What the machine says about itself. `None`: it does not say, or does not limit it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) max_map_count: Option<u64>,
    /// Bits of an address that processor and kernel know.
    pub(super) address_bits: Option<u32>,
    /// Threads: of the whole system, of process numbers, of this user, of this control group.
    pub(super) threads_max: Option<u64>,
    pub(super) pid_max: Option<u64>,
    pub(super) user_processes: Option<u64>,
    pub(super) group_pids: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) group_memory_bytes: Option<u64>,
    /// `always`, `madvise` or `never`.
    pub(super) huge_pages: Option<String>,
}

impl Facts {
    /// Asks this machine.
    pub(super) fn read() -> Self {
        let number = |path: &str| text(path)?.parse().ok();
        let group = |file: &str| least_in_group(file, &own_group()?);
        Self {
            max_map_count: number("/proc/sys/vm/max_map_count"),
            address_bits: text("/proc/cpuinfo").as_deref().and_then(address_bits),
            threads_max: number("/proc/sys/kernel/threads-max"),
            pid_max: number("/proc/sys/kernel/pid_max"),
            user_processes: getrlimit(Resource::Nproc).current,
            group_pids: group("pids.max"),
            memory_bytes: crate::model::measure::free_memory_bytes(),
            group_memory_bytes: group("memory.max"),
            huge_pages: text("/sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen),
        }
    }
}

fn text(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The number in `address sizes : 46 bits physical, 48 bits virtual`.
fn address_bits(cpuinfo: &str) -> Option<u32> {
    let line = cpuinfo.lines().find(|line| line.starts_with("address sizes"))?;
    line.split(',').nth(1)?.trim().split(' ').next()?.parse().ok()
}

/// `madvise` of `always [madvise] never`.
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The control group of this process, version 2.
fn own_group() -> Option<String> {
    text("/proc/self/cgroup")?.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The tightest limit of a group and those around it.
fn least_in_group(file: &str, group: &str) -> Option<u64> {
    let path = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let levels = path.ancestors().take_while(|level| level.starts_with("/sys/fs/cgroup"));
    levels.filter_map(|level| std::fs::read_to_string(level.join(file)).ok()?.trim().parse().ok()).min()
}

/// What the facts mean for `sandboxes` live ones.
pub(super) fn judge(facts: &Facts, sandboxes: u64) -> Vec<Finding> {
    let mut findings =
        vec![mappings(facts, sandboxes), addresses(facts, sandboxes), threads(facts), memory(facts, sandboxes)];
    findings.extend(huge_pages(facts));
    findings
}

fn mappings(facts: &Facts, sandboxes: u64) -> Finding {
    let check = "sandbox mappings";
    let base = OTHER_MAPPINGS + u64::from(MAX_RUNNING_FUNCTIONS) * MAPPINGS_PER_STACK;
    let needed = base + sandboxes * MAPPINGS_PER_SANDBOX;
    let Some(allowed) = facts.max_map_count else {
        return Finding::good(check, "the system does not say");
    };
    if allowed >= needed {
        return Finding::good(check, format!("vm.max_map_count = {allowed} is enough for {sandboxes} live sandboxes"));
    }
    let enough = allowed.saturating_sub(base) / MAPPINGS_PER_SANDBOX;
    Finding::warning(
        check,
        format!("vm.max_map_count = {allowed} is enough for {enough} live sandboxes of {sandboxes}"),
        format!(
            "each has up to {MAPPINGS_PER_SANDBOX} mappings; `sysctl -w vm.max_map_count={needed}`, and to keep it \
             `echo vm.max_map_count={needed} > /etc/sysctl.d/90-obsidian.conf`"
        ),
    )
}

fn addresses(facts: &Facts, sandboxes: u64) -> Finding {
    let check = "sandbox addresses";
    let needed = sandboxes.saturating_mul(SANDBOX_RESERVATION_BYTES);
    // Half of the addresses are the kernel's.
    match facts.address_bits.map(|bits| (bits, 1_u64 << bits.saturating_sub(1).min(63))) {
        Some((bits, there)) if needed > there => Finding::warning(
            check,
            format!("{bits} bits hold {} live sandboxes of {sandboxes}", there / SANDBOX_RESERVATION_BYTES),
            format!("each reserves {}; use a machine with 48-bit addresses", size(SANDBOX_RESERVATION_BYTES)),
        ),
        Some((bits, _)) => Finding::good(check, format!("{} of a {bits}-bit address space", size(needed))),
        None => Finding::good(check, format!("{} are reserved, and not used", size(needed))),
    }
}

fn threads(facts: &Facts) -> Finding {
    let check = "threads";
    let limits = [
        (facts.group_pids, "pids.max of the control group", "set TasksMax=infinity in its systemd unit"),
        (facts.user_processes, "ulimit -u", "start it after `ulimit -u unlimited`, or with LimitNPROC=infinity"),
        (facts.threads_max, "kernel.threads-max", "`sysctl -w kernel.threads-max=65536`"),
        (facts.pid_max, "kernel.pid_max", "`sysctl -w kernel.pid_max=65536`"),
    ];
    let tightest = limits.into_iter().filter_map(|(limit, name, advice)| Some((limit?, name, advice)));
    match tightest.min_by_key(|(limit, ..)| *limit) {
        Some((limit, name, advice)) if limit < THREADS => Finding::warning(
            check,
            format!("{name} allows {limit}, a node has up to {THREADS} (sandboxes have none of their own)"),
            advice,
        ),
        Some((limit, name, _)) => Finding::good(check, format!("{limit} allowed by {name}")),
        None => Finding::good(check, "not limited"),
    }
}

fn memory(facts: &Facts, sandboxes: u64) -> Finding {
    let check = "sandbox memory";
    let needed = sandboxes.saturating_mul(LIVE_SANDBOX_BYTES);
    let needs = format!("{sandboxes} small live sandboxes take {}", size(needed));
    if let Some(limit) = facts.group_memory_bytes.filter(|limit| *limit < needed) {
        return Finding::warning(
            check,
            format!("{needs}, the control group allows {}", size(limit)),
            "raise MemoryMax= in its systemd unit, or keep fewer tenants on this node",
        );
    }
    match facts.memory_bytes {
        Some(free) if free < needed => Finding::warning(
            check,
            format!("{needs}, {} are free", size(free)),
            "add memory, or keep fewer tenants here",
        ),
        _ => Finding::good(check, needs),
    }
}

/// A sandbox touches a few pages; pages of 2 MiB make that two megabytes each.
fn huge_pages(facts: &Facts) -> Option<Finding> {
    (facts.huge_pages.as_deref() == Some("always")).then(|| {
        Finding::warning(
            "huge pages",
            "transparent huge pages are on for everything: a sandbox that touches one page may take 2 MiB",
            "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Facts, address_bits, chosen, judge};
    use crate::doctor::{Level, table};

    fn roomy() -> Facts {
        Facts {
            max_map_count: Some(1 << 20),
            address_bits: Some(48),
            threads_max: Some(120_000),
            pid_max: Some(4 << 20),
            user_processes: Some(60_000),
            group_pids: None,
            memory_bytes: Some(16 << 30),
            group_memory_bytes: None,
            huge_pages: Some("madvise".to_owned()),
        }
    }

    #[test]
    fn a_machine_for_ten_thousand() {
        insta::assert_snapshot!(table(&judge(&roomy(), 10_000)));
    }

    #[test]
    fn a_machine_as_it_comes() {
        let facts = Facts {
            max_map_count: Some(65_530),
            address_bits: Some(39),
            group_pids: Some(512),
            group_memory_bytes: Some(256 << 20),
            huge_pages: Some("always".to_owned()),
            ..roomy()
        };
        let findings = judge(&facts, 10_000);
        assert!(findings.iter().all(|finding| finding.level == Level::Warning), "they do not keep a node from running");
        insta::assert_snapshot!(table(&findings));
    }

    #[test]
    fn what_the_kernel_writes_is_understood() {
        assert_eq!(address_bits("processor: 0\naddress sizes\t: 46 bits physical, 57 bits virtual\n"), Some(57));
        assert_eq!(address_bits("processor: 0\n"), None);
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert!(Facts::read().max_map_count.is_some());
    }
}
