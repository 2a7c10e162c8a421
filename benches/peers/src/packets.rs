//! What the place of a buffer costs who uses it: the buffers stay out, and only the work on them is measured.

use std::hint::black_box;

use crate::measure::{Sample, Start, Suite, proven};
use crate::peers::{Peer, unknown};

pub const SIZE: usize = 4096;
/// The class of a pool that has enough of them.
pub const CLASS: &[(usize, usize)] = &[(SIZE, 1024)];
const LIVE: [usize; 3] = [64, 256, 1024];

pub fn cases<P: Peer>(suite: &mut Suite, name: &str, peer: P) {
    for live in LIVE {
        // SAFETY:
        // - `on_live` gives it buffers of SIZE bytes, written
        let run = on_live(peer, name.to_owned(), live, |data| unsafe { header(data) });
        suite.add(&format!("headers of {live} live"), name, run);
    }
    // SAFETY:
    // - as above, and all peers align to 8
    let run = on_live(peer, name.to_owned(), 256, |data| unsafe { whole(data) });
    suite.add("256 live, read whole", name, run);
}

/// Where the mark of a buffer is, and what the work on a header counts.
const MARK: usize = 0;
const COUNTED: usize = 64;

/// A byte is read where a packet's header begins, and one written in the next cache line.
///
/// # Safety
/// - `data` is a buffer of [`SIZE`] bytes, the caller's and written
#[inline(always)]
unsafe fn header(data: *mut u8) -> u64 {
    // SAFETY:
    // - both bytes are of the caller's buffer
    unsafe {
        let mark = data.add(MARK).read_volatile();
        data.add(COUNTED).write_volatile(mark);
        u64::from(mark)
    }
}

/// Every byte is read, by words.
///
/// # Safety
/// - as [`header`]; aligned to 8
#[inline(always)]
unsafe fn whole(data: *mut u8) -> u64 {
    // SAFETY:
    // - all words are of the caller's buffer, which is written and aligned
    let words = unsafe { std::slice::from_raw_parts(data.cast::<u64>(), SIZE / 8) };
    black_box(words).iter().fold(0, |sum, &word| sum ^ word) & 0xff
}

/// `live` buffers are got, then worked on one after the other, again and again, and put. Time of the work on one.
fn on_live<P: Peer>(
    peer: P,
    name: String,
    live: usize,
    work: impl Fn(*mut u8) -> u64 + 'static,
) -> impl FnMut(u64) -> Sample {
    move |count| {
        let (peer, size) = (unknown(peer), black_box(SIZE));
        proven(peer, live as u64, || {
            let mark = |index: usize| (index % 251) as u8;
            let got = |index: usize| {
                // SAFETY:
                // - a buffer of this size, this thread's until it is put below
                unsafe {
                    let buffer = peer.get(size);
                    let data = peer.data(buffer);
                    assert!(!data.is_null(), "a peer is out of memory: {name}");
                    data.write_bytes(0, size);
                    data.add(MARK).write_volatile(mark(index));
                    (buffer, data)
                }
            };
            let buffers: Vec<(*mut u8, *mut u8)> = (0..live).map(got).collect();
            let data: Vec<*mut u8> = buffers.iter().map(|&(_, data)| data).collect();
            let rounds = count.div_ceil(live as u64);
            let mut sum = 0;
            let start = Start::now();
            for _ in 0..rounds {
                for &data in black_box(&data) {
                    sum += work(data);
                }
            }
            let sample = Sample::since(start, rounds * live as u64);
            let once: u64 = (0..live).map(|index| u64::from(mark(index))).sum();
            assert_eq!(sum, rounds * once, "proof failed: two owners of one buffer, or bytes of others");
            for (buffer, _) in buffers {
                // SAFETY:
                // - put once, and not used again
                unsafe { peer.put(buffer, size) };
            }
            sample
        })
    }
}
