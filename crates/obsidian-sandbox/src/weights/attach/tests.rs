//! The checks before the mapping, with addresses that no guest of today would give.

use std::io::Write;

use obsidian_types::limits::MAX_WEIGHT_REGIONS;

use super::{Anchors, AttachError, Attachments, Region, overlay, page_size, plan};
use crate::weights::WeightFile;

const PAGE: u64 = 65_536;
/// Where the make-believe region starts.
const START: usize = 0x7000_0000;

fn attachments(length: usize) -> Attachments {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&vec![1; length]).expect("written");
    Attachments::new(WeightFile::open(file.path(), None).expect("readable"))
}

/// Anchors of 16 bytes at both ends of a region.
fn around(start: usize, length: usize) -> Anchors {
    Anchors { first: start..start + 16, last: start + length - 16..start + length }
}

fn refused(result: Result<Region, AttachError>) -> bool {
    matches!(result, Err(AttachError::Refused(_)))
}

#[test]
fn a_fair_region_is_planned_up_to_the_last_page_of_the_file() {
    let attachments = attachments(2 * PAGE as usize + 5);
    let region = plan(0, 2 * PAGE + 5, &around(START, 3 * PAGE as usize), &attachments).expect("fair");
    assert_eq!(region.whole, START..START + 3 * PAGE as usize);
    // Not the whole region: pages past the end of the file would raise SIGBUS.
    assert_eq!(region.mapped_bytes, 2 * PAGE as usize + page_size());
}

#[test]
fn numbers_at_the_edges_do_not_wrap() {
    let attachments = attachments(PAGE as usize);
    let anchors = around(START, PAGE as usize);
    for (offset, length) in [(0, u64::MAX), (u64::MAX - 65_535, 65_536), (PAGE, 1), (0, PAGE + 1)] {
        assert_eq!(plan(offset, length, &anchors, &attachments).err(), Some(AttachError::OutOfRange));
    }
    assert_eq!(plan(u64::MAX, 1, &anchors, &attachments).err(), Some(AttachError::Misaligned));
}

#[test]
fn anchors_must_frame_the_region() {
    let attachments = attachments(2 * PAGE as usize);
    let whole = 2 * PAGE as usize;
    let plan = |first, last| plan(0, 2 * PAGE, &Anchors { first, last }, &attachments);
    let end = START + whole;
    assert!(plan(START..START + 1, end - 1..end).is_ok());
    assert!(refused(plan(START..START, end - 1..end)));
    assert!(refused(plan(START..START + 65, end - 1..end)));
    assert!(refused(plan(end - 1..end, START..START + 1)));
    assert!(refused(plan(START..START + 16, START + 8..START + 9)));
    assert_eq!(plan(START + 1..START + 2, end..end + 1).err(), Some(AttachError::Misaligned));
}

#[test]
fn regions_neither_overlap_nor_grow_without_end() {
    let mut attachments = attachments(PAGE as usize);
    let page = PAGE as usize;
    attachments.regions.push(START..START + page);
    assert!(refused(plan(0, PAGE, &around(START, page), &attachments)));
    assert!(refused(plan(0, PAGE, &around(START + page_size(), page), &attachments)));
    assert!(plan(0, PAGE, &around(START + page, page), &attachments).is_ok());
    assert!(plan(0, PAGE, &around(START - page, page), &attachments).is_ok());
    attachments.regions.extend((1..MAX_WEIGHT_REGIONS).map(|index| START + index * page..START + (index + 1) * page));
    assert!(refused(plan(0, PAGE, &around(START - page, page), &attachments)));
}

#[test]
fn an_overlay_replaces_exactly_its_pages_and_its_writes_stay_private() {
    let page = page_size();
    let attachments = attachments(page + 1);
    // SAFETY: a fresh mapping of no one else.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            4 * page,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::PRIVATE,
        )
    }
    .expect("memory");
    // SAFETY: those four pages, mapped readable and writable until the end of the test.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), 4 * page) };
    bytes.fill(9);
    let region = Region { whole: start as usize + page..start as usize + 4 * page, mapped_bytes: 2 * page };
    overlay(&region, 0, &attachments.file).expect("mapped");
    assert_eq!((bytes[page - 1], bytes[page], bytes[2 * page]), (9, 1, 1));
    // The rest of the last page of the file is zero; the page after it was not replaced.
    assert_eq!((bytes[2 * page + 1], bytes[3 * page - 1], bytes[3 * page]), (0, 0, 9));
    bytes[page] = 7;
    let again = Region { whole: start as usize..start as usize + page, mapped_bytes: page };
    overlay(&again, 0, &attachments.file).expect("mapped");
    assert_eq!(bytes[0], 1, "the file has not changed");
    // SAFETY: the mapping made above; the slice is not used again.
    unsafe { rustix::mm::munmap(start, 4 * page) }.expect("unmapped");
}
