//! The cases of one thread: each function makes the loop of one case for any peer.

use std::ffi::c_void;
use std::hint::black_box;
use std::thread;

use crate::measure::{Sample, Start, check_marks, proven};
use crate::ours::Pooled;
use crate::peers::{Mempool, Peer, SIZES, unknown};

pub const BURST: usize = 64;
pub const BATCH: usize = 32;

/// Writes a mark and reads it back.
///
/// # Safety
/// - `data` is a byte of the caller's
#[inline(always)]
unsafe fn touch(data: *mut u8, mark: u8) -> u64 {
    // SAFETY:
    // - the caller's byte
    unsafe {
        data.write_volatile(mark);
        u64::from(data.read_volatile())
    }
}

/// One get, touch and put; also the body of the cases with threads.
pub fn pair_loop<P: Peer>(peer: P, size: usize, count: u64) {
    let (peer, size) = (unknown(peer), black_box(size));
    let mut sum = 0;
    for index in 0..count {
        // SAFETY:
        // - one buffer, got, touched and put by this thread
        unsafe {
            let buffer = peer.get(size);
            sum += touch(peer.data(buffer), index as u8);
            peer.put(buffer, size);
        }
    }
    check_marks(sum, count);
}

pub fn pair<P: Peer>(peer: P, size: usize) -> impl FnMut(u64) -> Sample {
    move |count| {
        proven(peer, count, || {
            let start = Start::now();
            pair_loop(peer, size, count);
            Sample::since(start, count)
        })
    }
}

/// The original library's body: a buffer of each class, got, touched and put.
pub fn three_loop<P: Peer>(peer: P, count: u64) {
    let (peer, sizes) = (unknown(peer), black_box(SIZES));
    let (mut sum, mut wrong) = (0, 0);
    for index in 0..count {
        // SAFETY:
        // - three buffers, got, touched and put by this thread
        unsafe {
            let buffers = sizes.map(|size| peer.get(size));
            for (offset, &buffer) in buffers.iter().enumerate() {
                peer.data(buffer).write_volatile((index as u8).wrapping_add(offset as u8));
            }
            // Of two equal buffers the first would have the second's mark.
            let marks = buffers.map(|buffer| peer.data(buffer).read_volatile());
            wrong += u64::from(marks[1] != (index as u8).wrapping_add(1));
            sum += u64::from(marks[0]);
            for (buffer, size) in std::iter::zip(buffers, sizes) {
                peer.put(buffer, size);
            }
        }
    }
    check_marks(sum, count);
    assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
}

pub fn three<P: Peer>(peer: P) -> impl FnMut(u64) -> Sample {
    move |count| {
        proven(peer, 3 * count, || {
            let start = Start::now();
            three_loop(peer, count);
            Sample::since(start, count)
        })
    }
}

/// `N` buffers out at once, each with a mark of its own, then all put. Reads each mark again before the put: two
/// owners of one buffer are found.
pub fn burst_loop<P: Peer, const N: usize>(peer: P, size: usize, bursts: u64) {
    let (peer, size) = (unknown(peer), black_box(size));
    let mut buffers = [std::ptr::null_mut(); N];
    let mut wrong = 0;
    for _ in 0..bursts {
        for (index, buffer) in buffers.iter_mut().enumerate() {
            // SAFETY:
            // - a buffer of this thread's
            unsafe {
                *buffer = peer.get(size);
                peer.data(*buffer).write_volatile(index as u8);
            }
        }
        for (index, &buffer) in buffers.iter().enumerate() {
            // SAFETY:
            // - got above and put once
            unsafe {
                wrong += u64::from(peer.data(buffer).read_volatile() != index as u8);
                peer.put(buffer, size);
            }
        }
    }
    assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
}

pub fn burst<P: Peer, const N: usize>(peer: P, size: usize) -> impl FnMut(u64) -> Sample {
    move |bursts| {
        let count = bursts * N as u64;
        proven(peer, count, || {
            let start = Start::now();
            burst_loop::<P, N>(peer, size, bursts);
            Sample::since(start, count)
        })
    }
}

/// A fast and repeatable sequence.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    #[inline(always)]
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * limit as u128) >> 64) as usize
    }
}

/// `LIVE` buffers are out; one after another, at random, is put and got anew. Each has its place as its mark.
pub fn random_replacement<P: Peer, const LIVE: usize>(peer: P, size: usize) -> impl FnMut(u64) -> Sample {
    const { assert!(LIVE <= 256) };
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    move |count| {
        proven(peer, count + LIVE as u64, || {
            let (peer, size) = (unknown(peer), black_box(size));
            let mut wrong = 0;
            // SAFETY:
            // - each buffer is put once, by this thread, and got anew before it is used again
            unsafe {
                let get = |index: usize| {
                    let buffer = peer.get(size);
                    peer.data(buffer).write_volatile(index as u8);
                    buffer
                };
                let mut live: [_; LIVE] = std::array::from_fn(get);
                let start = Start::now();
                for _ in 0..count {
                    let index = random.below(LIVE);
                    wrong += u64::from(peer.data(live[index]).read_volatile() != index as u8);
                    peer.put(live[index], size);
                    live[index] = get(index);
                }
                let sample = Sample::since(start, count);
                live.iter().for_each(|&buffer| peer.put(buffer, size));
                assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
                sample
            }
        })
    }
}

/// `live` buffers are out, twice the class's capacity; bursts of 64 of them are put and got anew.
pub fn beyond_capacity<P: Peer>(peer: P, size: usize, live: usize) -> impl FnMut(u64) -> Sample {
    let mut random = Random::new(7);
    move |bursts| {
        let count = bursts * BURST as u64;
        proven(peer, count + live as u64, || {
            let (peer, size) = (unknown(peer), black_box(size));
            let mut wrong = 0;
            // SAFETY:
            // - each buffer is put once, by this thread, and got anew before it is used again
            unsafe {
                let get = |index: usize| {
                    let buffer = peer.get(size);
                    peer.data(buffer).cast::<u16>().write_volatile(index as u16);
                    buffer
                };
                let mut buffers: Vec<_> = (0..live).map(get).collect();
                let start = Start::now();
                for _ in 0..bursts {
                    // Spread over all of them, from a random one on.
                    let first = random.below(live);
                    let chosen = |step: usize| (first + step * (live / BURST)) % live;
                    for step in 0..BURST {
                        let index = chosen(step);
                        let mark = peer.data(buffers[index]).cast::<u16>().read_volatile();
                        wrong += u64::from(mark != index as u16);
                        peer.put(buffers[index], size);
                    }
                    for step in 0..BURST {
                        let index = chosen(step);
                        buffers[index] = get(index);
                    }
                }
                let sample = Sample::since(start, count);
                buffers.iter().for_each(|&buffer| peer.put(buffer, size));
                assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
                sample
            }
        })
    }
}

/// A frame got, every page written, and put.
pub fn frame<P: Peer>(peer: P, size: usize) -> impl FnMut(u64) -> Sample {
    const PAGE: usize = 4096;
    const LINE: usize = 64;
    move |count| {
        proven(peer, count, || {
            let (peer, size) = (unknown(peer), black_box(size));
            let start = Start::now();
            let mut sum = 0;
            for index in 0..count {
                // SAFETY:
                // - a buffer of `size` bytes, this thread's until the put
                unsafe {
                    let frame = peer.get(size);
                    let data = peer.data(frame);
                    // In another cache line of each page: the same line of all would fall into few cache sets, and how
                    // few depends on what physical pages a peer happens to have.
                    let byte = |page: usize| data.add(page * PAGE + page % (PAGE / LINE) * LINE);
                    (0..size / PAGE).for_each(|page| byte(page).write_volatile(index as u8));
                    sum += u64::from(byte(size / PAGE - 1).read_volatile());
                    peer.put(frame, size);
                }
            }
            check_marks(sum, count);
            Sample::since(start, count)
        })
    }
}

/// One thread that uses all these pools in turn. A thread of its own each time, so that its ways to these pools are
/// not in the way of the other cases.
pub fn pools_in_turn(pools: Vec<Pooled>, size: usize) -> impl FnMut(u64) -> Sample {
    move |count| {
        let warm = 10 * pools.len() as u64;
        let gets = || -> u64 { pools.iter().map(|pool| pool.counts().expect("bytepool counts").gets).sum() };
        let before = gets();
        let sample = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                turns(&pools, size, warm);
                let start = Start::now();
                turns(&pools, size, count);
                Sample::since(start, count)
            });
            thread.join().expect("a thread's proof")
        });
        assert_eq!(gets() - before, count + warm, "proof failed: gets that the pools did not count");
        sample
    }
}

fn turns(pools: &[Pooled], size: usize, count: u64) {
    let (pools, size) = (black_box(pools), black_box(size));
    let (mut sum, mut next) = (0, 0);
    for index in 0..count {
        let pool = pools[next];
        next = if next + 1 == pools.len() { 0 } else { next + 1 };
        // SAFETY:
        // - one buffer, got, touched and put by this thread
        unsafe {
            let buffer = pool.get(size);
            sum += touch(buffer, index as u8);
            pool.put(buffer, size);
        }
    }
    check_marks(sum, count);
}

// ---- many at once ----

/// Something that hands out many buffers in one call.
pub trait ManyPeer: Peer {
    /// # Safety
    /// - as [`Peer::get`]
    unsafe fn get_many(self, size: usize, out: &mut [*mut c_void; BATCH]) -> bool;
    /// # Safety
    /// - as [`Peer::put`], for each
    unsafe fn put_many(self, buffers: &[*mut c_void; BATCH], size: usize);
}

impl ManyPeer for Pooled {
    #[inline(always)]
    unsafe fn get_many(self, size: usize, out: &mut [*mut c_void; BATCH]) -> bool {
        // SAFETY:
        // - `out` has room for BATCH pointers
        unsafe { (self.functions.get_many)(self.context(), size, out.as_mut_ptr(), BATCH) == 0 }
    }

    #[inline(always)]
    unsafe fn put_many(self, buffers: &[*mut c_void; BATCH], size: usize) {
        // SAFETY:
        // - BATCH buffers of this pool, each got with this size, says the caller
        let status = unsafe { (self.functions.put_many)(self.context(), buffers.as_ptr(), BATCH, size) };
        assert_eq!(status, 0, "proof failed: bytepool refused a buffer");
    }
}

impl ManyPeer for Mempool {
    #[inline(always)]
    unsafe fn get_many(self, size: usize, out: &mut [*mut c_void; BATCH]) -> bool {
        // SAFETY:
        // - `out` has room for BATCH pointers
        unsafe { (self.get_many)(size, out.as_mut_ptr(), BATCH) == 0 }
    }

    #[inline(always)]
    unsafe fn put_many(self, buffers: &[*mut c_void; BATCH], size: usize) {
        // SAFETY:
        // - BATCH buffers, each got with this size, says the caller
        unsafe { (self.put_many)(buffers.as_ptr(), BATCH, size) }
    }
}

/// As [`burst`], with one call to get all and one to put all.
pub fn many<P: ManyPeer>(peer: P, size: usize) -> impl FnMut(u64) -> Sample {
    move |batches| {
        let count = batches * BATCH as u64;
        proven(peer, count, || {
            let (peer, size) = (unknown(peer), black_box(size));
            let mut buffers = [std::ptr::null_mut::<c_void>(); BATCH];
            let mut wrong = 0;
            let start = Start::now();
            for _ in 0..batches {
                // SAFETY:
                // - BATCH buffers of this thread's, put once
                unsafe {
                    assert!(peer.get_many(size, &mut buffers), "proof failed: no buffers");
                    for (index, &buffer) in buffers.iter().enumerate() {
                        buffer.cast::<u8>().write_volatile(index as u8);
                    }
                    for (index, &buffer) in buffers.iter().enumerate() {
                        wrong += u64::from(buffer.cast::<u8>().read_volatile() != index as u8);
                    }
                    peer.put_many(&buffers, size);
                }
            }
            let sample = Sample::since(start, count);
            assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
            sample
        })
    }
}
