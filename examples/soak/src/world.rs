//! What the workers of a round share, for Rust, and as C and C++ have it.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use bytepool::{Context, Pool};

use crate::exchange::{Exchange, Parcel};
use crate::failing;
use crate::random::Random;

pub(crate) const MAX_POOLS: usize = 4;
pub(crate) const SIZES: usize = 16;

pub(crate) struct PoolEntry {
    pub(crate) pool: Pool,
    pub(crate) context: Context,
    pub(crate) is_limited: bool,
    /// Set before the pool is closed.
    pub(crate) closing: AtomicBool,
}

pub(crate) struct World {
    pub(crate) pools: Vec<PoolEntry>,
    pub(crate) sizes: [usize; SIZES],
    pub(crate) exchange: Exchange,
    /// Set at the end of a phase.
    pub(crate) is_over: AtomicBool,
}

/// `soak_world` of worker.h.
#[repr(C)]
pub(crate) struct CWorld {
    rust: *const c_void,
    pool_count: usize,
    contexts: [*mut c_void; MAX_POOLS],
    limited: [bool; MAX_POOLS],
    sizes: [usize; SIZES],
    closing: unsafe extern "C" fn(*const c_void, u32) -> bool,
    over: unsafe extern "C" fn(*const c_void) -> bool,
    offer: unsafe extern "C" fn(*const c_void, *const Parcel) -> bool,
    take: unsafe extern "C" fn(*const c_void, u64, *mut Parcel) -> bool,
    arm: extern "C" fn(u32),
    disarm: extern "C" fn() -> bool,
    fail: unsafe extern "C" fn(*const c_char),
}

impl World {
    /// Pools of random shape.
    pub(crate) fn new(random: &mut Random) -> Self {
        let pools = (0..random.below(MAX_POOLS) + 1).map(|_| PoolEntry::new(random)).collect();
        let sizes = [0; SIZES].map(|_| {
            let bound = random.choose(&[1, 64, 100, 512, 1000, 4096, 5000, 20_000, 70_000]);
            (bound + random.below(3)).saturating_sub(1)
        });
        Self { pools, sizes, exchange: Exchange::default(), is_over: AtomicBool::new(false) }
    }

    pub(crate) fn for_c(&self) -> CWorld {
        let mut contexts = [ptr::null_mut(); MAX_POOLS];
        let mut limited = [false; MAX_POOLS];
        for (number, entry) in self.pools.iter().enumerate() {
            contexts[number] = entry.context.as_ptr();
            limited[number] = entry.is_limited;
        }
        CWorld {
            rust: ptr::from_ref(self).cast(),
            pool_count: self.pools.len(),
            contexts,
            limited,
            sizes: self.sizes,
            closing,
            over,
            offer,
            take,
            arm: failing::arm,
            disarm: failing::disarm,
            fail,
        }
    }
}

impl PoolEntry {
    fn new(random: &mut Random) -> Self {
        let mut builder = Pool::builder();
        for size in [64, 512, 1000, 4096, 20_000] {
            if !random.one_in(3) {
                builder = builder.size_class(size, random.choose(&[1, 7, 64, 1000]));
            }
        }
        let is_limited = random.one_in(3);
        if is_limited {
            builder = builder.max_bytes(random.choose(&[100 << 10, 1 << 20, 4 << 20]));
        }
        builder = builder
            .zero_on_put(random.one_in(6))
            .zero_on_get(random.one_in(6))
            .thread_cache(!random.one_in(6))
            .alignment(random.choose(&[0, 0, 0, 1, 256, 4096]));
        if random.one_in(6) {
            builder = builder.round(bytepool::round_original);
        }
        let pool = builder.build().expect("a small pool can be made");
        let context = pool.context();
        Self { pool, context, is_limited, closing: AtomicBool::new(false) }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }
}

// ---- for C and C++ ----

// SAFETY (of all below):
// - the workers pass the world that they were given, which outlives them, and parcels of their own

unsafe fn world_of<'a>(world: *const c_void) -> &'a World {
    // SAFETY: as above
    unsafe { &*world.cast() }
}

unsafe extern "C" fn closing(world: *const c_void, pool: u32) -> bool {
    // SAFETY: as above
    unsafe { world_of(world) }.pools[pool as usize].is_closing()
}

unsafe extern "C" fn over(world: *const c_void) -> bool {
    // SAFETY: as above
    unsafe { world_of(world) }.is_over.load(SeqCst)
}

unsafe extern "C" fn offer(world: *const c_void, parcel: *const Parcel) -> bool {
    // SAFETY: as above
    unsafe { world_of(world).exchange.offer(*parcel) }
}

unsafe extern "C" fn take(world: *const c_void, random: u64, parcel: *mut Parcel) -> bool {
    // SAFETY: as above
    match unsafe { world_of(world) }.exchange.take(random) {
        Some(taken) => {
            // SAFETY: as above
            unsafe { parcel.write(taken) };
            true
        }
        None => false,
    }
}

/// Ends the process: a core has the thread that found it.
unsafe extern "C" fn fail(what: *const c_char) {
    // SAFETY:
    // - a string of the worker's
    eprintln!("soak: {}", unsafe { CStr::from_ptr(what) }.to_string_lossy());
    std::process::abort();
}
