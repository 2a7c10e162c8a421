//! Overflow: more buffers of a class out than it keeps. It is slots like all others: its figures fit, every misuse is
//! refused, and what is idle beyond the capacity goes back to the system.

use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use bytepool::{GetError, Misuse, Pool, PooledBuffer};

use crate::valgrind;

const SMALL: usize = 512;
const SIZE: usize = 4096;
const CAPACITY: usize = 8;
const OFTEN: usize = 100;
/// What a class may keep beyond its capacity: 256 KiB on the shelf before it gives back, and 64 slots in thread caches.
const SLACK: usize = (256 << 10) / SIZE;
const CACHED: usize = 64;

fn get(pool: &Pool) -> NonNull<u8> {
    pool.get_raw(SIZE).unwrap()
}

fn put(pool: &Pool, data: NonNull<u8>, size: usize) -> Result<(), Misuse> {
    // SAFETY:
    // - the tests put what they got, or what is refused, and use it no more
    unsafe { pool.put_raw(data, size) }
}

fn get_many(pool: &Pool, count: usize) -> Vec<NonNull<u8>> {
    let all: Vec<_> = (0..count).map(|_| get(pool)).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), count, "a buffer has two owners");
    all
}

fn put_many(pool: &Pool, all: Vec<NonNull<u8>>) {
    all.into_iter().for_each(|data| put(pool, data, SIZE).unwrap());
}

fn pool() -> Pool {
    let pool = Pool::builder().size_class(SMALL, CAPACITY).size_class(SIZE, CAPACITY).build().unwrap();
    put_many(&pool, get_many(&pool, CAPACITY + OFTEN));
    pool
}

/// Whether classes have room beyond their capacities here: addresses cost no memory.
const HAS_ROOM: bool = cfg!(all(unix, not(bytepool_portable)));

/// Whether a slot of [`SIZE`] shares its page: then it goes back to the system only when the whole page is idle.
fn slots_share_pages() -> bool {
    #[cfg(unix)]
    // SAFETY:
    // - asks for a number
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    #[cfg(not(unix))]
    let page = 4096;
    let share = page as usize > SIZE;
    if share {
        eprintln!("left out: pages are larger than the slots");
    }
    share
}

/// What a second put of overflow is called: the system allocator's buffers are foreign once they were put.
fn put_again(address: usize) -> Misuse {
    if HAS_ROOM {
        Misuse::DoublePut { address, buffer_size: SIZE }
    } else {
        Misuse::ForeignPointer { address }
    }
}

/// A pool, all slots of its class, and a buffer that overflows.
fn with_overflow() -> (Pool, Vec<NonNull<u8>>, NonNull<u8>) {
    let pool = pool();
    let slots = get_many(&pool, CAPACITY);
    let data = get(&pool);
    assert_eq!(pool.stats().classes[1].overflow, 1);
    (pool, slots, data)
}

#[test]
fn every_overflow_is_counted_while_it_is_out() {
    if slots_share_pages() {
        return;
    }
    let pool = Pool::builder().size_class(SIZE, CAPACITY).build().unwrap();
    let mut allocations = 0;
    for overflow in [1, 50, 100, 7, 0, 200, 2000] {
        for _ in 0..5 {
            let all = get_many(&pool, CAPACITY + overflow);
            allocations += if HAS_ROOM { 0 } else { overflow as u64 };
            let stats = pool.stats();
            stats.assert_consistent();
            let class = &stats.classes[0];
            assert_eq!((class.outstanding, class.overflow), (CAPACITY, overflow));
            assert_eq!(stats.mapped_bytes, (CAPACITY + overflow + class.idle) * SIZE);
            assert_eq!(stats.allocated_bytes, (CAPACITY + overflow + class.idle.min(CAPACITY)) * SIZE);
            assert_eq!(stats.system_allocations, allocations);
            assert!(class.peak >= CAPACITY + if HAS_ROOM { overflow } else { 0 }, "{class:#?}");
            put_many(&pool, all);
            let stats = pool.stats();
            stats.assert_consistent();
            let class = &stats.classes[0];
            assert_eq!((class.outstanding, class.overflow), (0, 0));
            assert!(class.idle <= CAPACITY + SLACK + CACHED, "{class:#?}");
            assert_eq!(stats.allocated_bytes, CAPACITY * SIZE);
            assert_eq!((stats.gets, stats.system_allocations), (stats.puts, allocations));
        }
    }
    pool.trim(0);
    // Elsewhere the region cannot give pages back.
    assert_eq!(pool.stats().mapped_bytes, if HAS_ROOM { 0 } else { CAPACITY * SIZE });
}

/// The original library's own figures: the eleventh put of a class of ten brings 1,100 bytes back to 1,000.
#[test]
fn idle_buffers_beyond_the_capacity_are_not_allocated() {
    let pool = Pool::builder().size_class(100, 10).build().unwrap();
    let mut all: Vec<_> = (0..11).map(|_| pool.get(100).unwrap()).collect();
    assert_eq!(pool.stats().allocated_bytes, 1100);
    all.remove(0);
    assert_eq!(pool.stats().allocated_bytes, 1100);
    drop(all);
    assert_eq!(pool.stats().allocated_bytes, 1000);
}

/// Of slots that share a page, of those of a page, and of those of many.
#[test]
fn what_is_idle_beyond_the_capacity_goes_back_soon() {
    for (size, capacity, out) in
        [(64, 1000, 100_000), (4096, 100, 5000), (64 << 10, 10, 300), (1 << 20, 4, 40)]
    {
        let pool = Pool::builder().size_class(size, capacity).build().unwrap();
        for _ in 0..3 {
            let all: Vec<_> = (0..out).map(|_| pool.get(size).unwrap()).collect();
            drop(all);
            let stats = pool.stats();
            stats.assert_consistent();
            let class = &stats.classes[0];
            let slack = ((256 << 10) / size).max(1).max(capacity / 8);
            let most = capacity + slack + CACHED.max(capacity / 2);
            assert!(class.idle <= most, "of {out} of {size} bytes: {class:#?}");
            assert_eq!(class.system_overflow, 0);
        }
    }
}

/// A class of a capacity of ten that has a thousand out: threads keep 64 of its slots, and no more.
#[test]
fn thread_caches_serve_a_class_of_little_capacity() {
    if valgrind::replacements() {
        return; // no thread caches
    }
    let pool = Pool::builder().size_class(SIZE, 10).build().unwrap();
    let out = get_many(&pool, 1000);
    let rounds = 100;
    for _ in 0..rounds {
        put_many(&pool, get_many(&pool, 32));
        let stats = pool.stats();
        assert!(stats.classes[0].cached <= CACHED, "{:#?}", stats.classes[0]);
    }
    let moves = pool.stats().classes[0].moves;
    // Once the bin has grown, 32 buffers that are got and put are all its own.
    let before = moves;
    (0..rounds).for_each(|_| put_many(&pool, get_many(&pool, 32)));
    let moves = pool.stats().classes[0].moves - before;
    assert!(!HAS_ROOM || moves <= rounds, "{moves} batches for {rounds} bursts of 32");
    put_many(&pool, out);
}

/// Slots that were given back are got again before others that were never used: what is touched stays dense.
#[test]
fn slots_that_went_back_are_used_again() {
    let pool = Pool::builder().size_class(SIZE, 10).build().unwrap();
    let span = |all: &[NonNull<u8>]| {
        let addresses = all.iter().map(|data| data.as_ptr().addr());
        addresses.clone().max().unwrap() - addresses.min().unwrap()
    };
    let mut widest = 0;
    for _ in 0..20 {
        let all = get_many(&pool, 1000);
        widest = widest.max(span(&all));
        put_many(&pool, all);
    }
    assert!(!HAS_ROOM || valgrind::replacements() || widest < 2000 * SIZE, "{widest} bytes for 1000 buffers");
}

#[test]
fn misuse_of_overflow_is_refused() {
    let (pool, slots, data) = with_overflow();
    let address = data.as_ptr().expose_provenance();
    let refused = |data: NonNull<u8>, size: usize, expected: Misuse| {
        let before = pool.stats();
        assert_eq!(put(&pool, data, size), Err(expected));
        let after = pool.stats();
        assert_eq!((after.classes, after.puts), (before.classes, before.puts));
    };
    let inside = NonNull::new(data.as_ptr().wrapping_add(64)).unwrap();
    refused(inside, SIZE, Misuse::ForeignPointer { address: address + 64 });
    for size in [1, SMALL, SIZE + 1, usize::MAX] {
        refused(data, size, Misuse::SizeMismatch { address, size, requested: SIZE, buffer_size: SIZE });
    }
    assert!(put(&self::pool(), data, SIZE).is_err(), "another pool's");
    // Another size of the class will do, once.
    put(&pool, data, SMALL + 1).unwrap();
    refused(data, SIZE, put_again(address));
    thread::scope(|scope| {
        scope.spawn(|| {
            let data = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
            assert_eq!(put(&pool, data, SIZE), Err(put_again(address)));
        });
    });
    let stats = pool.stats();
    let kinds = if HAS_ROOM { (2, 4, 1) } else { (0, 4, 3) };
    assert_eq!((stats.double_puts, stats.size_mismatches, stats.foreign_pointers), kinds);
    put_many(&pool, slots);
}

/// A pinned pool has no room beyond its capacities: the system allocator serves what overflows.
#[test]
fn misuse_of_overflow_from_the_system_is_refused() {
    const LARGE: usize = 2 * SIZE;
    let pool = Pool::builder().size_class(SIZE, 1).size_class(LARGE, 1).pinned(true).build().unwrap();
    let slot = pool.get_raw(LARGE).unwrap();
    let data = pool.get_raw(LARGE - 1).unwrap();
    assert_eq!((pool.stats().classes[1].overflow, pool.stats().classes[1].system_overflow), (1, 1));
    let address = data.as_ptr().addr();
    let inside = NonNull::new(data.as_ptr().wrapping_add(64)).unwrap();
    assert_eq!(put(&pool, inside, LARGE), Err(Misuse::ForeignPointer { address: address + 64 }));
    for size in [1, SIZE, LARGE + 1, usize::MAX] {
        let mismatch = Misuse::SizeMismatch { address, size, requested: LARGE - 1, buffer_size: LARGE };
        assert_eq!(put(&pool, data, size), Err(mismatch));
    }
    // SAFETY:
    // - got above; its bytes are written first
    let owner = unsafe {
        data.as_ptr().write_bytes(7, LARGE - 1);
        PooledBuffer::from_raw(&pool, data, LARGE - 1).unwrap()
    };
    assert!(matches!(put(&pool, data, LARGE - 1), Err(Misuse::DoublePut { .. })));
    let (data, _) = owner.into_raw();
    let shared = data.as_ptr().expose_provenance();
    // Another size of the class will do, for one of them.
    let verdicts = thread::scope(|scope| {
        let racer = |size: usize| {
            let pool = &pool;
            scope.spawn(move || {
                put(pool, NonNull::new(std::ptr::with_exposed_provenance_mut(shared)).unwrap(), size)
            })
        };
        [LARGE, LARGE - 1, LARGE, SIZE + 1].map(racer).map(|thread| thread.join().unwrap())
    });
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 1, "{verdicts:?}");
    assert_eq!((pool.stats().classes[1].overflow, pool.stats().puts), (0, 1));
    put(&pool, slot, LARGE).unwrap();
    let stats = pool.stats();
    stats.assert_consistent();
    let refused = stats.double_puts + stats.size_mismatches + stats.foreign_pointers;
    assert_eq!((refused, stats.system_allocations), (1 + 4 + 1 + 3, 1));
}

#[test]
fn owners_of_overflow_keep_others_out_until_they_give_it_up() {
    let (pool, slots, data) = with_overflow();
    // SAFETY:
    // - got above; its bytes are written first
    let owner = unsafe {
        data.as_ptr().write_bytes(7, SIZE);
        PooledBuffer::from_raw(&pool, data, SIZE).unwrap()
    };
    let address = data.as_ptr().addr();
    assert_eq!(put(&pool, data, SIZE), Err(Misuse::DoublePut { address, buffer_size: SIZE }));
    assert!(owner.iter().all(|&byte| byte == 7));
    let (raw, len) = owner.into_raw();
    assert_eq!((raw, len, pool.usable_size(raw)), (data, SIZE, SIZE));
    put(&pool, raw, len).unwrap();
    let owner = pool.get(SIZE).unwrap();
    assert_eq!(pool.stats().classes[1].overflow, 1);
    // Its drop, elsewhere and after the last handle, is a put.
    let kept = pool.clone();
    thread::spawn(move || drop(owner)).join().unwrap();
    assert_eq!(kept.stats().classes[1].overflow, 0);
    put_many(&kept, slots);
    kept.stats().assert_consistent();
}

#[test]
fn fresh_overflow_for_rust_reads_as_zeros() {
    let pool = Pool::builder().size_class(SIZE, 1).build().unwrap();
    let mut buffers: Vec<_> = (0..OFTEN).map(|_| pool.get(SMALL + 1).unwrap()).collect();
    for buffer in &mut buffers {
        buffer.resize(SIZE).unwrap();
        assert!(buffer.iter().all(|&byte| byte == 0));
        buffer.fill(0xEE);
    }
    drop(buffers);
    let zeroed = pool.get_zeroed(SIZE).unwrap();
    assert!(zeroed.iter().all(|&byte| byte == 0));
}

#[test]
fn realloc_of_overflow_stays_in_its_class_or_moves_with_the_bytes() {
    let (pool, slots, data) = with_overflow();
    let bytes = |data: NonNull<u8>, count: usize| {
        // SAFETY:
        // - outstanding, written below, and of at least this size
        unsafe { std::slice::from_raw_parts(data.as_ptr(), count) }.to_vec()
    };
    // SAFETY:
    // - each is outstanding, and used no more under its old name
    unsafe {
        data.as_ptr().write_bytes(9, SIZE);
        let same = pool.realloc_raw(data, SIZE - 1).unwrap();
        assert_eq!(same == data, HAS_ROOM && !valgrind::replacements());
        let data = same;
        let moved = pool.realloc_raw(data, 100).unwrap();
        assert_ne!(moved, data);
        assert_eq!(bytes(moved, 100), [9; 100]);
        let back = pool.realloc_raw(moved, SIZE).unwrap();
        assert_eq!(bytes(back, 100), [9; 100]);
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.classes[0].outstanding, stats.classes[1].overflow), (0, 1));
        pool.put_raw_unsized(back).unwrap();
    }
    put_many(&pool, slots);
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(stats.gets, stats.puts);
}

#[test]
fn threads_hand_overflow_to_each_other() {
    const THREADS: usize = 4;
    let pool = Pool::builder().size_class(SIZE, 2).build().unwrap();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<usize>()).unzip();
    thread::scope(|scope| {
        for (own, receiver) in receivers.into_iter().enumerate() {
            let next = senders[(own + 1) % THREADS].clone();
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..2000 {
                    let data = get(pool);
                    // SAFETY:
                    // - outstanding, this thread's
                    unsafe { data.as_ptr().write_bytes(own as u8, SIZE) };
                    if round % 3 == 0 {
                        let dropped = pool.get(SIZE).unwrap();
                        drop(dropped);
                    }
                    next.send(data.as_ptr().expose_provenance()).unwrap();
                    let theirs = receiver.recv().unwrap();
                    let theirs = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(theirs)).unwrap();
                    // SAFETY:
                    // - outstanding, and given to this thread
                    let bytes = unsafe { std::slice::from_raw_parts(theirs.as_ptr(), SIZE) };
                    let mark = (own + THREADS - 1) % THREADS;
                    assert!(bytes.iter().all(|&byte| byte == mark as u8), "a buffer had two owners");
                    put(pool, theirs, SIZE).unwrap();
                }
            });
        }
    });
    let stats = pool.stats();
    stats.assert_consistent();
    assert!(!HAS_ROOM || stats.classes[0].peak > 2);
    assert_eq!((stats.gets, stats.classes[0].overflow, stats.double_puts), (stats.puts, 0, 0));
}

#[test]
fn slots_that_other_threads_put_come_before_overflow() {
    let pool = pool();
    let slots: Vec<_> = (0..CAPACITY).map(|_| pool.get(SIZE).unwrap()).collect();
    thread::spawn(move || drop(slots)).join().unwrap();
    let slots = get_many(&pool, CAPACITY);
    assert_eq!(pool.stats().classes[1].overflow, 0);
    let overflow = get(&pool);
    assert_eq!(pool.stats().classes[1].overflow, 1);
    put(&pool, overflow, SIZE).unwrap();
    put_many(&pool, slots);
}

#[test]
fn a_limit_bounds_overflow_however_often() {
    let most = CAPACITY + OFTEN;
    let pool = Pool::builder().size_class(SIZE, CAPACITY).max_bytes(most * SIZE).build().unwrap();
    for _ in 0..3 {
        let all = get_many(&pool, most);
        assert!(matches!(pool.get(SIZE), Err(GetError::Limit { .. })));
        let stats = pool.stats();
        assert_eq!((stats.mapped_bytes, stats.classes[0].overflow), (most * SIZE, OFTEN));
        assert_eq!(stats.classes[0].system_overflow, if HAS_ROOM { 0 } else { OFTEN });
        put_many(&pool, all);
        pool.stats().assert_consistent();
    }
}

#[test]
fn a_pool_that_rounds_has_room_beyond_its_capacities() {
    let pool = Pool::builder().size_class(SIZE, CAPACITY).round(|size| size + 100).build().unwrap();
    for _ in 0..3 {
        let all = get_many(&pool, CAPACITY + OFTEN);
        let stats = pool.stats();
        stats.assert_consistent();
        let class = &stats.classes[0];
        assert_eq!((class.buffer_size, class.overflow), (SIZE + 100, OFTEN));
        assert_eq!(class.system_overflow, if HAS_ROOM { 0 } else { OFTEN });
        put_many(&pool, all);
    }
    assert!(pool.stats().classes[0].idle >= CAPACITY);
}

/// It is looked up before each batch: without thread caches, before each get.
#[test]
fn the_peak_is_the_most_slots_that_were_out() {
    for caches in [false, true] {
        let pool = Pool::builder().size_class(SIZE, CAPACITY).thread_cache(caches).build().unwrap();
        let peak = || pool.stats().classes[0].peak;
        assert_eq!(peak(), 0);
        let batch = if caches { CACHED } else { 1 };
        let mut most = 0;
        for out in [3, CAPACITY, CAPACITY + OFTEN, 5, CAPACITY + 2 * OFTEN, CAPACITY] {
            let all = get_many(&pool, out);
            let slots_out = if HAS_ROOM { out } else { out.min(CAPACITY) };
            most = most.max(slots_out);
            let seen = slots_out.max(most.saturating_sub(batch))..=most;
            assert!(seen.contains(&peak()), "{} while {out} are out, of {most}", peak());
            put_many(&pool, all);
            let seen = most.saturating_sub(batch)..=most;
            assert!(seen.contains(&peak()), "{} after {out} were put, of {most}", peak());
        }
        pool.trim(0);
        assert!(peak() + batch >= most, "a trim forgot {most}");
    }
}

#[test]
fn overflow_outlives_its_pool() {
    if slots_share_pages() {
        return;
    }
    let (pool, slots, data) = with_overflow();
    let owner = pool.get(SIZE).unwrap();
    let watcher = pool.clone();
    drop(pool);
    watcher.close();
    assert!(watcher.get(SIZE).is_err());
    let stats = watcher.stats();
    stats.assert_consistent();
    assert_eq!((stats.classes[1].outstanding, stats.classes[1].overflow), (CAPACITY, 2));
    put(&watcher, data, SIZE).unwrap();
    put_many(&watcher, slots);
    let stats = watcher.stats();
    assert_eq!((stats.mapped_bytes, stats.classes[1].outstanding + stats.classes[1].overflow), (SIZE, 1));
    drop(watcher);
    assert_eq!(owner.len(), SIZE);
    drop(owner);
}
