//! Sixteen threads that get, write, check, hand over and put at random: no buffer ever has two owners, and
//! the figures come out exact.
//!
//! Each owner fills its buffer with a mark of its own and looks for it before it gives the buffer away.

use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytepool::{GetError, Pool, PooledBuffer, ReallocError, Stats};

use crate::valgrind;

const THREADS: usize = 16;

/// Sizes of the three classes, in bytes; fewer buffers than the threads hold at a time, so that some
/// overflow.
const CLASSES: [(usize, usize); 3] = [(100, 20), (1000, 18), (6000, 15)];
const LARGEST: usize = 6000;

/// Whether classes have room beyond their capacities here, so that overflow is slots.
const HAS_ROOM: bool = cfg!(all(unix, not(bytepool_portable)));

/// A buffer on its way, and the mark its owner left.
enum Parcel {
    Owned(PooledBuffer, u8),
    Raw(RawBuffer, u8),
}

/// An outstanding raw buffer that belongs to whoever has this value.
struct RawBuffer {
    data: NonNull<u8>,
    size: usize,
}

// SAFETY:
// - a raw buffer may be used and put by another thread than got it; this value is its only owner
unsafe impl Send for RawBuffer {}

impl RawBuffer {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY:
        // - outstanding, of at least this size, and owned by this value
        // - every byte was written: `Worker::get` fills it before anybody reads
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.size) }
    }
}

impl Parcel {
    fn bytes(&mut self) -> (&mut [u8], u8) {
        match self {
            Self::Owned(buffer, mark) => (buffer, *mark),
            Self::Raw(buffer, mark) => (buffer.bytes(), *mark),
        }
    }

    /// The last owner's mark is all over the buffer.
    fn check(&mut self) {
        let (bytes, mark) = self.bytes();
        let Some((first, rest)) = bytes.split_first() else { return };
        // All are alike if each is like the one before.
        let alike = rest == &bytes[..bytes.len() - 1];
        assert!(*first == mark && alike, "a buffer of {} bytes had two owners", bytes.len());
    }

    fn take_over(&mut self, new: u8) {
        self.check();
        let (Self::Owned(_, mark) | Self::Raw(_, mark)) = self;
        *mark = new;
        self.bytes().0.fill(new);
    }

    fn put(mut self, pool: &Pool) {
        self.check();
        match self {
            Self::Owned(buffer, _) => drop(buffer),
            // SAFETY:
            // - this parcel owned it
            Self::Raw(buffer, _) => unsafe { pool.put_raw(buffer.data, buffer.size) }.unwrap(),
        }
    }
}

/// One thread of the test.
struct Worker<'a> {
    pool: &'a Pool,
    mark: u8,
    random: u64,
    held: Vec<Parcel>,
    gets: u64,
}

impl<'a> Worker<'a> {
    fn new(pool: &'a Pool, thread: usize) -> Self {
        let random = (thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { pool, mark: thread as u8 + 1, random, held: Vec::new(), gets: 0 }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as usize % below
    }

    /// Of any class, sometimes of none.
    fn random_size(&mut self) -> usize {
        let (largest, _) = CLASSES[self.random(3)];
        if self.random(50) == 0 { LARGEST + 1 + self.random(3000) } else { self.random(largest + 1) }
    }

    fn get(&mut self) {
        let size = self.random_size();
        let mark = self.mark;
        self.gets += 1;
        let mut parcel = match self.random(4) {
            0 => {
                let data = self.pool.get_raw(size).unwrap();
                // SAFETY:
                // - this thread's buffer, of at least this size
                unsafe { data.as_ptr().write_bytes(mark, size) };
                Parcel::Raw(RawBuffer { data, size }, mark)
            }
            1 => {
                let buffer = self.pool.get_zeroed(size).unwrap();
                let mut parcel = Parcel::Owned(buffer, 0);
                parcel.check();
                parcel.take_over(mark);
                parcel
            }
            2 => Parcel::Owned(self.pool.copy(&vec![mark; size]).unwrap(), mark),
            _ => {
                let mut buffer = self.pool.get(size).unwrap();
                buffer.fill(mark);
                Parcel::Owned(buffer, mark)
            }
        };
        parcel.check();
        self.held.push(parcel);
    }

    /// Between raw and owned, back and forth.
    fn change_hands(&mut self) {
        let Some(parcel) = self.held.pop() else { return };
        let changed = match parcel {
            Parcel::Owned(buffer, mark) => {
                let (data, size) = buffer.into_raw();
                Parcel::Raw(RawBuffer { data, size }, mark)
            }
            Parcel::Raw(buffer, mark) => {
                let usable = self.pool.usable_size(buffer.data);
                // SAFETY:
                // - this thread's buffer, of so many bytes: from now on all are initialised
                unsafe { buffer.data.add(buffer.size).write_bytes(mark, usable - buffer.size) };
                // SAFETY:
                // - this thread's buffer, all of it initialised
                let owned = unsafe { PooledBuffer::from_raw(self.pool, buffer.data, buffer.size) };
                Parcel::Owned(owned.unwrap(), mark)
            }
        };
        self.held.push(changed);
    }

    fn put(&mut self) {
        if !self.held.is_empty() {
            let index = self.random(self.held.len());
            self.held.swap_remove(index).put(self.pool);
        }
    }

    fn receive(&mut self, inbox: &Receiver<Parcel>) {
        for mut parcel in inbox.try_iter().take(4) {
            parcel.take_over(self.mark);
            self.held.push(parcel);
        }
    }

    fn step(&mut self, outboxes: &[SyncSender<Parcel>], inbox: &Receiver<Parcel>) {
        match self.random(20) {
            0..=7 if self.held.len() < 3 => self.get(),
            8..=9 => self.change_hands(),
            10..=12 => {
                let to = self.random(THREADS);
                let sent = self.held.pop().map(|parcel| outboxes[to].try_send(parcel));
                if let Some(Err(TrySendError::Full(parcel))) = sent {
                    self.held.push(parcel);
                }
            }
            13..=14 => self.receive(inbox),
            15 if self.random(20) == 0 => drop(self.pool.trim(10_000)),
            15 => drop(self.pool.stats()),
            // On few cores threads would meet in few places only.
            16 => std::thread::yield_now(),
            _ => self.put(),
        }
    }
}

/// Lets sixteen workers make `steps` steps each; how many gets they made.
fn work(pool: &Pool, steps: usize) -> u64 {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| sync_channel(2)).unzip();
    let start = Barrier::new(THREADS);
    let run = |thread: usize, inbox: Receiver<Parcel>, outboxes: Vec<SyncSender<Parcel>>| {
        let mut worker = Worker::new(pool, thread);
        start.wait();
        for _ in 0..valgrind::rounds(steps) {
            worker.step(&outboxes, &inbox);
        }
        drop(outboxes);
        // Ends when every thread has dropped its senders.
        for mut parcel in &inbox {
            parcel.take_over(worker.mark);
            parcel.put(pool);
        }
        worker.held.drain(..).for_each(|parcel| parcel.put(pool));
        worker.gets
    };
    let run = &run;
    std::thread::scope(|scope| {
        let spawn = |(thread, inbox)| {
            let outboxes = outboxes.clone();
            scope.spawn(move || run(thread, inbox, outboxes))
        };
        let threads: Vec<_> = inboxes.into_iter().enumerate().map(spawn).collect();
        drop(outboxes);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// What must be true of the figures when all threads have ended.
fn assert_settled(stats: &Stats, gets: u64) {
    stats.assert_consistent();
    assert_eq!((stats.gets, stats.puts), (gets, gets));
    for class in &stats.classes {
        assert_eq!((class.outstanding, class.overflow, class.touched), (0, 0, class.idle));
        assert!(class.gets == class.puts && class.gets > 0);
    }
    assert_eq!((stats.oversize_buffers, stats.oversize_bytes), (0, 0));
    assert_eq!((stats.double_puts, stats.size_mismatches, stats.foreign_pointers), (0, 0, 0));
    assert_eq!((stats.limit_failures, stats.waits), (0, 0));
}

fn pool() -> Pool {
    CLASSES.iter().fold(Pool::builder(), |b, &(size, n)| b.size_class(size, n)).build().unwrap()
}

#[test]
fn sixteen_threads_never_share_a_buffer_and_the_figures_come_out_exact() {
    let pool = pool();
    let gets = work(&pool, 8000);
    let stats = pool.stats();
    assert_settled(&stats, gets);
    let overflowed = stats.classes.iter().filter(|class| class.peak > class.capacity).count();
    assert_eq!(overflowed, if HAS_ROOM { CLASSES.len() } else { 0 }, "too little overflow: {stats:#?}");
    assert!(stats.system_allocations > gets / 100 && stats.system_allocations < gets / 2, "{stats:#?}");

    // Every slot is there to be got, once.
    let all: Vec<_> = stats
        .classes
        .iter()
        .flat_map(|class| (0..class.idle).map(|_| class.buffer_size))
        .map(|size| pool.get(size).unwrap())
        .collect();
    let now = pool.stats();
    assert_eq!(now.system_allocations, stats.system_allocations);
    assert!(
        now.classes
            .iter()
            .zip(&stats.classes)
            .all(|(now, then)| now.touched == then.touched && now.idle == 0)
    );
    let distinct: HashSet<_> = all.iter().map(|buffer| buffer.as_ptr()).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn a_pool_that_zeroes_and_rounds_keeps_the_same_promises() {
    let builder = CLASSES.iter().fold(Pool::builder(), |b, &(size, n)| b.size_class(size, n));
    let builder = builder.zero_on_get(true).zero_on_put(true).round(|size| size.next_multiple_of(50));
    let pool = builder.alignment(256).build().unwrap();
    let gets = work(&pool, 3000);
    assert_settled(&pool.stats(), gets);
}

#[test]
fn one_slot_for_sixteen_threads_has_one_owner_at_a_time() {
    let turns = valgrind::rounds(3000);
    let pool = Pool::builder().size_class(64, 1).build().unwrap();
    let start = Barrier::new(THREADS);
    let take_turns = |mark: u8| {
        start.wait();
        for _ in 0..turns {
            let mut buffer = pool.get(64).unwrap();
            buffer.fill(mark);
            let mut parcel = Parcel::Owned(buffer, mark);
            std::hint::black_box(&mut parcel).check();
            parcel.put(&pool);
        }
    };
    let take_turns = &take_turns;
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u8 {
            scope.spawn(move || take_turns(thread + 1));
        }
    });
    assert_settled(&pool.stats(), (turns * THREADS) as u64);
    // Each has one out at most, and all caches together keep at most 64 of so small a class.
    let most = if HAS_ROOM { THREADS + 64 } else { 1 };
    assert!(pool.stats().classes[0].touched <= most, "slots were lost: {:#?}", pool.stats());
}

#[test]
fn sixteen_pools_in_sixteen_threads_do_not_meet() {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for _ in 0..20 {
                    let pool = pool();
                    let mut worker = Worker::new(&pool, thread);
                    let (outbox, inbox) = sync_channel(2);
                    let outboxes = vec![outbox; THREADS];
                    (0..200).for_each(|_| worker.step(&outboxes, &inbox));
                    inbox.try_iter().for_each(|parcel| parcel.put(&pool));
                    worker.held.drain(..).for_each(|parcel| parcel.put(&pool));
                    pool.stats().assert_consistent();
                    assert_eq!((pool.stats().gets, pool.stats().puts), (worker.gets, worker.gets));
                }
            });
        }
    });
}

/// Resizes an oversize buffer again and again; what it does not get at the limit it does without.
fn resize_oversize(pool: &Pool, thread: usize, rounds: usize) {
    let mut random = thread as u64 + 1;
    let mut size_now = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        LARGEST + 1 + (random >> 33) as usize % 200_000
    };
    let mut size = LARGEST + 1;
    let Ok(mut data) = pool.get_raw(size) else { return };
    for round in 0..rounds {
        let (mark, new_size) = (round as u8 ^ thread as u8, size_now());
        // SAFETY:
        // - this thread's buffer, of this size; given up for the new one if there is one
        unsafe {
            data.as_ptr().write_bytes(mark, size);
            let kept = match pool.realloc_raw(data, new_size) {
                Ok(new) => {
                    let kept = size.min(new_size);
                    (data, size) = (new, new_size);
                    kept
                }
                Err(error) => {
                    assert!(matches!(error, ReallocError::Get(GetError::Limit { .. })) && new_size > size);
                    size
                }
            };
            let bytes = std::slice::from_raw_parts(data.as_ptr(), kept);
            assert!(bytes.iter().all(|&byte| byte == mark), "{kept} bytes were to be kept");
        }
    }
    // SAFETY:
    // - this thread's buffer, put once
    unsafe { pool.put_raw(data, size) }.unwrap();
}

#[test]
fn threads_that_resize_oversize_buffers_at_the_limit_keep_their_bytes_and_the_limit() {
    const LIMIT: usize = 700_000;
    let pool = Pool::builder().size_class(LARGEST, 10).max_bytes(LIMIT).build().unwrap();
    let resize_on_threads = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let pool = &pool;
                    scope.spawn(move || resize_oversize(pool, thread, valgrind::rounds(400)))
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                assert!(pool.stats().mapped_bytes <= LIMIT);
                drop(pool.get(100));
                pool.trim(0);
            }
        })
    };
    // Until they met at the limit, which takes longer where one runs at a time.
    resize_on_threads();
    while pool.stats().limit_failures == 0 && !valgrind::replacements() {
        resize_on_threads();
    }
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.oversize_bytes, stats.oversize_buffers, stats.gets), (0, 0, stats.puts));
}
