//! The library alone: `cargo bench`. Each case proves itself: the buffers were distinct, written, and counted
//! by the pool.

use std::hint::black_box;
use std::ptr::NonNull;

use bytepool::Pool;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CLASSES: [usize; 3] = [512, 4 << 10, 16 << 10];

fn pool() -> Pool {
    let add = |builder: bytepool::Builder, &size: &usize| builder.size_class(size, 1000);
    CLASSES.iter().fold(Pool::builder(), add).build().expect("a pool of three classes")
}

/// Runs one case and compares the pool's own count of gets with the number of runs.
fn measure(criterion: &mut Criterion, name: &str, pool: &Pool, gets_per_run: u64, mut run: impl FnMut()) {
    let mut runs = 0u64;
    let before = pool.stats().gets;
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(gets_per_run));
    group.bench_function("bytepool", |bencher| {
        bencher.iter(|| {
            runs += 1;
            run();
        })
    });
    group.finish();
    let stats = pool.stats();
    assert_eq!(stats.gets - before, runs * gets_per_run, "{name}: gets that the pool did not count");
    assert_eq!(stats.gets, stats.puts, "{name}: buffers are still out");
    assert_eq!(stats.system_allocations, 0, "{name}: the pool did not serve every get");
    stats.assert_consistent();
}

fn touch(data: NonNull<u8>, mark: u8) {
    // SAFETY:
    // - every buffer here has at least one byte, and is this thread's
    unsafe { data.as_ptr().write_volatile(mark) };
}

fn put(pool: &Pool, data: NonNull<u8>, size: usize) {
    // SAFETY:
    // - got from this pool by this thread and not used again
    unsafe { pool.put_raw(data, size) }.expect("a buffer that is out");
}

/// One buffer got, touched and put, for each class: as a `PooledBuffer`, raw, and through the C functions.
fn pairs(criterion: &mut Criterion) {
    for size in CLASSES {
        let pool = pool();
        measure(criterion, &format!("pair/rust/{size}"), &pool, 1, || {
            let mut buffer = pool.get(size).expect("a buffer");
            buffer[0] = 1;
            black_box(&buffer);
        });
        measure(criterion, &format!("pair/raw/{size}"), &pool, 1, || {
            let data = pool.get_raw(size).expect("a buffer");
            touch(data, 1);
            put(&pool, data, size);
        });
        through_c(criterion, &format!("pair/c/{size}"), &pool, size);
        system(criterion, &format!("pair/system/{size}"), size);
    }
}

#[cfg(feature = "capi")]
fn through_c(criterion: &mut Criterion, name: &str, pool: &Pool, size: usize) {
    use bytepool::ffi::capi::{bytepool_get, bytepool_put};
    let context = pool.context();
    measure(criterion, name, pool, 1, || {
        let data = bytepool_get(black_box(context.as_ptr()), size);
        touch(NonNull::new(data.cast()).expect("a buffer"), 1);
        // SAFETY:
        // - got from this context by this thread and not used again
        unsafe { bytepool_put(context.as_ptr(), data, size) };
    });
}

#[cfg(not(feature = "capi"))]
fn through_c(_: &mut Criterion, _: &str, _: &Pool, _: usize) {}

/// The same with the system allocator, for comparison within one run.
fn system(criterion: &mut Criterion, name: &str, size: usize) {
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut buffer: Vec<u8> = Vec::with_capacity(size);
            buffer.push(1);
            black_box(buffer.as_mut_ptr());
        })
    });
}

/// The original library's benchmark body: a buffer of each class out at once, then all put.
fn three_buffers(criterion: &mut Criterion) {
    let pool = pool();
    measure(criterion, "three_buffers", &pool, 3, || {
        let buffers = CLASSES.map(|size| pool.get_raw(size).expect("a buffer"));
        assert!(buffers[0] != buffers[1] && buffers[1] != buffers[2] && buffers[0] != buffers[2]);
        buffers.iter().for_each(|&data| touch(data, 1));
        std::iter::zip(buffers, CLASSES).for_each(|(data, size)| put(&pool, data, size));
    });
}

/// Many buffers of one class out at once.
fn bursts(criterion: &mut Criterion) {
    const BURST: usize = 64;
    let pool = pool();
    let mut buffers = Vec::with_capacity(BURST);
    measure(criterion, "burst_of_64/4096", &pool, BURST as u64, || {
        for index in 0..BURST {
            let data = pool.get_raw(4096).expect("a buffer");
            touch(data, index as u8);
            buffers.push(data);
        }
        for (index, data) in buffers.drain(..).enumerate() {
            // SAFETY:
            // - touched above, and this thread's until the put
            assert_eq!(unsafe { data.as_ptr().read() }, index as u8, "two owners of one buffer");
            put(&pool, data, 4096);
        }
    });
}

/// A copy of bytes into a buffer, and out again.
fn copies(criterion: &mut Criterion) {
    let source = vec![7u8; 4096];
    let mut target = vec![0u8; 4096];
    let pool = pool();
    measure(criterion, "copy_in/4096", &pool, 1, || {
        black_box(pool.copy(black_box(&source)).expect("a buffer"));
    });
    measure(criterion, "copy_in_and_out/4096", &pool, 1, || {
        target.copy_from_slice(&pool.copy(black_box(&source)).expect("a buffer"));
        black_box(&target);
    });
    assert_eq!(target, source);
}

/// Frames of 3 MiB, every page touched: no page fault once the slot is touched.
fn frames(criterion: &mut Criterion) {
    const FRAME: usize = 3 << 20;
    let pool = Pool::builder().size_class(FRAME, 4).build().expect("a pool of frames");
    measure(criterion, "frame/3MiB", &pool, 1, || {
        let mut frame = pool.get(FRAME).expect("a frame");
        frame.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        black_box(&frame);
    });
}

criterion_group!(benches, pairs, three_buffers, bursts, copies, frames);
criterion_main!(benches);
