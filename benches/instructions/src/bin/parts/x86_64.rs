//! The variants, and how they are timed.

use std::arch::global_asm;
use std::arch::x86_64::_rdtsc;
use std::ffi::c_void;
use std::hint::black_box;

use bytepool::Pool;

global_asm!(include_str!("fast_path.s"));

type Get = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
type Put = unsafe extern "C" fn(*mut c_void, *mut c_void, usize);

const SIZE: usize = 4096;
/// Gets in a row before as many puts: a pair, three buffers, a burst.
const BURSTS: [usize; 3] = [1, 3, 64];
/// Gets of a burst's samples: whole bursts, and an even number of them. A burst turns the stack around, and where the
/// slot's number is left out, it does not move along.
const GETS: usize = 128 * 3 * 50;

unsafe extern "C" {
    fn bytepool_get(context: *mut c_void, size: usize) -> *mut c_void;
    fn bytepool_put(context: *mut c_void, data: *mut c_void, size: usize);
}

/// A pair of functions, and what they leave out.
pub struct Variant {
    left_out: &'static str,
    get: Get,
    put: Put,
    /// Whether the puts are counted.
    counts: bool,
    /// Cycles of a get and a put, one for each round, of each of [`BURSTS`].
    samples: [Vec<f64>; BURSTS.len()],
}

/// Declares the functions of `fast_path.s`, and makes a list of all variants.
macro_rules! variants {
    ([$($get:ident)*] [$($put:ident)*] $($left_out:literal: $get_of:ident $put_of:ident $counts:literal;)*) => {{
        unsafe extern "C" {
            $(fn $get(context: *mut c_void, size: usize) -> *mut c_void;)*
            $(fn $put(context: *mut c_void, data: *mut c_void, size: usize);)*
        }
        vec![$(Variant {
            left_out: $left_out,
            get: $get_of,
            put: $put_of,
            counts: $counts,
            samples: Default::default(),
        }),*]
    }};
}

fn variants() -> Vec<Variant> {
    variants! {
        [bytepool_parts_get_nothing bytepool_parts_get_activity bytepool_parts_get_step bytepool_parts_get_key
         bytepool_parts_get_size bytepool_parts_get_marks bytepool_parts_get_unchecked bytepool_parts_get_least]
        [bytepool_parts_put_nothing bytepool_parts_put_activity bytepool_parts_put_step bytepool_parts_put_key
         bytepool_parts_put_size bytepool_parts_put_find bytepool_parts_put_marks bytepool_parts_put_slot
         bytepool_parts_put_room bytepool_parts_put_count bytepool_parts_put_unchecked bytepool_parts_put_least]
        "nothing; the library's own code": bytepool_get bytepool_put true;
        "nothing": bytepool_parts_get_nothing bytepool_parts_put_nothing true;
        "the four stores of `activity`: drains, ends of bias, forks": bytepool_parts_get_activity bytepool_parts_put_activity true;
        "size to step: many classes": bytepool_parts_get_step bytepool_parts_put_step true;
        "the compare of the key: is the context valid?": bytepool_parts_get_key bytepool_parts_put_key true;
        "the compare of the size: does it fit?": bytepool_parts_get_size bytepool_parts_put_size true;
        "the compare of the mark: a second put?": bytepool_parts_get_nothing bytepool_parts_put_find true;
        "marks: a second put, the size, the holder": bytepool_parts_get_marks bytepool_parts_put_marks true;
        "marks, and address to slot: interior and foreign pointers": bytepool_parts_get_marks bytepool_parts_put_slot true;
        "the compare with the bin's end": bytepool_parts_get_nothing bytepool_parts_put_room true;
        "the count of puts": bytepool_parts_get_nothing bytepool_parts_put_count false;
        "activity, marks and slot: a put that checks only the context": bytepool_parts_get_unchecked bytepool_parts_put_unchecked true;
        "all but thread pointer, table, bin and stack": bytepool_parts_get_least bytepool_parts_put_least false;
    }
}

/// Runs every variant in turn, so many rounds, and proves each time that it did its work.
pub fn run(rounds: usize) -> Vec<Variant> {
    let pool = Pool::builder().size_class(512, 1000).size_class(SIZE, 1000).build().expect("a pool");
    let handle = pool.context();
    let context = handle.as_ptr();
    // This thread gets a cache with some buffers in it.
    // SAFETY:
    // - a live context; each buffer is got here, and put once
    unsafe {
        let buffers: Vec<_> = (0..64).map(|_| bytepool_get(context, SIZE)).collect();
        buffers.into_iter().for_each(|data| bytepool_put(context, data, SIZE));
    }
    let mut variants = variants();
    for _ in 0..rounds {
        for variant in &mut variants {
            let before = pool.stats().puts;
            // SAFETY:
            // - the functions get and put buffers of this thread's cache of the context's pool
            let cycles = unsafe {
                [
                    bursts::<{ BURSTS[0] }>(variant.get, variant.put, context),
                    bursts::<{ BURSTS[1] }>(variant.get, variant.put, context),
                    bursts::<{ BURSTS[2] }>(variant.get, variant.put, context),
                ]
            };
            let counted = if variant.counts { GETS * BURSTS.len() } else { 0 };
            assert_eq!(
                pool.stats().puts - before,
                counted as u64,
                "proof failed: puts without {}",
                variant.left_out
            );
            for (samples, cycles) in variant.samples.iter_mut().zip(cycles) {
                samples.push(cycles as f64 / GETS as f64);
            }
        }
    }
    assert_eq!(pool.stats().outstanding(), 0, "proof failed: a buffer is still out");
    variants
}

/// Gets so many buffers and writes to each, then reads that back and puts each, again and again. Returns how many cycles
/// all that took.
///
/// # Safety
/// - `get` gives buffers of [`SIZE`] bytes, which `put` takes
#[inline(never)]
unsafe fn bursts<const N: usize>(get: Get, put: Put, context: *mut c_void) -> u64 {
    let (get, put, context, size) = black_box((get, put, context, SIZE));
    let (mut buffers, mut wrong) = ([std::ptr::null_mut::<u8>(); N], 0);
    // SAFETY:
    // - every x86-64 processor has the instruction
    let start = unsafe { _rdtsc() };
    for turn in 0..GETS / N {
        for (index, buffer) in buffers.iter_mut().enumerate() {
            // SAFETY:
            // - as the caller promised
            unsafe {
                *buffer = get(context, size).cast();
                assert!(!buffer.is_null(), "proof failed: there is no fast path");
                buffer.write_volatile((turn + index) as u8);
            }
        }
        for (index, &buffer) in buffers.iter().enumerate() {
            // SAFETY:
            // - got above, this loop's until it is put, and put once
            unsafe {
                wrong += usize::from(buffer.read_volatile() != (turn + index) as u8);
                put(context, buffer.cast(), size);
            }
        }
    }
    // SAFETY: as above.
    let cycles = unsafe { _rdtsc() } - start;
    assert_eq!(wrong, 0, "proof failed: not what was written was read back");
    cycles
}

/// A table: what is left out, the cycles of a get and a put, and how many fewer these are; of each of [`BURSTS`].
pub fn print(variants: &[Variant]) {
    println!("| what is left out of a get and a put | a pair | fewer | three out | fewer | 64 out | fewer |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let medians = |variant: &Variant| variant.samples.each_ref().map(|samples| median(samples));
    let nothing = medians(&variants[1]);
    for variant in variants {
        let cycles = medians(variant);
        let columns =
            cycles.iter().zip(nothing).map(|(cycles, all)| format!("{cycles:.1} | {:.1}", all - cycles));
        println!("| {} | {} |", variant.left_out, columns.collect::<Vec<_>>().join(" | "));
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
