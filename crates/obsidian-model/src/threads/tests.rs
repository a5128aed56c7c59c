//! Attacks on the splitting: overlaps, gaps, panics, late helpers, many jobs, helpers that end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Columns, PART_COST, Threads};

const MUCH: usize = 1_000 * PART_COST;

#[test]
fn every_column_is_computed_once() {
    for count in [1, 2, 3, 8] {
        let mut threads = Threads::new(count).unwrap();
        assert_eq!(threads.count(), count);
        for (rows, width, granule) in [(1, 1, 1), (3, 1_000, 1), (5, 1_001, 16), (2, 7, 8), (4, 0, 4), (0, 0, 3)] {
            let mut outputs = vec![0.0; rows * width];
            threads.split(&mut outputs, rows, granule, MUCH, &|columns, _| {
                assert!(columns.range().start.is_multiple_of(granule));
                for row in 0..columns.rows() {
                    let first = columns.range().start;
                    for (at, output) in columns.row(row).iter_mut().enumerate() {
                        *output += (row * width + first + at + 1) as f32;
                    }
                }
            });
            let expected: Vec<f32> = (0..rows * width).map(|index| (index + 1) as f32).collect();
            assert_eq!(outputs, expected, "{count} threads, {rows} rows of {width} by {granule}");
        }
    }
}

#[test]
fn little_work_stays_with_the_caller() {
    let mut threads = Threads::new(4).unwrap();
    let caller = std::thread::current().id();
    let calls = AtomicUsize::new(0);
    threads.split(&mut [0.0; 64], 1, 1, PART_COST, &|columns, _| {
        assert_eq!((std::thread::current().id(), columns.range()), (caller, 0..64));
        calls.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(calls.into_inner(), 1);
}

#[test]
fn many_short_jobs_never_mix() {
    let mut threads = Threads::new(3).unwrap();
    let mut outputs = vec![0.0; 48];
    for job in 0..20_000 {
        threads.split(&mut outputs, 1, 4, MUCH, &|columns, _| columns.row(0).fill(job as f32));
        assert!(outputs.iter().all(|output| *output == job as f32));
        if job % 4_000 == 0 {
            // Long enough for the helpers to fall asleep.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_helpers_live_on() {
    for unlucky in [0, 17, 47] {
        let mut threads = Threads::new(4).unwrap();
        let mut outputs = vec![0.0; 48];
        let started = AtomicUsize::new(0);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            threads.split(&mut outputs, 1, 1, MUCH, &|columns, _| {
                started.fetch_add(1, Ordering::Relaxed);
                assert!(!columns.range().contains(&unlucky), "unlucky");
            });
        }));
        assert!(failed.is_err());
        assert!(started.into_inner() > 1);
        threads.split(&mut outputs, 1, 1, MUCH, &|columns, _| columns.row(0).fill(1.0));
        assert!(outputs.iter().all(|output| *output == 1.0));
    }
}

#[test]
#[should_panic(expected = "outputs have that row")]
fn a_row_that_is_not_there_is_refused() {
    Columns::all(&mut [0.0; 6], 2).row(2);
}

#[test]
#[should_panic(expected = "outputs are whole rows")]
fn outputs_that_are_no_whole_rows_are_refused() {
    Columns::all(&mut [0.0; 7], 2);
}
