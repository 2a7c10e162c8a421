//! The owners that put by themselves: `PooledBuffer` in Rust against a bare list and zeropool, and `PooledBuffer` in
//! C++ against the C functions.

use std::cell::RefCell;
use std::ffi::c_void;
use std::hint::black_box;

use bytepool::Pool;
use zeropool::ZeroPool;

use crate::library::Library;
use crate::measure::{Sample, Served, Start, check_marks, proven};
use crate::ours::Pooled;
use crate::peers::{CAPACITY, SIZES};

#[inline(always)]
fn touch(data: *mut u8, mark: u8) -> u64 {
    // SAFETY:
    // - each caller passes the first byte of a buffer that it owns
    unsafe {
        data.write_volatile(mark);
        u64::from(data.read_volatile())
    }
}

/// Times `count` turns of a body that returns the byte it read back.
#[inline(always)]
fn timed(count: u64, mut turn: impl FnMut(u8) -> u64) -> Sample {
    let mut sum = 0;
    let start = Start::now();
    for index in 0..count {
        sum += turn(index as u8);
    }
    let sample = Sample::since(start, count);
    check_marks(sum, count);
    sample
}

pub fn pooled_buffer(size: usize) -> impl FnMut(u64) -> Sample {
    let pool = SIZES.iter().fold(Pool::builder(), |builder, &size| builder.size_class(size, CAPACITY));
    let pool = pool.build().expect("a pool of three classes");
    move |count| {
        let before = pool.stats();
        let (pool, size) = (black_box(&pool), black_box(size));
        let sample = timed(count, |mark| {
            let mut buffer = pool.get(size).expect("a buffer");
            touch(buffer.as_mut_ptr(), mark)
        });
        let after = pool.stats();
        assert_eq!(after.gets - before.gets, count, "proof failed: gets that the pool did not count");
        assert_eq!(after.puts - before.puts, count, "proof failed: puts that the pool did not count");
        sample
    }
}

/// Unzeroed: what it has of its own that reads nothing.
pub fn zeropool(size: usize) -> impl FnMut(u64) -> Sample {
    let pool = ZeroPool::new();
    move |count| {
        let (pool, size) = (black_box(&pool), black_box(size));
        timed(count, |mark| {
            let mut buffer = pool.alloc_uninit(size);
            touch(buffer.as_uninit_mut().as_mut_ptr().cast(), mark)
        })
    }
}

thread_local! {
    static IDLE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of a thread-local list, with no check but Rust's own.
struct Bare(Option<Box<[u8]>>);

impl Bare {
    #[inline(always)]
    fn get(size: usize) -> Self {
        let idle = IDLE.with_borrow_mut(Vec::pop);
        Self(Some(idle.unwrap_or_else(|| vec![0; size].into_boxed_slice())))
    }
}

impl Drop for Bare {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(buffer) = self.0.take() {
            IDLE.with_borrow_mut(|idle| idle.push(buffer));
        }
    }
}

pub fn bare_list(size: usize) -> impl FnMut(u64) -> Sample {
    move |count| {
        IDLE.with_borrow_mut(Vec::clear);
        let size = black_box(size);
        timed(count, |mark| {
            let mut buffer = Bare::get(size);
            touch(buffer.0.as_mut().expect("full until dropped").as_mut_ptr(), mark)
        })
    }
}

/// Which loop of cpp/raii.cpp.
pub enum Cpp {
    PooledBuffer,
    CFunctions,
}

pub fn cpp(which: &Cpp, pool: Pooled, size: usize) -> impl FnMut(u64) -> Sample + use<> {
    let library = Library::open(env!("PEERS_RAII")).expect("the build script linked it");
    let symbol = match which {
        Cpp::PooledBuffer => "raii_pooled_buffer",
        Cpp::CFunctions => "raii_c_functions",
    };
    // SAFETY:
    // - the type that cpp/raii.cpp gives both
    let run: unsafe extern "C" fn(*mut c_void, usize, u64) -> u64 = unsafe { library.function(symbol) };
    move |count| {
        proven(pool, count, Served::Pooled, || {
            let start = Start::now();
            // SAFETY:
            // - a live context
            let sum = unsafe { run(pool.context(), size, count) };
            let sample = Sample::since(start, count);
            check_marks(sum, count);
            sample
        })
    }
}
