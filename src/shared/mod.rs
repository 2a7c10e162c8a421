//! What all handles of a pool share, and the story of get and put.
//!
//! ```text
//! get(size) -> size class -> shelf -> (none idle) fresh slot -> (none fresh) overflow: spare, or system allocator
//!                         no class fits -> oversize
//! put(ptr)  -> offset in the region -> chunk gives the class, one multiplication the slot
//!              -> ledger: outstanding -> idle (one compare-exchange) -> shelf
//!              outside the region -> the same in the spare's
//!                                 -> registry of overflow and oversize buffers -> (not there) foreign pointer
//! ```
//!
//! Any thread may call anything at any time. No lock is held while the user's rounding function runs.
//! References are the caller's affair: who calls has one, leaves one to each buffer it gets, and takes one
//! over from each buffer it puts.

mod change_hands;
mod get;
mod overflow;
mod put;
mod reclaim;
mod stand_in;
mod wait;

use crate::sync::OnceLock;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicUsize};

pub(crate) use self::change_hands::Realloc;
pub(crate) use self::get::{Buffer, Fill, Request};
pub(crate) use self::overflow::Spare;
pub(crate) use self::put::PutSize;
use crate::anchor::Home;
use crate::class::Class;
use crate::config::{Config, Flags, Rounding};
use crate::error::BuildError;
use crate::fork;
#[cfg(feature = "capi")]
use crate::handle::Handles;
use crate::instrument::Instrument;
use crate::instrument::tracking::Tracker;
use crate::limit::MappedBytes;
use crate::memory::{self, OutOfMemory};
use crate::region::Region;
use crate::registry::Registry;
use crate::size_class::SizeClassIndex;
use crate::stats::{PoolCounters, Stats};
use crate::thread_cache::{self, Caches};
use crate::waiting::Waiting;

/// Read by every get and put of a `PooledBuffer`: apart from what others write.
#[repr(align(128))]
struct CacheKey(u64);

/// Everything a pool is, but its handles.
pub(crate) struct Shared {
    cache_key: CacheKey,
    index: SizeClassIndex,
    region: Region,
    chunk_shift: u32,
    class_of_chunk: Box<[u8]>,
    /// Ascending by buffer size.
    classes: Box<[Class]>,
    alignment: usize,
    flags: Flags,
    round: Option<Rounding>,
    closed: AtomicBool,

    instrument: Instrument,
    caches: Caches,
    registry: Registry,
    /// Serves overflow, once there was much of it.
    spare: OnceLock<Box<Spare>>,
    mapped: MappedBytes,
    /// Its lock is also held while idle slots are given back to the system: by trim, by close, and by a get at the
    /// limit. See [`lock_reclaiming`](Self::lock_reclaiming).
    waiting: Waiting,
    counters: PoolCounters,

    /// Rust pools and live contexts; at zero the pool closes.
    open_handles: AtomicUsize,
    #[cfg(feature = "capi")]
    handles: Handles,
    home: Home,
}

/// Where an outstanding buffer is kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Slot {
        class: u8,
        slot: u32,
    },
    /// A slot of the spare.
    Spare {
        class: u8,
        slot: u32,
    },
    /// In the registry: also a slot's stand-in.
    System,
}

impl Shared {
    pub(crate) fn new(config: Config, home: Home) -> Result<Self, BuildError> {
        let instrument = Instrument::of_new_pool(&config.flags);
        Self::instrumented(config, home, instrument)
    }

    fn instrumented(config: Config, home: Home, instrument: Instrument) -> Result<Self, BuildError> {
        let Config { layout, alignment, max_bytes, round, flags } = config;
        let region = Region::reserve(layout.len, layout.base_alignment)
            .map_err(|source| BuildError::Reserve { bytes: layout.len, source })?;
        if flags.huge_pages {
            region.advise_huge_pages();
        }
        // Zeroing is done outside the fast path, as instrumentation is; a pool without classes has nothing to
        // cache.
        let outside_fast_path = flags.zero_on_get || flags.zero_on_put || instrument.is_on();
        let may_cache = flags.thread_cache && !outside_fast_path && !layout.spans.is_empty();
        let sizes = memory::boxed_slice(layout.spans.len(), |class| {
            Ok::<_, OutOfMemory>(layout.spans[class].buffer_size)
        })?;
        let make_class = |class| Class::new(layout.spans[class], flags.huge_pages);
        let classes = memory::boxed_slice(layout.spans.len(), make_class)?;
        let index = SizeClassIndex::new(&sizes);
        let bin_of_step = thread_cache::bins_of_steps(&index, classes.len(), round.is_some());
        // No other pool of this process has the same.
        let cache_key = thread_cache::key_of(home.number().wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Ok(Self {
            cache_key: CacheKey(cache_key),
            index,
            region,
            chunk_shift: layout.chunk_shift,
            classes,
            alignment,
            flags,
            round,
            closed: AtomicBool::new(false),
            instrument,
            caches: Caches::new(may_cache, &layout.class_of_chunk, bin_of_step)?,
            class_of_chunk: layout.class_of_chunk,
            registry: Registry::default(),
            spare: OnceLock::new(),
            mapped: MappedBytes::new(max_bytes),
            waiting: Waiting::new(),
            counters: PoolCounters::default(),
            open_handles: AtomicUsize::new(1),
            #[cfg(feature = "capi")]
            handles: Handles::new(),
            home,
        })
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    #[cfg(feature = "capi")]
    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    pub(crate) fn alignment(&self) -> usize {
        self.alignment
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Acquire pairs with the SeqCst swap in `close`.
        self.closed.load(Acquire)
    }

    /// Whether a get waits for memory: then no thread caches any.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.has_waiters()
    }

    /// What leads a thread to its cache of this pool, besides the contexts. Never 0.
    #[inline(always)]
    pub(crate) fn cache_key(&self) -> u64 {
        self.cache_key.0
    }

    /// Where outstanding buffers were got, if this pool tracks.
    pub(crate) fn tracker(&self) -> Option<&Tracker> {
        self.instrument.tracker()
    }

    /// The how many-th pool of the process this is.
    pub(crate) fn number(&self) -> u64 {
        self.instrument.number()
    }

    pub(crate) fn counters(&self) -> &PoolCounters {
        &self.counters
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Lets the calling thread cache idle slots from now on, if it may and does not yet.
    pub(crate) fn attach(&self) {
        self.caches.attach(self, self.cache_key(), || true);
    }

    pub(crate) fn class(&self, class: usize) -> &Class {
        &self.classes[class]
    }

    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn index(&self) -> &SizeClassIndex {
        &self.index
    }

    pub(crate) fn chunk_shift(&self) -> u32 {
        self.chunk_shift
    }

    /// The user's function, of a pool that ends.
    pub(crate) fn take_round(&mut self) -> Option<Rounding> {
        self.round.take()
    }

    /// Whether requests are rounded by the user's function.
    pub(crate) fn rounds(&self) -> bool {
        self.round.is_some()
    }

    /// `size` as the user's function rounds it; at least `size`.
    #[inline]
    pub(crate) fn rounded(&self, size: usize) -> usize {
        match &self.round {
            None => size,
            Some(round) => fork::outside(|| round(size)).max(size),
        }
    }
}

/// Statistics, and the count of handles.
impl Shared {
    pub(crate) fn stats(&self) -> Stats {
        let mut stats =
            Stats::of(&self.classes, &self.caches, &self.counters, self.mapped.get(), self.mapped.limit());
        if let Some(spare) = self.spare() {
            stats.add_overflow(&spare.pool().stats());
        }
        stats
    }

    /// A handle more.
    pub(crate) fn open_handle(&self) {
        // Relaxed: the handle that is copied keeps the pool open meanwhile.
        self.open_handles.fetch_add(1, Relaxed);
    }

    /// A handle less; the last one's end closes the pool.
    pub(crate) fn close_handle(&self) {
        // SeqCst: what other handles did comes before the closing.
        if self.open_handles.fetch_sub(1, SeqCst) == 1 {
            self.close();
        }
    }
}
