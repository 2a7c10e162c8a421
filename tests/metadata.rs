//! What a pool needs for itself beside its buffers, by the allocator's own count and by the kernel's: next to nothing
//! before the first get, few bytes for each touched slot, and less again after a trim.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytepool::{Misuse, Pool};

#[path = "support/emulator.rs"]
mod emulator;

/// The system's allocator, which counts bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY:
// - as System, which does the work
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promised
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promised
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: what is counted is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(target_os = "linux", not(bytepool_portable)))]
fn get_many(pool: &Pool, count: usize) -> Vec<NonNull<u8>> {
    (0..count).map(|_| pool.get_raw(64).unwrap()).collect()
}

#[cfg(all(target_os = "linux", not(bytepool_portable)))]
fn put(pool: &Pool, data: NonNull<u8>) -> Result<(), Misuse> {
    // SAFETY:
    // - the tests put what they got, or what is refused, and use it no more
    unsafe { pool.put_raw(data, 64) }
}

/// The table of buffers that are no slots grows with them. What it took for those that were put goes back with a trim.
#[test]
fn trim_gives_back_what_the_table_of_system_buffers_took() {
    const BUFFERS: usize = 20_000;
    // What the tests' harness allocates meanwhile, in bytes: far less than the table takes.
    const NOISE: usize = 64 << 10;
    let _alone = alone();
    let pool = Pool::builder().build().unwrap();
    let mut all = Vec::with_capacity(BUFFERS);
    drop(pool.get(1).unwrap());
    pool.trim(0);
    let before = (IN_USE.load(Relaxed), pool.stats().bookkeeping_bytes);
    all.extend((0..BUFFERS).map(|_| pool.get(1).unwrap()));
    let of_all = pool.stats().bookkeeping_bytes - before.1;
    assert!(of_all >= BUFFERS * size_of::<usize>(), "{of_all} bytes have no room for {BUFFERS} addresses");
    assert!(IN_USE.load(Relaxed) - before.0 > of_all - NOISE);
    let kept = all.split_off(BUFFERS - 100);
    all.clear();
    assert_eq!(pool.stats().bookkeeping_bytes - before.1, of_all, "a put does not shrink it");
    pool.trim(0);
    let of_kept = pool.stats().bookkeeping_bytes - before.1;
    assert!(of_kept * 20 < of_all, "{of_kept} of {of_all} bytes are kept for 100 buffers");
    assert!(kept.iter().all(|buffer| pool.usable_size(NonNull::from(&buffer[0])) > 0), "one is not found");
    drop(kept);
    pool.trim(0);
    assert_eq!(pool.stats().bookkeeping_bytes, before.1);
    assert!(of_all > 10 * NOISE && IN_USE.load(Relaxed) < before.0 + NOISE);
}

/// Books are mapped, and what of them is memory is the kernel's to say.
#[cfg(all(target_os = "linux", not(bytepool_portable)))]
mod books {
    use std::fs::read_to_string;
    use std::ops::Range;

    use super::*;

    fn page_size() -> usize {
        // SAFETY:
        // - sysconf only reads
        unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
    }

    /// All mappings, with their access.
    fn mappings() -> Vec<(Range<usize>, String)> {
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let (start, end) = words.next().unwrap().split_once('-').unwrap();
            let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
            (start..end, words.next().unwrap().to_owned())
        };
        read_to_string("/proc/self/maps").unwrap().lines().map(parse).collect()
    }

    /// Resident bytes of a mapping. The page of zeros, which a read maps, is none.
    fn resident(mapping: &Range<usize>) -> usize {
        let smaps = read_to_string("/proc/self/smaps").unwrap();
        let its =
            smaps.split_once(&format!("{:x}-{:x} ", mapping.start, mapping.end)).expect("it is mapped").1;
        let rss = its.lines().find(|line| line.starts_with("Rss:")).unwrap();
        rss.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    fn process_resident() -> usize {
        let rollup = read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// A pool of one class, and where its books are.
    struct WithBooks {
        pool: Pool,
        books: Range<usize>,
    }

    impl WithBooks {
        fn new(capacity: usize) -> Self {
            let before = mappings();
            let pool = Pool::builder().size_class(64, capacity).thread_cache(false).build().unwrap();
            let now = mappings();
            // The only large mapping that is new and has access: no slot was opened yet.
            let new = now.iter().filter(|mapping| mapping.1.starts_with("rw") && !before.contains(mapping));
            let books = new.max_by_key(|mapping| mapping.0.len()).unwrap().0.clone();
            assert!(books.len() >= capacity * 8, "{books:x?} has no room for the ledger");
            let is_guarded =
                |at: usize| now.iter().any(|(range, access)| range.contains(&at) && access == "---p");
            assert!(is_guarded(books.start - 1) && is_guarded(books.end), "{books:x?} has no guard pages");
            Self { pool, books }
        }

        /// What they take, by the kernel and by the pool.
        fn bytes(&self) -> (usize, usize) {
            (resident(&self.books), self.pool.stats().bookkeeping_bytes)
        }
    }

    #[test]
    fn a_touched_slot_costs_at_most_12_bytes() {
        if emulator::is_emulated() {
            return; // the resident memory is the emulator's
        }
        let _alone = alone();
        // All of the capacity, a small part of it, and far beyond it.
        for (capacity, touched) in
            [(1000, 1000), (10_000, 10_000), (1_000_000, 1_000_000), (1_000_000, 1000), (1000, 400_000)]
        {
            let mut all = Vec::with_capacity(touched);
            let with = WithBooks::new(capacity);
            let before = with.bytes();
            all.extend(get_many(&with.pool, touched));
            let now = with.bytes();
            // Ledger and shelf begin with a page each, and the page of the last slots may be a new one.
            let (least, most) = (touched * 8, touched * 12 + 3 * page_size());
            for (by, bytes) in [("the kernel", now.0 - before.0), ("the pool", now.1 - before.1)] {
                println!("{touched} of {capacity} slots: {bytes} bytes by {by}");
                assert!((least..=most).contains(&bytes), "{bytes} bytes by {by} for {touched} slots");
            }
            all.drain(..).for_each(|data| put(&with.pool, data).unwrap());
        }
    }

    /// Fifteen classes of a million slots each.
    #[test]
    fn books_are_memory_only_where_slots_were_touched() {
        const LEAST: usize = 1 << 20;
        if emulator::is_emulated() {
            return; // the resident memory is the emulator's
        }
        let _alone = alone();
        drop(WithBooks::new(1));
        let build = || {
            let builder = (1..=15).fold(Pool::builder(), |builder, n| builder.size_class(64 * n, 1_000_000));
            builder.build().unwrap()
        };
        let before = process_resident();
        let pool = build();
        let grown = process_resident().saturating_sub(before);
        assert!(grown < LEAST, "{grown} bytes became resident before the first get");
        let counted = pool.stats().bookkeeping_bytes;
        assert!(counted < LEAST, "{counted} bytes are counted before the first get");
        let first = pool.get_raw(64).unwrap();
        let grown = process_resident().saturating_sub(before);
        assert!(grown < LEAST + (64 << 10), "{grown} bytes became resident by the first get");
        put(&pool, first).unwrap();
    }

    #[test]
    fn trim_gives_back_the_pages_of_the_ledger_whose_slots_are_all_fresh() {
        const SLOTS: usize = 400_000;
        if emulator::is_emulated() {
            return; // the resident memory is the emulator's
        }
        let _alone = alone();
        let with = WithBooks::new(SLOTS);
        let before = with.bytes();
        let ledger = (SLOTS * 8).next_multiple_of(page_size());
        let mut all = get_many(&with.pool, SLOTS);
        all.sort();
        // In the middle of a page of the ledger, and in two that are neighbours.
        let of_page = page_size() / 8;
        let kept = [10 * of_page + 7, 100 * of_page - 1, 100 * of_page].map(|slot| all[slot]);
        let (of_kept, idle): (Vec<_>, Vec<_>) = all.into_iter().partition(|data| kept.contains(data));
        assert_eq!(of_kept, kept);
        idle.iter().for_each(|&data| put(&with.pool, data).unwrap());
        let full = with.bytes();
        assert!(full.0 - before.0 >= ledger && full.1 - before.1 >= ledger);

        with.pool.trim(0);
        let now = with.bytes();
        // Slots that share a page with one that is out are idle still; of the ledger that is a page for each.
        for (by, full, now) in [("the kernel", full.0, now.0), ("the pool", full.1, now.1)] {
            let given = full - now;
            assert_eq!(given, ledger - 3 * page_size(), "by {by}");
        }
        // What they say is right: who is out may be put, once, and nobody else.
        assert!(idle.iter().step_by(97).all(|&data| put(&with.pool, data).is_err()));
        assert_eq!(with.pool.stats().double_puts, idle.len().div_ceil(97) as u64);
        assert!(now.0 >= with.bytes().0, "a refused put touches no page of the ledger");
        for data in kept {
            put(&with.pool, data).unwrap();
            assert!(put(&with.pool, data).is_err());
        }
        let again = get_many(&with.pool, SLOTS);
        assert_eq!(with.pool.stats().classes[0].system_overflow, 0);
        again.into_iter().for_each(|data| put(&with.pool, data).unwrap());
        with.pool.trim(0);
        assert!(with.bytes().1 - before.1 < ledger / 8);
    }

    /// With what is idle beyond the capacity its books go back, without a trim.
    #[test]
    fn the_ledger_of_what_went_back_beyond_the_capacity_goes_back() {
        const CAPACITY: usize = 1000;
        const OUT: usize = 400_000;
        if emulator::is_emulated() {
            return; // the resident memory is the emulator's
        }
        let _alone = alone();
        let with = WithBooks::new(CAPACITY);
        let before = with.bytes();
        let all = get_many(&with.pool, OUT);
        let full = with.bytes();
        assert!(full.0 - before.0 >= OUT * 8);
        all.into_iter().for_each(|data| put(&with.pool, data).unwrap());
        let now = with.bytes();
        // The words of the shelf stay, a sixteenth of the ledger, and the marks of what stays idle: the capacity and a
        // slack of 256 KiB. Each may begin and end inside a page.
        let marks = (CAPACITY + (256 << 10) / 64) * 8;
        for (by, before, now) in [("the kernel", before.0, now.0), ("the pool", before.1, now.1)] {
            let kept = now - before;
            assert!(kept <= OUT / 16 * 8 + marks + 6 * page_size(), "{kept} bytes by {by}");
        }
    }
}
