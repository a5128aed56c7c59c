//! `cargo xtask soak` and `bench load` in small: what is counted is checked, what is measured is not.

use std::time::Duration;

use xtask::fabric::{Fabric, Settings};
use xtask::load::{keys_file, saturation, soak};

use crate::support::binary;

fn fabric(edge_lines: String) -> Fabric {
    let settings = Settings { edge_lines, hub_lines: String::new(), keys: Some(keys_file()) };
    Fabric::start_as(binary(), &settings).unwrap()
}

#[test]
fn mixed_load_and_bursts_leave_no_error() {
    let edge_lines = "[limits]\ninflight = 4\nqueue = 8\nqueue_per_tenant = 4\n".to_owned();
    let fabric = fabric(edge_lines);
    let options = soak::Options {
        lasts: Duration::from_secs(8),
        clients: 6,
        burst: 60,
        burst_every: Duration::from_secs(3),
        prints: false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = runtime.block_on(soak::run(&fabric, options)).unwrap();
    assert_eq!(report.error_count, 0, "{:?}", report.errors);
    assert!(report.right.values().sum::<u64>() > 0);
    // 60 at once do not fit into 4 places and a queue of 8.
    assert!(report.busy.values().sum::<u64>() > 0, "{:?}", report.right);
}

#[test]
fn many_streams_at_once_all_come_to_their_end() {
    let fabric = fabric(String::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let streams = runtime.block_on(saturation::streams(&fabric, 24, 8)).unwrap();
    assert_eq!((streams.finished, streams.errors.len()), (24, 0), "{:?}", streams.errors);
}
