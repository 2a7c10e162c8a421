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
const PAIRS: u64 = 20_000;

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
    /// Cycles of a pair, one for each round.
    samples: Vec<f64>,
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
            samples: Vec::new(),
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
        let buffers: Vec<_> = (0..8).map(|_| bytepool_get(context, SIZE)).collect();
        buffers.into_iter().for_each(|data| bytepool_put(context, data, SIZE));
    }
    let mut variants = variants();
    for _ in 0..rounds {
        for variant in &mut variants {
            let before = pool.stats().puts;
            // SAFETY:
            // - the functions get and put buffers of this thread's cache of the context's pool
            let cycles = unsafe { pairs(variant.get, variant.put, context) };
            let counted = if variant.counts { PAIRS } else { 0 };
            assert_eq!(
                pool.stats().puts - before,
                counted,
                "proof failed: puts without {}",
                variant.left_out
            );
            variant.samples.push(cycles as f64 / PAIRS as f64);
        }
    }
    assert_eq!(pool.stats().outstanding(), 0, "proof failed: a buffer is still out");
    variants
}

/// Gets a buffer, writes to it, reads that back, and puts it, again and again. Returns how many cycles all that took.
///
/// # Safety
/// - `get` gives buffers of [`SIZE`] bytes, which `put` takes
#[inline(never)]
unsafe fn pairs(get: Get, put: Put, context: *mut c_void) -> u64 {
    let (get, put, context, size) = black_box((get, put, context, SIZE));
    let mut sum = 0;
    // SAFETY:
    // - every x86-64 processor has the instruction
    let start = unsafe { _rdtsc() };
    for index in 0..PAIRS {
        // SAFETY:
        // - as the caller promised; the buffer is this loop's until it is put
        unsafe {
            let data = get(context, size);
            assert!(!data.is_null(), "proof failed: there is no fast path");
            let byte = data.cast::<u8>();
            byte.write_volatile(index as u8);
            sum += u64::from(byte.read_volatile());
            put(context, data, size);
        }
    }
    // SAFETY: as above.
    let cycles = unsafe { _rdtsc() } - start;
    let marks: u64 = (0..PAIRS).map(|index| index & 0xff).sum();
    assert_eq!(sum, marks, "proof failed: not what was written was read back");
    cycles
}

/// A table: what is left out, the cycles of a pair, and how many fewer these are.
pub fn print(variants: &[Variant]) {
    let medians: Vec<f64> = variants.iter().map(|variant| median(&variant.samples)).collect();
    println!("| what is left out of a pair | cycles | fewer |");
    println!("| --- | ---: | ---: |");
    for (variant, cycles) in variants.iter().zip(&medians) {
        println!("| {} | {cycles:.1} | {:.1} |", variant.left_out, medians[1] - cycles);
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
