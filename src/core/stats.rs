//! What a pool counts, and the equations between the figures.
//!
//! Of slots only puts are counted; gets follow from them. Of oversize buffers gets are counted. Figures read while
//! other threads work are each true of some recent moment. The equations between them hold at every quiet moment, when
//! no call is running.

#[cfg(feature = "serde")]
mod serialize;
mod table;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use std::fmt;
use std::ops::Deref;

use super::Core;
use super::wait_queue::Grant;
use crate::class::Class;
use crate::class::index::MAX_CLASSES;
use crate::error::Misuse;
use crate::os::fork::ForkGuard;

/// What the pool itself counts as it happens. All accesses are Relaxed: figures only.
#[derive(Default)]
pub(crate) struct PoolCounters {
    pub(crate) oversize_bytes: AtomicUsize,
    pub(crate) oversize_buffers: AtomicUsize,
    pub(crate) oversize_gets: AtomicU64,
    limit_failures: AtomicU64,
    waits: AtomicU64,
    double_puts: AtomicU64,
    size_mismatches: AtomicU64,
    foreign_pointers: AtomicU64,
}

impl PoolCounters {
    pub(crate) fn count_limit_failure(&self) {
        self.limit_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_wait(&self) {
        self.waits.fetch_add(1, Relaxed);
    }

    /// Counts a misuse by its kind.
    #[cold]
    pub(crate) fn count(&self, misuse: &Misuse) {
        let counter = match misuse {
            Misuse::ForeignPointer { .. } => &self.foreign_pointers,
            Misuse::DoublePut { .. } => &self.double_puts,
            Misuse::SizeMismatch { .. } => &self.size_mismatches,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// The figures of a pool's size classes, as a slice, ascending by buffer size.
///
/// They lie in the list itself, so that reading figures needs no memory.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 10).size_class(512, 100).build()?;
/// let classes = pool.stats().classes;
/// let sizes: Vec<_> = classes.iter().map(|class| class.buffer_size).collect();
/// assert_eq!(sizes, [512, 4096]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClassList {
    first: [ClassStats; MAX_CLASSES],
    count: usize,
}

impl Deref for ClassList {
    type Target = [ClassStats];
    fn deref(&self) -> &[ClassStats] {
        &self.first[..self.count]
    }
}

impl<'a> IntoIterator for &'a ClassList {
    type Item = &'a ClassStats;
    type IntoIter = std::slice::Iter<'a, ClassStats>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for ClassList {
    type Item = ClassStats;
    type IntoIter = std::iter::Take<std::array::IntoIter<ClassStats, MAX_CLASSES>>;
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().take(self.count)
    }
}

impl PartialEq for ClassList {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ClassList {}

impl fmt::Debug for ClassList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A pool's figures at one moment.
///
/// Each says whether it counts bytes, buffers or calls.
///
/// The value is a copy that no longer changes. Threads that work meanwhile make each figure true of a slightly
/// different moment. [`assert_consistent`](Self::assert_consistent) has the equations that hold when no call is
/// running.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 10).build()?;
/// let buffer = pool.get(100)?;
/// let stats = pool.stats();
/// assert_eq!((stats.mapped_bytes, stats.gets, stats.puts), (4096, 1, 0));
/// assert_eq!(stats.classes[0].outstanding, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// One per size class, by ascending buffer size.
    pub classes: ClassList,
    /// The limit on `mapped_bytes`; 0 for none.
    pub max_bytes: usize,
    /// Bytes taken from the system for buffers: touched slots, and overflow and oversize of the system allocator.
    pub mapped_bytes: usize,
    /// The original library's figure, in bytes. It counts buffer sizes in place of slot sizes, and in each class no
    /// more idle buffers than its capacity.
    pub allocated_bytes: usize,
    /// Bytes of memory that the pool's books take, as far as they were used: ledgers, shelves, and the table of buffers
    /// from the system allocator. They are beside `mapped_bytes` and beside the limit, and so are the tables of thread
    /// caches.
    pub bookkeeping_bytes: usize,
    /// Bytes of outstanding oversize buffers, after rounding.
    pub oversize_bytes: usize,
    /// How many oversize buffers are outstanding.
    pub oversize_buffers: usize,
    /// Gets that succeeded.
    pub gets: u64,
    /// Puts that succeeded.
    pub puts: u64,
    /// Gets served by the system allocator: oversize, and overflow beyond a class's slots.
    pub system_allocations: u64,
    /// Gets and reallocations that failed at the limit. Those whose deadline passed are among them.
    pub limit_failures: u64,
    /// Gets that had to wait for a buffer.
    pub waits: u64,
    /// Refused puts, adoptions and reallocations of buffers that were not out as a raw pointer.
    pub double_puts: u64,
    /// Refused puts, adoptions and reallocations with a wrong size.
    pub size_mismatches: u64,
    /// Refused pointers that were no buffer of this pool.
    pub foreign_pointers: u64,
}

/// One size class's figures at one moment.
///
/// Each says whether it counts bytes, slots, buffers or calls.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 1).build()?;
/// let buffers = [pool.get(4096)?, pool.get(4096)?];
/// let class = pool.stats().classes[0];
/// assert_eq!((class.capacity, class.outstanding, class.overflow), (1, 1, 1));
/// drop(buffers);
/// assert_eq!(pool.stats().classes[0].puts, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// How many bytes a buffer has room for, after rounding.
    pub buffer_size: usize,
    /// How many bytes a buffer takes of the region.
    pub slot_size: usize,
    /// How many idle buffers are kept, beside a slack and what threads cache.
    pub capacity: usize,
    /// Slots that are memory: pinned, or handed out since the pool was made, or since they were given back to the
    /// system.
    pub touched: usize,
    /// Buffers handed out and not yet put, up to the capacity.
    pub outstanding: usize,
    /// Touched slots that the pool holds.
    pub idle: usize,
    /// The part of `idle` that is in thread caches.
    pub cached: usize,
    /// Buffers handed out and not yet put beyond the capacity.
    pub overflow: usize,
    /// The part of `overflow` that is no slot, but comes from the system allocator.
    pub system_overflow: usize,
    /// The most slots that were out at a time. It is read now and then, and other threads' cached slots count with it.
    /// So it may be off by a batch of at most 64, and by what the threads cache.
    pub peak: usize,
    /// The original library's figure, in bytes: the buffer size, times what is out and the idle buffers up to the
    /// capacity.
    pub allocated_bytes: usize,
    /// Gets that succeeded in this class, overflow included.
    pub gets: u64,
    /// Puts that succeeded in this class, overflow included.
    pub puts: u64,
    /// How many batches moved between thread caches and the pool's shared slots. Each move is a few writes that other
    /// threads see.
    pub moves: u64,
    /// Puts, adoptions and reallocations that had to wait until the thread that got the slot left its fast path, which
    /// takes some microseconds. They stay few where threads hand slots over all the time: the class then has no such
    /// fast path.
    pub bias_ends: u64,
}

impl ClassStats {
    /// Fills in a class's own figures. The caller has already added the parts of caches and tasks.
    fn add(&mut self, class: &Class) {
        // A get or put in flight may be seen half done. Saturating keeps such a figure plausible.
        self.buffer_size = class.buffer_size();
        self.slot_size = class.slot_size();
        self.capacity = class.capacity() as usize;
        let (idle, fresh) = class.shelf.counted();
        self.touched = class.slot_count().saturating_sub(fresh) as usize;
        self.idle = idle as usize + self.cached;
        let out = self.touched.saturating_sub(self.idle);
        self.outstanding = out.min(self.capacity);
        self.system_overflow += class.counters.overflow.load(Relaxed);
        self.overflow = out - self.outstanding + self.system_overflow;
        self.peak = out.max(class.counters.peak.load(Relaxed) as usize);
        let counted = self.outstanding + self.overflow + self.idle.min(self.capacity);
        self.allocated_bytes = counted * self.buffer_size;
        self.puts += class.counters.puts.load(Relaxed);
        self.gets = self.puts + (self.outstanding + self.overflow) as u64;
        self.moves = class.counters.moves.load(Relaxed);
        self.bias_ends = class.counters.bias_ends.load(Relaxed);
    }
}

impl Stats {
    /// Figures before [`fill`](Self::fill).
    // SAFETY:
    // - every field is an integer, or an array of structs of integers
    pub(crate) const NONE: Self = unsafe { std::mem::zeroed() };

    /// Fills in the figures of a pool. They are written in place, because they are large and stacks are small.
    pub(super) fn fill(&mut self, guard: &ForkGuard, pool: &Core) {
        let Core { classes, caches, counters, registry, .. } = pool;
        let limit = classes.mapped().limit();
        let mut oversize_bytes = counters.oversize_bytes.load(Relaxed);
        let mut oversize_buffers = counters.oversize_buffers.load(Relaxed);
        let mut oversize_gets = counters.oversize_gets.load(Relaxed);
        // A task that was granted bytes has not taken its buffer yet. It counts as out, like one of the system's.
        if pool.waiting.has_waiters() {
            let queue = pool.waiting.lock(guard);
            let bytes = queue.granted().filter(|(_, grant)| *grant == Grant::Bytes);
            bytes.for_each(|(demand, _)| match demand.class {
                Some(class) => self.classes.first[class].system_overflow += 1,
                None => {
                    oversize_bytes += demand.bytes;
                    oversize_buffers += 1;
                    oversize_gets += 1;
                }
            });
        }
        self.classes.count = classes.len();
        self.max_bytes = if limit == usize::MAX { 0 } else { limit };
        self.mapped_bytes = classes.mapped().get();
        self.bookkeeping_bytes = registry.bytes(guard);
        self.allocated_bytes = oversize_bytes;
        self.oversize_bytes = oversize_bytes;
        self.oversize_buffers = oversize_buffers;
        self.gets = oversize_gets;
        self.puts = oversize_gets.saturating_sub(oversize_buffers as u64);
        self.system_allocations = oversize_gets;
        self.limit_failures = counters.limit_failures.load(Relaxed);
        self.waits = counters.waits.load(Relaxed);
        self.double_puts = counters.double_puts.load(Relaxed);
        self.size_mismatches = counters.size_mismatches.load(Relaxed);
        self.foreign_pointers = counters.foreign_pointers.load(Relaxed);
        caches.count(guard, classes.len(), |class, count| {
            self.classes.first[class].cached += count.held as usize;
            self.classes.first[class].puts += count.puts;
        });
        for (figures, class) in self.classes.first.iter_mut().zip(classes.iter()) {
            figures.add(class);
            self.bookkeeping_bytes += class.book_bytes();
            self.allocated_bytes += figures.allocated_bytes;
            self.gets += figures.gets;
            self.puts += figures.puts;
            self.system_allocations += class.counters.overflow_gets.load(Relaxed);
        }
    }

    /// How many buffers are handed out and not yet put: of all classes, overflow and oversize included.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(64, 1).build()?;
    /// let buffers = [pool.get(64)?, pool.get(64)?, pool.get(1000)?];
    /// assert_eq!(pool.stats().outstanding(), buffers.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn outstanding(&self) -> usize {
        let of_classes: usize = self.classes.iter().map(|class| class.outstanding + class.overflow).sum();
        of_classes + self.oversize_buffers
    }

    /// How many puts and other calls were refused as misuse, of every kind. Calls with an invalid context are not among
    /// them: they reach no pool.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(64, 10).build()?;
    /// let data = pool.get_raw(64)?;
    /// // SAFETY:
    /// // - the buffer is this caller's, and the wrong put is refused
    /// unsafe {
    ///     assert!(pool.put_raw(data, 100).is_err());
    ///     pool.put_raw(data, 64)?;
    /// }
    /// assert_eq!(pool.stats().misuse(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn misuse(&self) -> u64 {
        self.double_puts + self.size_mismatches + self.foreign_pointers
    }

    /// Checks the equations between the figures, for tests. They hold when no other thread is inside a call on the
    /// pool.
    ///
    /// - `mapped_bytes` is what all touched slots take, with overflow and oversize of the system allocator.
    /// - In each class `touched` is what is out as slots, plus `idle`, and `gets` is `puts` plus what is out.
    /// - `mapped_bytes` is at most `max_bytes`, if there is a limit.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(64, 10).build()?;
    /// let _buffer = pool.get(64)?;
    /// pool.stats().assert_consistent();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If an equation does not hold. The message has both sides.
    pub fn assert_consistent(&self) {
        let slots: usize = self.classes.iter().map(|c| (c.touched + c.system_overflow) * c.slot_size).sum();
        assert_eq!(self.mapped_bytes, slots + self.oversize_bytes, "mapped bytes of {self:#?}");
        let buffers: usize = self.classes.iter().map(|class| class.allocated_bytes).sum();
        assert_eq!(self.allocated_bytes, buffers + self.oversize_bytes, "allocated bytes of {self:#?}");
        for class in &self.classes {
            let out = class.outstanding + class.overflow;
            let slots_out = out - class.system_overflow;
            assert_eq!(class.touched, slots_out + class.idle, "touched slots of {class:#?}");
            assert_eq!(class.outstanding, slots_out.min(class.capacity), "outstanding slots of {class:#?}");
            let counted = out + class.idle.min(class.capacity);
            assert_eq!(class.allocated_bytes, counted * class.buffer_size, "allocated bytes of {class:#?}");
            assert!(class.cached <= class.idle && class.peak >= slots_out, "{class:#?}");
            assert_eq!(class.gets, class.puts + out as u64, "gets of {class:#?}");
        }
        assert!(self.max_bytes == 0 || self.mapped_bytes <= self.max_bytes, "limit of {self:#?}");
    }
}
