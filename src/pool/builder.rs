//! What a pool is built from: the builder, and its validation.

use crate::sync::Arc;
use std::fmt;

use super::Pool;
use crate::class::general::general_classes;
use crate::class::index::MAX_CLASSES;
use crate::class::layout::{Layout, ROOM_OF_POOL, Shape};
use crate::class::ledger::MAX_BUFFER_SIZE;
use crate::core::config::{Config, Flags, Rounding};
use crate::debug::environment::Sampling;
use crate::error::BuildError;
use crate::os::fork::{self, ForkGuard};
use crate::os::memory::{self, OutOfMemory};
use crate::os::region::addresses_to_spare;

/// The alignment of every buffer unless another is asked for, in bytes.
pub const DEFAULT_ALIGNMENT: usize = 64;
/// The largest alignment a pool can be built with, in bytes.
pub const MAX_ALIGNMENT: usize = 2 << 20;
/// The most buffers a size class can keep.
pub(crate) const MAX_CAPACITY: usize = 1 << 30;

/// The default rounding of the original library, octu0/cgobytepool: `((size + 256) >> 3) << 3` bytes, and `size` itself
/// where that overflows. [`Builder::round`] takes it.
///
/// ```
/// assert_eq!(bytepool::round_original(500), 752);
/// ```
pub fn round_original(size: usize) -> usize {
    match size.checked_add(256) {
        Some(sum) => (sum >> 3) << 3,
        None => size,
    }
}

/// The configuration of a [`Pool`] that is to be built.
///
/// Nothing is checked before [`build`](Self::build), which says what is wrong.
///
/// A builder may be sent to another thread. A clone of it builds another pool.
///
/// ```
/// # fn main() -> Result<(), bytepool::BuildError> {
/// let pool = bytepool::Pool::builder()
///     .size_class(16 << 10, 1000) // up to 1000 idle buffers of 16 KiB are kept
///     .size_class(512, 1000)
///     .max_bytes(32 << 20)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    /// Buffer sizes and capacities, before rounding.
    size_classes: Vec<(usize, usize)>,
    alignment: usize,
    max_bytes: usize,
    round: Option<Rounding>,
    flags: Flags,
    sampling: Sampling,
    /// The smallest and the largest size, where there are no general-purpose classes for them.
    refused_range: Option<(usize, usize)>,
    /// What went wrong while the builder was filled in.
    out_of_memory: Option<OutOfMemory>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("size_classes", &self.size_classes)
            .field("alignment", &self.alignment)
            .field("max_bytes", &self.max_bytes)
            .field("round", &self.round.is_some())
            .field("flags", &self.flags)
            .field("sampling", &self.sampling)
            .finish()
    }
}

impl Builder {
    /// Adds a size class: the pool keeps `capacity` idle buffers of `buffer_size` bytes. Beyond that it keeps a slack:
    /// an eighth of the capacity, but at least 256 KiB and one buffer. What threads cache comes on top.
    ///
    /// More buffers may be out at the same time. Classes are given in any order, at most 64 of them, and of different
    /// sizes. In a pool without a class every get is oversize: the system allocator serves it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 10).size_class(512, 100).build()?;
    /// assert_eq!([pool.get(100)?, pool.get(513)?].map(|buffer| buffer.capacity()), [512, 4096]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn size_class(mut self, buffer_size: usize, capacity: usize) -> Self {
        match self.size_classes.try_reserve(1) {
            Ok(()) => self.size_classes.push((buffer_size, capacity)),
            Err(_) => self.out_of_memory = Some(OutOfMemory { bytes: size_of::<(usize, usize)>() }),
        }
        self
    }

    /// Adds classes for sizes of all kinds: from the first class that holds `smallest` bytes to the first that holds
    /// `largest`.
    ///
    /// The classes are 64 bytes apart up to 512. Above, each doubling has four, and from 16 KiB on two. With a
    /// `smallest` below 64 the steps are of 16 bytes up to 128, and four a doubling begin there. That is for a pool
    /// whose [`alignment`](Self::alignment) is 16. Each class keeps up to 64 MiB of idle buffers, but at most a
    /// million, and one at least. From 64 bytes to 4 MiB there are 44 classes, which take 5.5 GiB of addresses.
    ///
    /// [`build`](Self::build) refuses a `largest` that is 0, below `smallest` or above 3 GiB, and more than 64 classes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().general_purpose(64, 4 << 20).build()?;
    /// assert_eq!(pool.get(1000)?.capacity(), 1024);
    /// # Ok(())
    /// # }
    /// ```
    pub fn general_purpose(mut self, smallest: usize, largest: usize) -> Self {
        match general_classes(smallest, largest) {
            Ok(classes) => classes.fold(self, |builder, (size, capacity)| builder.size_class(size, capacity)),
            Err(_) => {
                self.refused_range = Some((smallest, largest));
                self
            }
        }
    }

    /// Sets the alignment of every buffer, in bytes: a power of two up to [`MAX_ALIGNMENT`]. 0 means
    /// [`DEFAULT_ALIGNMENT`]. Slots are multiples of it, and of 16. Below 64 small buffers lie closer, and may share a
    /// cache line.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(100, 10).alignment(256).build()?;
    /// assert_eq!(pool.get(100)?.as_ptr().addr() % 256, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn alignment(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// Sets the limit: the most bytes that the pool may have mapped, overflow and oversize included. 0 means no limit.
    ///
    /// At the limit a get first takes idle memory back from other classes and threads, and fails if that does not
    /// suffice. Beside the limit are the pool's books, the tables of thread caches, and what a reallocation copies at
    /// the moment: see [`Pool::realloc_raw`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).max_bytes(4096).build()?;
    /// let buffer = pool.get(4096)?;
    /// assert!(matches!(pool.get(4096), Err(bytepool::GetError::Limit { limit: 4096, .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets a function that rounds sizes in bytes. It rounds the classes' sizes, and each request before a class is
    /// chosen. A result below its argument is ignored.
    ///
    /// It may be called on any thread that uses the pool. If it panics, the call that ran it panics. Nothing else
    /// happens, but that get_many puts again what it got.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(500, 10).round(bytepool::round_original).build()?;
    /// assert_eq!(pool.get(500)?.capacity(), 752);
    /// # Ok(())
    /// # }
    /// ```
    pub fn round(mut self, round: impl Fn(usize) -> usize + Send + Sync + 'static) -> Self {
        // Without memory for its two counts and the function, Arc::new would end the process.
        match memory::probe(size_of_val(&round) + align_of_val(&round) + 2 * size_of::<usize>()) {
            Ok(()) => self.round = Some(Arc::new(round)),
            Err(error) => self.out_of_memory = Some(error),
        }
        self
    }

    /// Whether every buffer reads as zeros when it is got, over its whole capacity. Off by default. Such a pool has no
    /// thread caches.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(512, 10).zero_on_get(true).build()?;
    /// pool.get(5)?.copy_from_slice(b"hello");
    /// assert_eq!(pool.get(5)?, [0; 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zero_on_get(mut self, on: bool) -> Self {
        self.flags.zero_on_get = on;
        self
    }

    /// Whether every buffer is overwritten with zeros when it is put, so that secrets do not stay. Off by default. Such
    /// a pool has no thread caches.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(512, 10).zero_on_put(true).build()?;
    /// pool.get(5)?.copy_from_slice(b"hello"); // zeros again, as soon as it is dropped
    /// assert_eq!(pool.get(5)?, [0; 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zero_on_put(mut self, on: bool) -> Self {
        self.flags.zero_on_put = on;
        self
    }

    /// Whether each thread may keep idle buffers of its own. That makes most gets and puts faster than any shared
    /// structure allows. On by default; pools that zero, track or guard buffers do without.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(512, 10).thread_cache(false).build()?;
    /// drop(pool.get(512)?);
    /// assert_eq!((pool.stats().classes[0].idle, pool.stats().classes[0].cached), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn thread_cache(mut self, on: bool) -> Self {
        self.flags.thread_cache = on;
        self
    }

    /// Whether the system is asked for huge pages, of 2 MiB, where a class's slots fill them. Slots below 512 bytes get
    /// none, unless the pool is pinned. Off by default. Where there are none, ordinary pages serve.
    ///
    /// The idle memory of a huge page goes back only when all of the page is idle. So a trim gives back less.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(1 << 20, 64).huge_pages(true).build()?;
    /// assert_eq!(pool.get(1 << 20)?.capacity(), 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn huge_pages(mut self, on: bool) -> Self {
        self.flags.huge_pages = on;
        self
    }

    /// Whether every slot is made memory when the pool is built, and kept until the pool closes. So its addresses can
    /// be registered with the kernel or with a device: io_uring, RDMA, a GPU. [`Pool::pinned_regions`] lists them. Off
    /// by default.
    ///
    /// - All of it counts in [`mapped_bytes`](crate::Stats::mapped_bytes) from the start. Neither trim nor a get at the
    ///   limit gives any back.
    /// - A class has exactly its capacity of slots. More comes from the system allocator, and is in no region.
    /// - Register only a pinned pool's memory. Any other pool gives idle pages back, and a registration of them then
    ///   names memory that the pool does not use.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).pinned(true).build()?;
    /// assert_eq!(pool.stats().mapped_bytes, 100 * 4096);
    /// assert_eq!(pool.trim(0), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pinned(mut self, on: bool) -> Self {
        self.flags.pinned = on;
        self
    }

    /// Makes slots of whole pages one cache line longer, or longer by [`alignment`](Self::alignment) if that is more.
    /// So they start at different lines. Then the first bytes of many buffers, such as packet headers, do not compete
    /// for the same few places of the processor's cache. Off by default.
    ///
    /// It costs a line for each slot: 1.6 % of 4 KiB. Most such slots do not start with a page, and they go back to the
    /// system only with their neighbours. It has no effect where [`alignment`](Self::alignment) is a page or more.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(64 << 10, 100).coloring(true).build()?;
    /// let class = pool.stats().classes[0];
    /// assert_eq!((class.buffer_size, class.slot_size), (64 << 10, (64 << 10) + 64));
    /// # Ok(())
    /// # }
    /// ```
    pub fn coloring(mut self, on: bool) -> Self {
        self.flags.coloring = on;
        self
    }

    /// Tracks one get in `every`, until its buffer is put: where it was called, when, and by which thread. 1 means each
    /// get. [`Pool::dump_outstanding`] lists the buffers, and so does stderr when the pool closes.
    ///
    /// 0, the default, leaves it to the environment variable `BYTEPOOL_TRACK`, a number of the same meaning; without it
    /// none is tracked. Pools that track do without thread caches.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(512, 10).track_every(1).build()?;
    /// let _buffer = pool.get(100)?;
    /// assert_eq!(pool.dump_outstanding()?[0].line, line!() - 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn track_every(mut self, every: u32) -> Self {
        self.sampling.track_every = every;
        self
    }

    /// Guards one get in `every`: its buffer lies between unreadable pages, and ends with a page as closely as the
    /// alignment allows. After its put it stays unreadable for a while. So an access to those pages faults at once, and
    /// so does a use after the put. A line on stderr says which buffer it was.
    ///
    /// 0, the default, leaves it to the environment variable `BYTEPOOL_GUARD`, a number of the same meaning; without it
    /// none is guarded. Pools that guard do without thread caches. On systems other than Unix nothing is guarded.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 10).guard_every(1000).build()?;
    /// assert_eq!(pool.get(100)?.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn guard_every(mut self, every: u32) -> Self {
        self.sampling.guard_every = every;
        self
    }

    /// Builds the pool. It reserves addresses; memory is taken as buffers are handed out, unless the pool is
    /// [`pinned`](Self::pinned).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use bytepool::{BuildError, Pool};
    /// let pool = Pool::builder().size_class(4096, 100).build()?;
    /// assert_eq!(pool.stats().mapped_bytes, 0);
    /// let refused = Pool::builder().size_class(0, 100).build();
    /// assert!(matches!(refused, Err(BuildError::ZeroBufferSize { index: 0 })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] says which value broke which limit, or what the system refused.
    pub fn build(self) -> Result<Pool, BuildError> {
        fork::prepare()?;
        // It is declared first, so it is dropped last, without the guard: dropping the function runs the user's code.
        let _round = self.round.clone();
        let mut guard = ForkGuard::new();
        let config = self.validate(&mut guard)?;
        Pool::from_config(&guard, config)
    }

    fn validate(self, guard: &mut ForkGuard) -> Result<Config, BuildError> {
        let alignment = if self.alignment == 0 { DEFAULT_ALIGNMENT } else { self.alignment };
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(BuildError::Alignment { alignment, limit: MAX_ALIGNMENT });
        }
        if let Some(error) = self.out_of_memory {
            return Err(error.into());
        }
        if let Some((smallest, largest)) = self.refused_range {
            general_classes(smallest, largest).map(drop)?;
        }
        let mut size_classes = self.size_classes;
        validate_classes(guard, &mut size_classes, self.round.as_deref())?;
        let Flags { huge_pages, coloring, pinned, .. } = self.flags;
        let asked = size_classes.iter().map(|&(size, capacity)| size.saturating_mul(capacity));
        let asked = asked.fold(0, usize::saturating_add);
        let room = if pinned { 0 } else { addresses_to_spare(asked, ROOM_OF_POOL) };
        let layout = Layout::new(&size_classes, Shape { alignment, huge_pages, coloring, room })?;
        Ok(Config {
            layout,
            alignment,
            max_bytes: if self.max_bytes == 0 { usize::MAX } else { self.max_bytes },
            round: self.round,
            flags: self.flags,
            sampling: self.sampling.or_environment(guard),
        })
    }
}

/// Rounds and sorts the classes, and holds each to the limits.
fn validate_classes(
    guard: &mut ForkGuard,
    classes: &mut [(usize, usize)],
    round: Option<&(dyn Fn(usize) -> usize + Send + Sync)>,
) -> Result<(), BuildError> {
    if classes.len() > MAX_CLASSES {
        return Err(BuildError::TooManyClasses { count: classes.len(), limit: MAX_CLASSES });
    }
    for (index, class) in classes.iter_mut().enumerate() {
        let (size, capacity) = *class;
        if size == 0 {
            return Err(BuildError::ZeroBufferSize { index });
        }
        let buffer_size = round.map_or(size, |round| guard.unguarded(|| round(size)).max(size));
        if buffer_size > MAX_BUFFER_SIZE {
            return Err(BuildError::BufferSizeTooLarge { buffer_size, limit: MAX_BUFFER_SIZE });
        }
        if capacity == 0 {
            return Err(BuildError::ZeroCapacity { buffer_size });
        }
        if capacity > MAX_CAPACITY {
            return Err(BuildError::CapacityTooLarge { buffer_size, capacity, limit: MAX_CAPACITY });
        }
        class.0 = buffer_size;
    }
    classes.sort_unstable();
    match classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(BuildError::DuplicateBufferSize { buffer_size: pair[0].0 }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_rounding() {
        assert_eq!([100, 200, 300, 500].map(round_original), [352, 456, 552, 752]);
        assert_eq!(round_original(usize::MAX), usize::MAX);
    }
}
