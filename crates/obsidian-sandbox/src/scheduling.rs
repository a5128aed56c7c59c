//! How soon a thread gets a processor: one of the modules with `unsafe`, for a system call that no crate wraps.

use std::io;

/// What a thread asks for that should run soon after it wakes.
const SHORT_SLICE_NS: u64 = 100_000;
/// `SCHED_OTHER`, the policy of ordinary threads.
const ORDINARY: u32 = 0;
/// `SCHED_IDLE`, the policy of those that use what others leave.
const IDLE: u32 = 5;

/// The first published form of the kernel's `struct sched_attr`, which all versions take.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Asks for short turns on the processor for the calling thread, which answers somebody who waits: then it runs soon
/// after it wakes, even where others compute, because a turn that is short is over early. It gets no more time than
/// before. Linux 6.12 and later; before that nothing changes.
pub fn run_promptly() {
    let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap_or_default();
    let short = Attributes { policy: ORDINARY, nice, runtime_ns: SHORT_SLICE_NS, ..Attributes::default() };
    if let Err(error) = set(&short) {
        tracing::debug!(%error, "a thread keeps turns of ordinary length");
    }
}

/// Lets the calling thread, which has much to do, run where nobody else wants to: whoever wakes takes its place at once.
pub(crate) fn step_back() {
    if let Err(error) = set(&Attributes { policy: IDLE, ..Attributes::default() }) {
        tracing::warn!(%error, "long-running functions keep the priority of short ones");
    }
}

fn set(attributes: &Attributes) -> io::Result<()> {
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or_default();
    let attributes = Attributes { size, ..*attributes };
    // SAFETY: thread 0 is the calling one, `attributes` is initialised and as long as its first field says, the kernel
    // only reads it, and the call changes nothing but when this thread runs.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, SHORT_SLICE_NS, run_promptly, step_back};

    fn attributes() -> Attributes {
        let mut attributes = Attributes::default();
        let size = u32::try_from(size_of::<Attributes>()).unwrap();
        // SAFETY: thread 0 is the calling one, and the kernel writes at most `size` bytes.
        let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
        assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
        attributes
    }

    #[test]
    fn nothing_but_the_length_of_turns_changes() {
        let (before, after) = std::thread::spawn(|| {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
            let before = attributes();
            run_promptly();
            (before, attributes())
        })
        .join()
        .unwrap();
        assert_eq!((before.nice, before.policy), (5, 0));
        assert_eq!((after.nice, after.policy, after.flags, after.priority), (5, 0, 0, 0));
        // Kernels that know lengths of turns tell the length; older ones tell none.
        assert!([before.runtime_ns, SHORT_SLICE_NS].contains(&after.runtime_ns), "{after:?}");
    }

    #[test]
    fn who_steps_back_is_idle() {
        let after = std::thread::spawn(|| {
            step_back();
            attributes()
        });
        assert_eq!(after.join().unwrap().policy, super::IDLE);
    }
}
