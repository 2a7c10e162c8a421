//! What a pool costs in memory: address space when it is built, pages when they are written, and nothing that
//! was given back.
//!
//! Resident pages are read from `/proc/self/pagemap`, page by page, so no figure here is an estimate. Pages
//! of any size will do.
#![cfg(target_os = "linux")]

use std::collections::HashSet;
use std::fs::{File, read, read_to_string};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};

use bytepool::{ClassStats, Pool, PooledBuffer};

/// Whether this build's regions come from the global allocator, which has no way to take pages back, and
/// writes them when it makes them.
const PORTABLE: bool = cfg!(bytepool_portable);

/// One test at a time: what one maps must not hide what another unmapped.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The system's page size in bytes, from the vector the kernel starts a process with.
fn page_size() -> usize {
    const AT_PAGESZ: usize = 6;
    let vector = read("/proc/self/auxv").unwrap();
    let words: Vec<usize> =
        vector.chunks_exact(8).map(|word| usize::from_ne_bytes(word.try_into().unwrap())).collect();
    words.chunks_exact(2).find(|pair| pair[0] == AT_PAGESZ).expect("the kernel tells the page size")[1]
}

/// Which pages that overlap the range of addresses are resident (or swapped out).
fn resident_pages(addresses: &Range<usize>) -> Vec<bool> {
    let page = page_size();
    let pages = addresses.start / page..addresses.end.div_ceil(page);
    let mut entries = vec![0; pages.len() * 8];
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    pagemap.read_exact_at(&mut entries, pages.start as u64 * 8).unwrap();
    let is_resident = |entry: &[u8]| entry[7] & 0b1100_0000 != 0;
    entries.chunks_exact(8).map(is_resident).collect()
}

/// Resident bytes of the range of addresses.
fn resident(addresses: &Range<usize>) -> usize {
    resident_pages(addresses).iter().filter(|&&resident| resident).count() * page_size()
}

/// Resident bytes of the whole process.
fn process_resident() -> usize {
    // smaps_rollup counts pages; statm on large machines is an estimate.
    if let Ok(rollup) = read_to_string("/proc/self/smaps_rollup") {
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
        return line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10;
    }
    let statm = read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * page_size()
}

/// How many bytes of the range of addresses are mapped, with whatever access.
fn mapped(addresses: &Range<usize>) -> usize {
    let maps = read_to_string("/proc/self/maps").unwrap();
    let overlap = |line: &str| {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split_once(' ').unwrap().0;
        let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        end.min(addresses.end).saturating_sub(start.max(addresses.start))
    };
    maps.lines().map(overlap).sum()
}

/// The addresses of all slots of a pool with one class, of which nothing was got yet. Leaves the pool as it
/// was but for one touched, unwritten slot.
fn slot_addresses(pool: &Pool) -> Range<usize> {
    let class = pool.stats().classes[0];
    let first = pool.get(class.buffer_size).unwrap();
    let start = first.as_ptr().addr();
    start..start + class.capacity * class.slot_size
}

/// The addresses of all slots of a pool with one class, of which nothing was got yet, with the room beyond the capacity
/// that it has on targets where addresses cost nothing: 64 MiB.
fn span_addresses(pool: &Pool) -> Range<usize> {
    let span = slot_addresses(pool);
    let span = span.start..span.end + 64 * MIB;
    assert_eq!(mapped(&span), span.len(), "the room beyond the capacity is smaller");
    span
}

/// The figures of a pool's only class, which must be consistent.
fn stats_of(pool: &Pool) -> ClassStats {
    let stats = pool.stats();
    stats.assert_consistent();
    stats.classes[0]
}

fn write(data: NonNull<u8>, bytes: usize, value: u8) {
    // SAFETY:
    // - callers pass buffers they got with at least this size
    unsafe { data.as_ptr().write_bytes(value, bytes) };
}

fn bytes_of(data: NonNull<u8>, bytes: usize) -> &'static [u8] {
    // SAFETY:
    // - callers pass outstanding slots they got with at least this size; slots are always initialised
    // - nobody writes to them while the slice is used, and it is dropped before the put
    unsafe { std::slice::from_raw_parts(data.as_ptr(), bytes) }
}

fn put(pool: &Pool, data: NonNull<u8>, size: usize) {
    // SAFETY:
    // - callers put buffers they got and no longer use
    unsafe { pool.put_raw(data, size) }.unwrap();
}

const MIB: usize = 1 << 20;
/// The system may answer one write with a transparent huge page, in bytes.
const HUGE_PAGE: usize = 2 * MIB;

#[test]
fn a_pool_of_1000_buffers_of_16_mib_costs_address_space_only() {
    if PORTABLE {
        return; // that region is written when it is made
    }
    let _alone = alone();
    let before = process_resident();
    let pool = Pool::builder().size_class(16 * MIB, 1000).build().unwrap();
    let buffers: Vec<PooledBuffer> = (0..1000).map(|_| pool.get(16 * MIB).unwrap()).collect();
    let grown = process_resident().saturating_sub(before);
    assert!(grown < 2 * MIB, "{grown} bytes became resident");

    let start = buffers[0].as_ptr().addr();
    let region = start..start + 1000 * 16 * MIB;
    assert_eq!(mapped(&region), 1000 * 16 * MIB, "all of it is reserved");
    assert_eq!(resident(&region), 0, "although every slot was handed out");
    assert_eq!(pool.stats().mapped_bytes, 1000 * 16 * MIB, "and counts as mapped");
}

#[test]
fn little_beyond_the_capacity_stays_resident_and_trim_and_close_give_all_back() {
    if PORTABLE {
        return; // overflow is the global allocator's
    }
    const SIZE: usize = 16 << 10;
    const SLOTS: usize = 2000;
    // An eighth of the capacity, and what a thread caches of slots of this size.
    const MOST: usize = SLOTS + SLOTS / 8 + 128;
    let _alone = alone();
    let pool = Pool::builder().size_class(SIZE, SLOTS).build().unwrap();
    let span = span_addresses(&pool);
    for _ in 0..3 {
        let all: Vec<_> = (0..2 * SLOTS).map(|_| pool.get_raw(SIZE).unwrap()).collect();
        all.iter().for_each(|&data| write(data, SIZE, 1));
        assert!(all.iter().all(|data| span.contains(&data.as_ptr().addr())), "overflow is no slot");
        assert!(resident(&span) >= 2 * SLOTS * SIZE);
        all.into_iter().for_each(|data| put(&pool, data, SIZE));
        let class = stats_of(&pool);
        assert!((SLOTS..=MOST).contains(&class.idle), "{class:#?}");
        assert_eq!(resident(&span), class.idle * SIZE, "whole pages, and no other");
    }
    let slots: Vec<_> = (0..=SLOTS).map(|_| pool.get_raw(SIZE).unwrap()).collect();
    pool.trim(0);
    assert_eq!(resident(&span), slots.len() * SIZE);
    pool.close();
    let (last, slots) = slots.split_last().unwrap();
    slots.iter().for_each(|&data| put(&pool, data, SIZE));
    assert_eq!((mapped(&span), resident(&span)), (span.len(), SIZE), "one is out");
    put(&pool, *last, SIZE);
    assert!(is_gone(&span));
}

/// Every thread that ends flushes its cache, and a small slot goes only with all others on its page.
#[test]
fn little_beyond_the_capacity_stays_resident_of_ended_threads_and_of_small_slots() {
    if PORTABLE {
        return; // overflow is the global allocator's
    }
    const THREADS: usize = 8;
    let _alone = alone();
    for (size, slots) in [(16 << 10, 1024), (256, 50_000)] {
        let pool = Pool::builder().size_class(size, slots).build().unwrap();
        let span = span_addresses(&pool);
        let (all_got, all_put) = (Barrier::new(THREADS), Barrier::new(THREADS));
        std::thread::scope(|scope| {
            let burst = || {
                let all: Vec<_> = (0..2 * slots / THREADS).map(|_| pool.get_raw(size).unwrap()).collect();
                all.iter().for_each(|&data| write(data, size, 1));
                all_got.wait();
                // In no order.
                (0..all.len()).for_each(|n| put(&pool, all[n * 7919 % all.len()], size));
                all_put.wait();
            };
            let threads = [(); THREADS].map(|()| scope.spawn(burst));
            // Joined, so that the destructors of their thread-locals are through.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        let class = stats_of(&pool);
        // The one slot is that whose address tells the span.
        assert!(class.peak > slots * 3 / 2 && class.cached <= 1, "{class:#?}");
        // The slack, and once more for what shared its page with slots that were out at the last look.
        let most = slots + 2 * (slots / 8);
        assert!(class.idle <= most, "{most} of {class:#?}");
        let kept = resident(&span);
        // Pages that lost a part of their slots stay whole.
        assert!(kept <= class.idle * size * 11 / 10, "{kept} bytes are kept by {class:#?}");
    }
}

#[test]
fn a_pool_and_its_touched_classes_take_few_mappings() {
    if PORTABLE {
        return; // the allocator decides
    }
    const POOLS: usize = 200;
    const SIZES: [usize; 3] = [4096, 64 << 10, MIB];
    // Threads that come and go beside this test, and the allocator.
    const OTHERS: usize = 40;
    let _alone = alone();
    let mappings = || read_to_string("/proc/self/maps").unwrap().lines().count();
    for huge_pages in [false, true] {
        let build = |_| {
            let builder = Pool::builder().huge_pages(huge_pages);
            SIZES.iter().fold(builder, |builder, &size| builder.size_class(size, 10)).build().unwrap()
        };
        let before = mappings();
        let pools: Vec<Pool> = (0..POOLS).map(build).collect();
        let of_untouched = mappings() - before;
        assert!(of_untouched <= 4 * POOLS + OTHERS, "{of_untouched} mappings of {POOLS} pools");
        let mut held = Vec::new();
        for (touched, size) in SIZES.into_iter().enumerate() {
            // Beyond the capacity, too.
            held.extend(pools.iter().flat_map(|pool| (0..12).map(|_| pool.get(size).unwrap())));
            let most = (2 * (touched + 1) + 4) * POOLS + OTHERS;
            let now = mappings() - before;
            assert!(now <= most, "{now} mappings of {POOLS} pools with {} touched classes", touched + 1);
        }
        assert!(mappings() - before > 2 * POOLS, "a class that is touched in part has two");
    }
}

#[test]
fn fresh_slots_become_resident_only_where_they_are_written() {
    if PORTABLE {
        return; // that region is written when it is made
    }
    let _alone = alone();
    let pool = Pool::builder().size_class(8 * MIB, 30).build().unwrap();
    let raw: Vec<_> = (0..10).map(|_| pool.get_raw(8 * MIB).unwrap()).collect();
    let owned: Vec<_> = (0..10).map(|_| pool.get(8 * MIB).unwrap()).collect();
    let mut zeroed: Vec<_> = (0..10).map(|_| pool.get_zeroed(8 * MIB).unwrap()).collect();
    let start = raw[0].as_ptr().addr();
    let region = start..start + 30 * 8 * MIB;
    assert_eq!(resident(&region), 0, "a get writes nothing to a fresh slot, a zeroed one neither");

    zeroed[3][4 * MIB] = 1;
    let now = resident(&region);
    assert!((1..=HUGE_PAGE).contains(&now), "one byte written made {now} bytes resident");
    zeroed[3].fill(1);
    let now = resident(&region);
    assert!((8 * MIB..=8 * MIB + HUGE_PAGE).contains(&now), "8 MiB written made {now} bytes resident");
    drop(owned);
    raw.into_iter().for_each(|data| put(&pool, data, 8 * MIB));
}

#[test]
fn trim_gives_idle_slots_back_and_they_come_again_as_zeros() {
    let _alone = alone();
    const SIZE: usize = 64 << 10;
    let pool = Pool::builder().size_class(SIZE, 32).build().unwrap();
    let region = slot_addresses(&pool);
    let mut buffers: Vec<_> = (0..32).map(|_| pool.get(SIZE).unwrap()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.fill(0xEE));
    assert_eq!(pool.trim(0), 0, "nothing is idle");
    drop(buffers);
    assert_eq!(resident(&region), 32 * SIZE);

    let given = pool.trim(0);
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(given, if PORTABLE { 0 } else { 32 * SIZE });
    assert_eq!(stats.mapped_bytes, 32 * SIZE - given);
    assert_eq!((stats.classes[0].idle, stats.classes[0].outstanding), ((32 * SIZE - given) / SIZE, 0));
    let content = if PORTABLE {
        0xEE // kept: that region cannot give pages back
    } else {
        assert_eq!(resident(&region), 0);
        0
    };
    for buffer in (0..32).map(|_| pool.get(SIZE).unwrap()).collect::<Vec<_>>() {
        assert!(buffer.iter().all(|&byte| byte == content));
    }
    assert_eq!(pool.stats().system_allocations, 0, "all 32 were slots");
}

#[test]
fn trim_keeps_as_many_idle_bytes_as_asked_and_no_slot_more() {
    let _alone = alone();
    const SIZE: usize = 64 << 10;
    let keeps =
        [(0, 0), (1, 1), (SIZE, 1), (SIZE + 1, 2), (10 * SIZE, 10), (32 * SIZE, 32), (usize::MAX, 32)];
    for (keep, kept) in keeps {
        let kept = if PORTABLE { 32 } else { kept }; // that region cannot give pages back
        let pool = Pool::builder().size_class(SIZE, 40).build().unwrap();
        let region = slot_addresses(&pool);
        let mut buffers: Vec<_> = (0..35).map(|_| pool.get(SIZE).unwrap()).collect();
        buffers.iter_mut().for_each(|buffer| buffer.fill(0xEE));
        let outstanding = buffers.split_off(32);
        drop(buffers);

        assert_eq!(pool.trim(keep), (32 - kept) * SIZE, "keeping {keep} of {}", 32 * SIZE);
        let stats = pool.stats();
        stats.assert_consistent();
        let class = stats.classes[0];
        assert_eq!((class.touched, class.outstanding, class.idle), (kept + 3, 3, kept));
        assert_eq!(stats.mapped_bytes, (kept + 3) * SIZE);
        if !PORTABLE {
            assert_eq!(resident(&region), (kept + 3) * SIZE, "keeping {keep}");
        }
        assert!(outstanding.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0xEE)));
        let again: Vec<_> = (0..32).map(|_| pool.get(SIZE).unwrap()).collect();
        let old = again.iter().filter(|buffer| buffer.iter().all(|&byte| byte == 0xEE)).count();
        let zero = again.iter().filter(|buffer| buffer.iter().all(|&byte| byte == 0)).count();
        assert_eq!((old, zero), (kept, 32 - kept), "keeping {keep}");
    }
}

#[test]
fn what_trim_keeps_is_counted_over_all_classes() {
    let _alone = alone();
    const SMALL: usize = 64 << 10;
    const LARGE: usize = 4 * SMALL;
    for keep in [0, SMALL, 3 * SMALL, LARGE, LARGE + SMALL, 20 * SMALL + 7, 10 * LARGE + 5 * SMALL] {
        let pool = Pool::builder().size_class(SMALL, 10).size_class(LARGE, 10).build().unwrap();
        let fill = |size| (0..10).map(|_| pool.get(size).unwrap()).collect::<Vec<_>>();
        drop((fill(SMALL), fill(LARGE)));
        let idle = 10 * (SMALL + LARGE);
        assert_eq!(pool.stats().mapped_bytes, idle);
        let given = pool.trim(keep);
        let stats = pool.stats();
        stats.assert_consistent();
        let left = stats.classes.iter().map(|class| class.idle * class.slot_size).sum::<usize>();
        assert_eq!((left, stats.mapped_bytes), (idle - given, idle - given));
        if !PORTABLE {
            assert!(left >= keep && left < keep + SMALL, "{left} bytes are left of {keep} to keep");
        }
    }
}

#[test]
fn trim_and_close_give_back_what_sleeping_threads_keep() {
    if PORTABLE {
        return; // that region cannot give pages back
    }
    let _alone = alone();
    const SIZE: usize = 16 << 10;
    let trim: fn(&Pool) = |pool| assert!(pool.trim(0) >= 8 * SIZE);
    for give_back in [trim, Pool::close] {
        let pool = Pool::builder().size_class(SIZE, 64).build().unwrap();
        let region = slot_addresses(&pool);
        let (kept, done) = (Barrier::new(5), Barrier::new(5));
        let (before, after) = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        drop([0; 8].map(|_| pool.copy(&[0xEE; SIZE]).unwrap()));
                    }
                    kept.wait();
                    // Whatever this thread keeps, it sleeps on it.
                    done.wait();
                });
            }
            kept.wait();
            let before = (stats_of(&pool), resident(&region));
            give_back(&pool);
            let after = (stats_of(&pool), resident(&region));
            done.wait();
            (before, after)
        });
        assert!(before.0.idle >= 8 && before.1 >= 8 * SIZE, "{before:?}");
        assert_eq!((after.0.idle, after.0.cached, after.0.touched, after.1), (0, 0, 0, 0));
    }
}

/// Slots of one class, some put and some not, and what a trim must do with each page.
struct Patchwork {
    pool: Pool,
    size: usize,
    slot_size: usize,
    page: usize,
    /// Ascending; each filled with its own mark.
    outstanding: Vec<NonNull<u8>>,
    idle: Vec<NonNull<u8>>,
    /// All pages of an outstanding slot.
    pinned: HashSet<usize>,
}

fn mark(data: NonNull<u8>) -> u8 {
    (data.as_ptr().addr() / 64 % 251) as u8 + 1
}

impl Patchwork {
    /// `touched` slots of `capacity`; each put that `is_put` says.
    fn new(size: usize, capacity: usize, touched: usize, is_put: impl Fn(usize) -> bool) -> Self {
        let pool = Pool::builder().size_class(size, capacity).build().unwrap();
        let slot_size = pool.stats().classes[0].slot_size;
        let page = page_size();
        let mut slots: Vec<_> = (0..touched).map(|_| pool.get_raw(size).unwrap()).collect();
        slots.sort();
        slots.iter().for_each(|&slot| write(slot, size, mark(slot)));
        let choice = |put: bool| {
            slots.iter().enumerate().filter(|&(n, _)| is_put(n) == put).map(|(_, &s)| s).collect::<Vec<_>>()
        };
        let (outstanding, idle) = (choice(false), choice(true));
        idle.iter().for_each(|&slot| put(&pool, slot, size));
        let mut this = Self { pool, size, slot_size, page, outstanding, idle, pinned: HashSet::new() };
        this.pinned = this.outstanding.iter().flat_map(|&slot| this.pages_of(slot)).collect();
        this
    }

    fn pages_of(&self, slot: NonNull<u8>) -> Range<usize> {
        let start = slot.as_ptr().addr();
        start / self.page..(start + self.slot_size).div_ceil(self.page)
    }

    /// Whether no page of the slot is shared with an outstanding one: then it must go.
    fn must_go(&self, slot: NonNull<u8>) -> bool {
        self.pages_of(slot).all(|page| !self.pinned.contains(&page))
    }

    /// What an idle slot holds after the trim: zeros on the pages that went.
    fn expected(&self, slot: NonNull<u8>) -> Vec<u8> {
        let start = slot.as_ptr().addr();
        let byte = |address: usize| {
            let kept = PORTABLE || self.pinned.contains(&(address / self.page));
            if kept { mark(slot) } else { 0 }
        };
        (start..start + self.size).map(byte).collect()
    }

    fn check_outstanding(&self) {
        for &slot in &self.outstanding {
            let intact = bytes_of(slot, self.size).iter().all(|&byte| byte == mark(slot));
            assert!(intact, "trimming destroyed an outstanding slot of {} bytes", self.size);
        }
    }

    fn trim_and_check(self) {
        let going = self.idle.iter().filter(|&&slot| self.must_go(slot)).count();
        let going = if PORTABLE { 0 } else { going };
        let given = self.pool.trim(0);
        let class = stats_of(&self.pool);
        assert_eq!(given, going * self.slot_size, "{} slots of {} bytes", going, self.slot_size);
        assert_eq!((class.outstanding, class.idle), (self.outstanding.len(), self.idle.len() - going));
        assert_eq!(self.pool.trim(0), 0, "what can go went at once");
        self.check_outstanding();

        for &slot in &self.idle {
            let start = slot.as_ptr().addr();
            for (page, resident) in self.pages_of(slot).zip(resident_pages(&(start..start + self.slot_size)))
            {
                let kept = PORTABLE || self.pinned.contains(&page);
                assert!(!resident || kept, "a page of idle slots of {} bytes stayed", self.slot_size);
            }
        }

        // What is idle still comes first. Then all the rest, which must read as zeros.
        let left = class.capacity - class.outstanding;
        let again: Vec<_> = (0..left).map(|_| self.pool.get_raw(self.size).unwrap()).collect();
        assert_eq!(self.pool.stats().system_allocations, 0, "all of them are slots");
        let idle: HashSet<_> = self.idle.iter().copied().collect();
        for (index, &slot) in again.iter().enumerate() {
            let stayed = idle.contains(&slot) && (PORTABLE || !self.must_go(slot));
            assert_eq!(stayed, index < class.idle, "slot of {} bytes", self.slot_size);
            let expected = if stayed { self.expected(slot) } else { vec![0; self.size] };
            assert!(bytes_of(slot, self.size) == expected, "slot of {} bytes", self.slot_size);
        }
        self.check_outstanding();
        let all = again.into_iter().chain(self.outstanding);
        all.for_each(|slot| put(&self.pool, slot, self.size));
        self.pool.stats().assert_consistent();
    }
}

#[test]
fn only_whole_pages_of_idle_slots_go_and_their_neighbours_stay_as_they_are() {
    let _alone = alone();
    let page = page_size();
    for size in [64, 192, page + 64, 100 << 10, page, 3 * page + 64] {
        // Enough slots for several pages of the smallest.
        let slots = (5 * page / size).max(150);
        let part = slots / 3;
        Patchwork::new(size, slots, slots, |_| true).trim_and_check();
        Patchwork::new(size, slots, slots, |n| n != 0).trim_and_check();
        Patchwork::new(size, slots, slots, |n| n + 1 != slots).trim_and_check();
        Patchwork::new(size, slots, slots, |n| n % 2 == 0).trim_and_check();
        Patchwork::new(size, slots, slots, |n| n % 40 != 7).trim_and_check();
        Patchwork::new(size, slots, slots, |n| n / 50 % 2 == 0).trim_and_check();
        Patchwork::new(size, slots, slots, |n| (n * 2_654_435_761) >> 7 & 31 != 0).trim_and_check();
        // Fresh slots share the last page of the touched ones.
        Patchwork::new(size, slots, part, |_| true).trim_and_check();
        Patchwork::new(size, slots, part, |n| n + 30 > part).trim_and_check();
        Patchwork::new(size, slots, 1, |_| true).trim_and_check();
    }
}

/// A pool whose addresses nothing else of this process covers by chance: 16 GiB of them; as the portable
/// region is written, little there.
fn large_pool(size: usize) -> (Pool, Range<usize>) {
    let bytes = if PORTABLE { 64 << 20 } else { 16 << 30 };
    let pool = Pool::builder().size_class(size, bytes / size).build().unwrap();
    let region = slot_addresses(&pool);
    assert_eq!(mapped(&region), bytes);
    (pool, region)
}

/// Whether the region was unmapped: other mappings may have come to lie there, but never so many.
fn is_gone(region: &Range<usize>) -> bool {
    mapped(region) < region.len() / 2
}

#[test]
fn close_gives_idle_memory_back_at_once_and_outstanding_memory_when_it_is_put() {
    if PORTABLE {
        return; // that region cannot give pages back
    }
    let _alone = alone();
    let (pool, region) = large_pool(MIB);
    let mut buffers: Vec<_> = (0..16).map(|_| pool.get(MIB).unwrap()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.fill(0xEE));
    let outstanding = buffers.split_off(12);
    drop(buffers);
    assert_eq!(resident(&region), 16 * MIB);

    pool.close();
    assert_eq!(resident(&region), 4 * MIB);
    assert_eq!((pool.stats().mapped_bytes, pool.stats().classes[0].idle), (4 * MIB, 0));
    assert!(outstanding.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0xEE)));
    for (index, buffer) in outstanding.into_iter().enumerate() {
        assert!(!is_gone(&region), "the region went with a buffer outstanding");
        drop(buffer);
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.mapped_bytes, stats.classes[0].idle), ((3 - index) * MIB, 0));
        if index < 3 {
            assert_eq!(resident(&region), (3 - index) * MIB, "after a put to the closed pool");
        }
    }
}

#[test]
fn small_idle_slots_go_with_the_last_put_to_a_closed_pool() {
    if PORTABLE {
        return; // that region cannot give pages back
    }
    let _alone = alone();
    for size in [64, 192, page_size() + 64] {
        let pool = Pool::builder().size_class(size, 500).build().unwrap();
        let region = slot_addresses(&pool);
        let slots: Vec<_> = (0..500).map(|_| pool.get_raw(size).unwrap()).collect();
        slots.iter().for_each(|&slot| write(slot, size, 0xEE));
        pool.close();
        let order: Vec<_> = (0..500).map(|n| slots[n * 37 % 500]).collect();
        order[..499].iter().for_each(|&slot| put(&pool, slot, size));
        // What shares a page with the last slot stays with it.
        let last = order[499].as_ptr().addr();
        let page = page_size();
        let pages = last / page * page..(last + stats_of(&pool).slot_size).next_multiple_of(page);
        assert_eq!(resident(&region), pages.len(), "slots of {size} bytes");
        put(&pool, order[499], size);
        assert_eq!(stats_of(&pool).touched, 0, "slots of {size} bytes");
        assert_eq!(pool.stats().mapped_bytes, 0, "slots of {size} bytes");
    }
}

#[test]
fn a_closed_pools_region_goes_when_the_last_outstanding_buffer_is_put() {
    let _alone = alone();
    let (pool, region) = large_pool(MIB);
    let mut buffers: Vec<_> = (0..3).map(|_| pool.get(MIB).unwrap()).collect();
    pool.close();
    while let Some(buffer) = buffers.pop() {
        assert!(!is_gone(&region), "a buffer is outstanding");
        drop(buffer);
    }
    assert!(
        is_gone(&region),
        "all buffers of the closed pool were put, but {} bytes are mapped",
        mapped(&region)
    );
    assert_eq!(pool.stats().classes[0].outstanding, 0, "the handle still works");
}

#[test]
fn the_region_goes_with_the_last_handle_when_nothing_is_outstanding() {
    let _alone = alone();
    let (pool, region) = large_pool(MIB);
    let clone = pool.clone();
    drop(pool);
    assert!(!is_gone(&region), "a handle is left");
    drop(clone);
    assert!(is_gone(&region));
}

#[test]
fn the_region_goes_with_the_last_outstanding_buffer_after_the_last_handle() {
    let _alone = alone();
    let (pool, region) = large_pool(MIB);
    let mut buffers: Vec<_> = (0..3).map(|_| pool.get(MIB).unwrap()).collect();
    drop(pool);
    while let Some(buffer) = buffers.pop() {
        assert!(!is_gone(&region), "a buffer is outstanding");
        drop(buffer);
    }
    assert!(is_gone(&region));
}

#[test]
fn a_hundred_thousand_pools_one_after_another_leave_resident_memory_flat() {
    let _alone = alone();
    let one = |n: usize| {
        let pool = Pool::builder().size_class(64 + n % 1000, 10).size_class(4096, 20).build().unwrap();
        let mut buffers = [100, 4096, 5000].map(|size| pool.get(size).unwrap());
        buffers.iter_mut().for_each(|buffer| buffer.fill(1));
        if n % 2 == 0 {
            drop(pool); // before its buffers
        }
    };
    (0..1000).for_each(one);
    let before = process_resident();
    (0..100_000).for_each(one);
    let grown = process_resident().saturating_sub(before);
    assert!(grown < 2 * MIB, "{grown} bytes became resident");
}

#[cfg(feature = "capi")]
#[test]
fn a_million_contexts_one_after_another_leave_resident_memory_flat() {
    let _alone = alone();
    let pool = Pool::builder().size_class(64, 4).build().unwrap();
    let one = |n: usize| {
        if n % 2 == 0 {
            drop(pool.context());
        } else {
            bytepool::ffi::capi::bytepool_free(pool.context().into_raw());
        }
    };
    // Numbers are used again from here on.
    (0..20_000).for_each(one);
    let before = process_resident();
    (0..1_000_000).for_each(one);
    let grown = process_resident().saturating_sub(before);
    assert!(grown < 500_000, "{grown} bytes became resident: half a byte for each context would show");
}

/// The kernel ends a thread in strict mode that asks it for anything but to read, to write and to end.
#[test]
fn gets_of_touched_slots_ask_the_system_for_nothing() {
    let _alone = alone();
    const SIZES: [usize; 4] = [4096, 64 << 10, 3 * MIB, 20 * MIB]; // cached, cached, large, huge
    let pool =
        SIZES.iter().fold(Pool::builder(), |builder, &size| builder.size_class(size, 4)).build().unwrap();
    let pairs = |turns: usize| {
        for size in (0..turns).flat_map(|_| SIZES) {
            let data = pool.get_raw(size).unwrap();
            // SAFETY:
            // - each offset is inside the buffer
            (0..size).step_by(4096).for_each(|offset| write(unsafe { data.add(offset) }, 1, 7));
            put(&pool, data, size);
        }
    };
    pairs(2);
    let faults_before = page_faults();
    pairs(2);
    assert_eq!(page_faults() - faults_before, 0, "page faults of touched slots");
    // SAFETY:
    // - the child only gets and puts, which a fork allows, and ends by itself
    match unsafe { libc::fork() } {
        -1 => panic!("no fork: {}", std::io::Error::last_os_error()),
        0 => {
            pairs(2); // the child takes its pools over
            // SAFETY:
            // - from here on there is only what strict mode allows; the last call ends this thread, the only one
            unsafe {
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT);
                pairs(10);
                libc::syscall(libc::SYS_exit, 0);
            }
            unreachable!("the thread ended");
        }
        child => {
            let mut status = 0;
            // SAFETY:
            // - our own child
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFEXITED(status), "a system call: ended by signal {}", libc::WTERMSIG(status));
            assert_eq!(libc::WEXITSTATUS(status), 0);
        }
    }
}

/// Page faults of this thread so far that needed no disk.
fn page_faults() -> i64 {
    // SAFETY:
    // - all-zero bytes are a valid rusage, which the call fills in
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage.ru_minflt
    }
}

/// The figures are true with huge pages as well: what is resident is mapped, whatever was got, put and trimmed.
#[test]
fn huge_pages_are_filled_by_slots_and_given_back_whole() {
    if PORTABLE {
        return; // that region is the global allocator's
    }
    let _alone = alone();
    const SIZE: usize = 4096;
    const SLOTS: usize = 4 * HUGE_PAGE / SIZE;
    for huge in [true, false] {
        let pool = Pool::builder().size_class(SIZE, SLOTS).huge_pages(huge).build().unwrap();
        let span = slot_addresses(&pool);
        let check = |what: &str| {
            let (resident, mapped) = (resident(&span), pool.stats().mapped_bytes);
            assert!(resident <= mapped, "huge pages {huge}, {what}: {resident} resident, {mapped} mapped");
        };
        let get = || {
            let data = pool.get_raw(SIZE).unwrap();
            write(data, SIZE, 1);
            data
        };
        put(&pool, get(), SIZE);
        check("one buffer");
        let all: Vec<_> = (0..SLOTS).map(|_| get()).collect();
        check("all out");
        assert_eq!(resident(&span), SLOTS * SIZE);
        let (first, second): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|data| data.as_ptr().addr() & SIZE == 0);
        first.into_iter().for_each(|data| put(&pool, data, SIZE));
        pool.trim(0);
        check("every second put");
        let again: Vec<_> = (0..SLOTS / 2).map(|_| get()).collect();
        check("got again");
        again.into_iter().chain(second).for_each(|data| put(&pool, data, SIZE));
        pool.trim(0);
        assert_eq!((resident(&span), pool.stats().mapped_bytes), (0, 0), "huge pages {huge}, all trimmed");
        put(&pool, get(), SIZE);
        check("one buffer again");
    }
}

/// What a get takes of memory that is written nowhere, in bytes.
fn resident_by<R>(get: impl FnOnce() -> R) -> (R, usize) {
    let before = process_resident();
    let got = get();
    (got, process_resident().saturating_sub(before))
}

#[test]
fn zeros_of_the_system_are_not_written_again() {
    if PORTABLE {
        return; // that region is written when it is made
    }
    let _alone = alone();
    const SIZE: usize = 64 * MIB;
    for zero_on_get in [false, true] {
        let pool = Pool::builder().size_class(SIZE, 2).zero_on_get(zero_on_get).build().unwrap();
        // Slots, then overflow, then oversize.
        for (size, what) in [SIZE, SIZE, SIZE, SIZE, 2 * SIZE, 2 * SIZE + 1].into_iter().zip(0..) {
            let (mut zeroed, resident) = resident_by(|| pool.get_zeroed(size).unwrap());
            assert!(resident < MIB, "get_zeroed number {what}: {resident} bytes");
            assert_eq!((zeroed[0], zeroed[size / 3], zeroed[size - 1]), (0, 0, 0));
            let (owned, resident) = resident_by(|| pool.get(size).unwrap());
            assert!(resident < MIB, "get number {what}: {resident} bytes");
            assert_eq!((owned[0], owned[size / 3], owned[size - 1]), (0, 0, 0));
            zeroed[size / 3] = 1;
            std::mem::forget((owned, zeroed)); // so that the next are fresh, too
        }
        assert_eq!(pool.stats().system_allocations, 10);
    }
}

#[test]
fn a_large_buffer_grows_by_moving_its_pages_and_gives_back_what_it_shrinks_by() {
    if PORTABLE {
        return; // there the global allocator serves
    }
    let _alone = alone();
    let pool = Pool::builder().size_class(4096, 2).max_bytes(200 * MIB).build().unwrap();
    let mut data = pool.get_raw(64 * MIB).unwrap();
    write(data, 64 * MIB, 0xEE);
    // So that it has to move.
    let _neighbours: Vec<_> = (0..3).map(|_| pool.get(40 * MIB).unwrap()).collect();
    let before = (process_resident(), page_faults());
    for size in [65 * MIB, 70 * MIB, 80 * MIB] {
        // SAFETY:
        // - this test's buffer
        data = unsafe { pool.realloc_raw(data, size) }.unwrap();
    }
    let faults = page_faults() - before.1;
    assert!(faults < 100, "{faults} page faults for 64 MiB that are moved");
    assert!(process_resident() < before.0 + MIB);
    assert!(bytes_of(data, 64 * MIB).iter().all(|&byte| byte == 0xEE));
    // SAFETY:
    // - this test's buffer
    data = unsafe { pool.realloc_raw(data, 10 * MIB) }.unwrap();
    assert!(process_resident() < before.0 - 53 * MIB, "54 MiB are given back");
    put(&pool, data, 10 * MIB);
    assert!(process_resident() < before.0 - 63 * MIB, "and the rest");
    pool.stats().assert_consistent();
}
