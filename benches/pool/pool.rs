//! The library alone: `cargo bench -p pool-bench`. Each case proves itself: the buffers were distinct and written, what
//! was written was read back, and the pool counted them.

use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;
use std::slice::from_ref;
use std::sync::mpsc::sync_channel;
use std::thread;

use bytepool::{Pool, PooledBuffer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The three buffers of the original library's benchmark.
const SIZES: [usize; 3] = [16 << 10, 4 << 10, 512];
const PAGE: usize = 4 << 10;

fn pool() -> Pool {
    let add = |builder: bytepool::Builder, &size: &usize| builder.size_class(size, 1000);
    SIZES.iter().fold(Pool::builder(), add).build().expect("a pool of three classes")
}

// ---- measuring ----

/// Runs one case, and proves that each run made its gets from these pools and put as many. The number of runs: none if
/// criterion was told to leave the case out.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    pools: &[Pool],
    gets_per_run: u64,
    mut run: impl FnMut(),
) -> u64 {
    let counts = || {
        let stats = pools.iter().map(Pool::stats).inspect(|stats| stats.assert_consistent());
        stats.fold([0; 3], |[gets, puts, system], stats| {
            [gets + stats.gets, puts + stats.puts, system + stats.system_allocations]
        })
    };
    let (before, mut runs) = (counts(), 0);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(gets_per_run));
    group.bench_function("time", |bencher| {
        bencher.iter(|| {
            runs += 1;
            run();
        })
    });
    group.finish();
    let after = counts();
    let gets = if pools.is_empty() { 0 } else { runs * gets_per_run };
    assert_eq!(after[0] - before[0], gets, "{name}: gets that the pools did not count");
    assert_eq!(after[1] - before[1], gets, "{name}: puts that the pools did not count");
    assert_eq!(after[2], before[2], "{name}: the pools did not serve every get");
    runs
}

fn write(data: *mut u8, mark: u8) {
    // SAFETY:
    // - every buffer here has at least one byte, and is the caller's
    unsafe { data.write_volatile(mark) }
}

fn read(data: *mut u8) -> u8 {
    // SAFETY:
    // - as in `write`, and written before
    unsafe { data.read_volatile() }
}

// ---- ways to a buffer ----

/// A way to get buffers and to put them.
trait Way {
    type Buffer;
    fn get(&self, size: usize) -> Self::Buffer;
    fn data(buffer: &mut Self::Buffer) -> *mut u8;
    fn put(&self, buffer: Self::Buffer, size: usize);
}

/// From Rust, with an owner.
struct Owned<'a>(&'a Pool);

impl Way for Owned<'_> {
    type Buffer = PooledBuffer;

    #[inline(always)]
    fn get(&self, size: usize) -> PooledBuffer {
        self.0.get(size).expect("a buffer")
    }

    #[inline(always)]
    fn data(buffer: &mut PooledBuffer) -> *mut u8 {
        buffer.as_mut_ptr()
    }

    #[inline(always)]
    fn put(&self, buffer: PooledBuffer, _size: usize) {
        drop(buffer);
    }
}

/// From Rust, without one.
struct Raw<'a>(&'a Pool);

impl Way for Raw<'_> {
    type Buffer = NonNull<u8>;

    fn get(&self, size: usize) -> NonNull<u8> {
        self.0.get_raw(size).expect("a buffer")
    }

    fn data(buffer: &mut NonNull<u8>) -> *mut u8 {
        buffer.as_ptr()
    }

    fn put(&self, buffer: NonNull<u8>, size: usize) {
        // SAFETY:
        // - got from this pool with this size, and not used again
        unsafe { self.0.put_raw(buffer, size) }.expect("a buffer that is out");
    }
}

/// The system allocator, for comparison within one run.
struct Malloc;

impl Malloc {
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).expect("small sizes")
    }
}

impl Way for Malloc {
    type Buffer = *mut u8;

    fn get(&self, size: usize) -> *mut u8 {
        // SAFETY:
        // - no size here is 0
        let data = unsafe { std::alloc::alloc(Self::layout(size)) };
        assert!(!data.is_null(), "no memory");
        // The compiler knows allocators, and would leave them out.
        black_box(data)
    }

    fn data(buffer: &mut *mut u8) -> *mut u8 {
        *buffer
    }

    fn put(&self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - allocated with this layout, and not used again
        unsafe { std::alloc::dealloc(buffer, Self::layout(size)) }
    }
}

mod through_c {
    use std::ffi::c_void;

    use super::{NonNull, Pool, Raw, Way, black_box};
    use bytepool::Context;
    use bytepool::ffi::capi::{bytepool_get, bytepool_put};

    /// Through the context, by the C functions.
    pub struct Contextual(pub Context);

    impl Way for Contextual {
        type Buffer = *mut c_void;

        fn get(&self, size: usize) -> *mut c_void {
            let data = bytepool_get(black_box(self.0.as_ptr()), size);
            assert!(!data.is_null(), "no buffer");
            data
        }

        fn data(buffer: &mut *mut c_void) -> *mut u8 {
            buffer.cast()
        }

        fn put(&self, buffer: *mut c_void, size: usize) {
            // SAFETY:
            // - got from this context's pool with this size, and not used again
            unsafe { bytepool_put(black_box(self.0.as_ptr()), buffer, size) }
        }
    }

    /// Mixed: got through the context, and put from Rust.
    pub struct Mixed<'a>(pub Contextual, pub &'a Pool);

    impl Way for Mixed<'_> {
        type Buffer = *mut c_void;

        fn get(&self, size: usize) -> *mut c_void {
            self.0.get(size)
        }

        fn data(buffer: &mut *mut c_void) -> *mut u8 {
            buffer.cast()
        }

        fn put(&self, buffer: *mut c_void, size: usize) {
            Raw(self.1).put(NonNull::new(buffer.cast()).expect("get made sure"), size);
        }
    }
}

// ---- the original's body, and pairs ----

/// What happens to a buffer's bytes.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Touched,
    CopiedIn,
    CopiedInAndOut,
}

const USES: [(Use, &str); 3] =
    [(Use::Touched, "touched"), (Use::CopiedIn, "copied_in"), (Use::CopiedInAndOut, "copied_in_and_out")];

/// Bytes to copy from, and to.
struct Bytes {
    source: Vec<u8>,
    target: Vec<u8>,
}

/// A buffer of each size out at once, used, and put.
fn body<W: Way>(way: &W, usage: Use, bytes: &mut Bytes) {
    let mut buffers = SIZES.map(|size| way.get(black_box(size)));
    for (number, (buffer, size)) in buffers.iter_mut().zip(SIZES).enumerate() {
        let data = W::data(buffer);
        if usage != Use::Touched {
            // SAFETY:
            // - both have `size` bytes
            unsafe { data.copy_from_nonoverlapping(bytes.source.as_ptr(), size) };
        }
        write(data, number as u8);
    }
    for (number, (mut buffer, size)) in buffers.into_iter().zip(SIZES).enumerate() {
        let data = W::data(&mut buffer);
        assert_eq!(read(data), number as u8, "two owners of one buffer");
        if usage == Use::CopiedInAndOut {
            // SAFETY:
            // - both have `size` bytes, and those of the buffer were copied in
            unsafe { bytes.target.as_mut_ptr().copy_from_nonoverlapping(data, size) };
            black_box(&bytes.target);
        }
        way.put(buffer, size);
    }
}

fn three_buffers_by<W: Way>(criterion: &mut Criterion, name: &str, pools: &[Pool], way: &W) {
    for (usage, word) in USES {
        let mut bytes = Bytes { source: vec![7; SIZES[0]], target: vec![0; SIZES[0]] };
        let name = format!("three_buffers/{word}/{name}");
        let runs = measure(criterion, &name, pools, 3, || body(way, usage, &mut bytes));
        // The first byte is a mark.
        let copied = bytes.target[1..] == bytes.source[1..];
        let to_be = usage == Use::CopiedInAndOut && runs > 0;
        assert_eq!(copied, to_be, "{name}: the copies were not made");
    }
}

fn pairs_by<W: Way>(criterion: &mut Criterion, name: &str, pools: &[Pool], way: &W) {
    for size in SIZES {
        let mut mark = 0u8;
        measure(criterion, &format!("pair/{size}/{name}"), pools, 1, || {
            mark = mark.wrapping_add(1);
            let mut buffer = way.get(black_box(size));
            write(W::data(&mut buffer), mark);
            assert_eq!(read(W::data(&mut buffer)), mark, "not what was written was read back");
            way.put(buffer, size);
        });
    }
}

fn by_way<W: Way>(criterion: &mut Criterion, name: &str, pools: &[Pool], way: &W) {
    three_buffers_by(criterion, name, pools, way);
    pairs_by(criterion, name, pools, way);
}

fn ways(criterion: &mut Criterion) {
    use through_c::{Contextual, Mixed};
    let pools = [pool()];
    by_way(criterion, "owned", &pools, &Owned(&pools[0]));
    by_way(criterion, "raw", &pools, &Raw(&pools[0]));
    by_way(criterion, "context", &pools, &Contextual(pools[0].context()));
    by_way(criterion, "mixed", &pools, &Mixed(Contextual(pools[0].context()), &pools[0]));
    by_way(criterion, "malloc", &[], &Malloc);
}

// ---- many buffers, threads, pools ----

/// Many buffers of one class out at once.
fn bursts(criterion: &mut Criterion) {
    const BURST: usize = 64;
    let pool = pool();
    let mut buffers = Vec::with_capacity(BURST);
    measure(criterion, "burst_of_64/4096", from_ref(&pool), BURST as u64, || {
        for mark in 0..BURST {
            buffers.push(Raw(&pool).get(PAGE));
            write(buffers[mark].as_ptr(), mark as u8);
        }
        for (mark, data) in buffers.drain(..).enumerate() {
            assert_eq!(read(data.as_ptr()), mark as u8, "two owners of one buffer");
            Raw(&pool).put(data, PAGE);
        }
    });
}

/// 256 buffers of all sizes are out; one after another, at random, is put and another of a random size got.
fn random_mix(criterion: &mut Criterion) {
    const LIVE: usize = 256;
    let pool = pool();
    let get = |place: usize, size: usize| {
        let mut buffer = pool.get(size).expect("a buffer");
        buffer[0] = place as u8;
        buffer
    };
    let mut live: [PooledBuffer; LIVE] = std::array::from_fn(|place| get(place, SIZES[place % 3]));
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    measure(criterion, "random_mix/256", from_ref(&pool), 1, || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let place = random as usize % LIVE;
        assert_eq!(live[place][0], place as u8, "two owners of one buffer");
        live[place] = get(place, SIZES[(random >> 32) as usize % 3]);
    });
}

/// 64 buffers got on this thread and put on another; both take turns, and most of the time goes into waking each other.
/// `benches/peers` measures the hand-over without that.
fn hand_over(criterion: &mut Criterion) {
    const BATCH: usize = 64;
    let pool = pool();
    let (to_putter, batches) = sync_channel::<Vec<PooledBuffer>>(1);
    let (back, emptied) = sync_channel(1);
    let putter = thread::spawn(move || {
        for mut batch in batches {
            for (mark, buffer) in batch.drain(..).enumerate() {
                assert_eq!(buffer[0], mark as u8, "not what was written was read back");
            }
            back.send(batch).expect("the getter waits");
        }
    });
    let mut batch = Vec::with_capacity(BATCH);
    measure(criterion, "hand_over_of_64/4096", from_ref(&pool), BATCH as u64, || {
        for mark in 0..BATCH {
            batch.push(pool.get(PAGE).expect("a buffer"));
            batch[mark][0] = mark as u8;
        }
        to_putter.send(std::mem::take(&mut batch)).expect("the putter waits");
        batch = emptied.recv().expect("the putter's proof");
    });
    drop(to_putter);
    putter.join().expect("the putter's proof");
}

/// One buffer of each of many pools, in turn.
fn many_pools(criterion: &mut Criterion) {
    for count in [1, 9, 100] {
        let pools: Vec<Pool> = (0..count).map(|_| pool()).collect();
        measure(criterion, &format!("pools_in_turn/{count}"), &pools, count, || {
            for (number, pool) in pools.iter().enumerate() {
                let mut buffer = pool.get(PAGE).expect("a buffer");
                write(buffer.as_mut_ptr(), number as u8);
                assert_eq!(read(buffer.as_mut_ptr()), number as u8);
            }
        });
        assert!(pools.iter().all(|pool| pool.stats().gets == pools[0].stats().gets), "a pool was left out");
    }
}

/// Frames of 3 MiB, every page touched: no page fault once the slot is touched.
fn frames(criterion: &mut Criterion) {
    const FRAME: usize = 3 << 20;
    const LINE: usize = 64;
    let pool = Pool::builder().size_class(FRAME, 4).build().expect("a pool of frames");
    let mut mark = 0u8;
    measure(criterion, "frame/3MiB", from_ref(&pool), 1, || {
        mark = mark.wrapping_add(1);
        let mut frame = pool.get(FRAME).expect("a frame");
        // Another cache line of each page: the same one of all would fall into few cache sets.
        let mut bytes = (0..FRAME / PAGE).map(|page| page * PAGE + page * LINE % PAGE);
        bytes.clone().for_each(|byte| write(&mut frame[byte], mark));
        let last = bytes.next_back().expect("a frame has pages");
        assert_eq!((frame[0], frame[last]), (mark, mark), "not what was written was read back");
    });
}

criterion_group!(benches, ways, bursts, random_mix, hand_over, many_pools, frames);
criterion_main!(benches);
