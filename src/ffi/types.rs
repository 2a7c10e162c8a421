//! The structs of `bytepool.h`, and how they cross versions. A struct that may grow starts with its size, and later
//! versions only append.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use crate::core::pinned::PinnedRegion;
use crate::core::stats::{ClassStats, Stats};
use crate::debug::tracking::{Language, Outstanding};
use crate::debug::written;
use crate::ffi::status::Status;
use crate::pool::builder::Builder;

/// `bytepool_size_class`: `capacity` idle buffers of `buffer_size` bytes are kept, beside a slack.
///
/// ```
/// use bytepool::ffi::types::SizeClass;
/// let class = SizeClass { buffer_size: 4096, capacity: 100 };
/// # assert_eq!(class.capacity, 100);
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SizeClass {
    /// How many bytes a buffer has room for.
    pub buffer_size: usize,
    /// How many idle buffers are kept.
    pub capacity: usize,
}

impl From<(usize, usize)> for SizeClass {
    fn from((buffer_size, capacity): (usize, usize)) -> Self {
        Self { buffer_size, capacity }
    }
}

/// `bytepool_config`: what [`bytepool_new`](super::capi::bytepool_new) makes a pool from.
///
/// The library reads it only during that call, but for `round`.
///
/// ```
/// use bytepool::ffi::{capi, types::{Config, SizeClass}};
///
/// let classes = [SizeClass { buffer_size: 4096, capacity: 100 }];
/// let config = Config {
///     struct_size: size_of::<Config>(),
///     size_classes: classes.as_ptr(),
///     size_class_count: classes.len(),
///     alignment: 0,
///     max_bytes: 1 << 20,
///     round: None,
///     flags: 0,
///     unused: 0,
///     track_every: 0,
///     guard_every: 0,
/// };
/// let mut context = std::ptr::null_mut();
/// // SAFETY:
/// // - the config is complete, and `context` is writable
/// assert_eq!(unsafe { capi::bytepool_new(&config, &mut context) }, 0);
/// capi::bytepool_free(context);
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Config {
    /// The size of this struct in the caller's version, in bytes.
    pub struct_size: usize,
    /// The size classes, in any order and of different sizes.
    pub size_classes: *const SizeClass,
    /// How many classes there are, at most 64. Without one every get is oversize.
    pub size_class_count: usize,
    /// The alignment of every buffer, in bytes: a power of two up to 2 MiB. 0 means 64.
    pub alignment: usize,
    /// The limit on mapped bytes. 0 means none.
    pub max_bytes: usize,
    /// Rounds class sizes and requests, in bytes. A result below its argument is ignored. It is called on any thread
    /// that uses the pool, and must not throw.
    pub round: Option<unsafe extern "C" fn(usize) -> usize>,
    /// `BYTEPOOL_ZERO_ON_GET` and so on, or-ed.
    pub flags: u32,
    /// Reserved: set it to 0. Anything but 0 is refused.
    pub unused: u32,
    /// One get in so many is tracked. 0 means as the environment variable `BYTEPOOL_TRACK` says.
    pub track_every: u32,
    /// One get in so many is guarded. 0 means as the environment variable `BYTEPOOL_GUARD` says.
    pub guard_every: u32,
}

/// A timeout that was given in nanoseconds. `u64::MAX` is without end.
pub(crate) fn timeout_of(nanoseconds: u64) -> Duration {
    if nanoseconds == u64::MAX { Duration::MAX } else { Duration::from_nanos(nanoseconds) }
}

const ZERO_ON_GET: u32 = 1;
const ZERO_ON_PUT: u32 = 2;
const NO_THREAD_CACHE: u32 = 4;
const HUGE_PAGES: u32 = 8;
const PINNED: u32 = 16;
const COLORING: u32 = 32;
const ALL_FLAGS: u32 = ZERO_ON_GET | ZERO_ON_PUT | NO_THREAD_CACHE | HUGE_PAGES | PINNED | COLORING;

/// `bytepool_stats`: a pool's figures at one moment, in bytes, buffers or calls.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::ffi::{capi, types::CStats};
///
/// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let _buffer = pool.get(100)?;
/// // SAFETY:
/// // - all fields are numbers
/// let mut stats = unsafe { std::mem::zeroed::<CStats>() };
/// stats.struct_size = size_of::<CStats>();
/// // SAFETY:
/// // - `stats` starts with its size, and is writable
/// let status = unsafe { capi::bytepool_read_stats(pool.context().as_ptr(), &mut stats) };
/// assert_eq!((status, stats.gets, stats.mapped_bytes), (0, 1, 4096));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CStats {
    /// The size of this struct in the caller's version, in bytes.
    pub struct_size: usize,
    /// How many size classes the pool has.
    pub size_class_count: usize,
    /// The limit on `mapped_bytes`. 0 means none.
    pub max_bytes: usize,
    /// Bytes taken from the system for buffers.
    pub mapped_bytes: usize,
    /// The original library's figure, in bytes: buffer sizes in place of slot sizes.
    pub allocated_bytes: usize,
    /// Bytes of outstanding oversize buffers, after rounding.
    pub oversize_bytes: usize,
    /// How many oversize buffers are outstanding.
    pub oversize_buffers: usize,
    /// Gets that succeeded.
    pub gets: u64,
    /// Puts that succeeded.
    pub puts: u64,
    /// Gets served by the system allocator.
    pub system_allocations: u64,
    /// Gets and reallocations that failed at the limit. Those whose deadline passed are among them.
    pub limit_failures: u64,
    /// Gets that had to wait, whatever came of it.
    pub waits: u64,
    /// Refused puts, adoptions and reallocations of buffers that were not out as a raw pointer.
    pub double_puts: u64,
    /// Refused puts, adoptions and reallocations with a wrong size.
    pub size_mismatches: u64,
    /// Refused pointers that were no buffer of this pool.
    pub foreign_pointers: u64,
    /// Bytes of memory that the pool's own books take.
    pub bookkeeping_bytes: usize,
}

/// `bytepool_class_stats`: a size class's figures at one moment, in bytes, slots, buffers or calls.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::ffi::{capi, types::CClassStats};
///
/// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let _buffer = pool.get(100)?;
/// // SAFETY:
/// // - all fields are numbers
/// let mut stats = unsafe { std::mem::zeroed::<CClassStats>() };
/// stats.struct_size = size_of::<CClassStats>();
/// // SAFETY:
/// // - `stats` starts with its size, and is writable
/// let status = unsafe { capi::bytepool_read_class_stats(pool.context().as_ptr(), 0, &mut stats) };
/// assert_eq!((status, stats.outstanding, stats.capacity), (0, 1, 100));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CClassStats {
    /// The size of this struct in the caller's version, in bytes.
    pub struct_size: usize,
    /// How many bytes a buffer has room for, after rounding.
    pub buffer_size: usize,
    /// How many bytes a buffer takes of the region.
    pub slot_size: usize,
    /// How many idle buffers are kept.
    pub capacity: usize,
    /// Slots that are memory.
    pub touched: usize,
    /// Buffers handed out and not yet put, up to the capacity.
    pub outstanding: usize,
    /// Touched slots that the pool holds.
    pub idle: usize,
    /// The part of `idle` that is in thread caches.
    pub cached: usize,
    /// Buffers handed out and not yet put, beyond the capacity.
    pub overflow: usize,
    /// The original library's figure, in bytes.
    pub allocated_bytes: usize,
    /// Gets that succeeded in this class, overflow included.
    pub gets: u64,
    /// Puts that succeeded in this class, overflow included.
    pub puts: u64,
    /// The part of `overflow` that comes from the system allocator.
    pub system_overflow: usize,
    /// The most slots that were out at a time, read now and then.
    pub peak: usize,
}

/// A struct of C's with these fields of one of Rust's. The fields have the same names.
macro_rules! with_fields_of {
    ($stats:ident, $($own:ident: $value:expr,)? { $($field:ident)* }) => {
        Self { struct_size: size_of::<Self>(), $($own: $value,)? $($field: $stats.$field),* }
    };
}

impl From<&Stats> for CStats {
    fn from(stats: &Stats) -> Self {
        with_fields_of!(stats, size_class_count: stats.classes.len(), {
            max_bytes mapped_bytes allocated_bytes oversize_bytes oversize_buffers gets puts system_allocations
            limit_failures waits double_puts size_mismatches foreign_pointers bookkeeping_bytes
        })
    }
}

impl From<&ClassStats> for CClassStats {
    fn from(stats: &ClassStats) -> Self {
        with_fields_of!(stats, {
            buffer_size slot_size capacity touched outstanding idle cached overflow allocated_bytes gets puts
            system_overflow peak
        })
    }
}

/// `bytepool_region`: a part of a pinned pool's memory, whole slots of one class, side by side.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::ffi::{capi, types::CRegion};
///
/// let pool = bytepool::Pool::builder().size_class(4096, 100).pinned(true).build()?;
/// let mut region = CRegion { start: std::ptr::null_mut(), length: 0, slot_size: 0 };
/// // SAFETY:
/// // - there is room for one region
/// let count = unsafe { capi::bytepool_pinned_regions(pool.context().as_ptr(), &mut region, 1) };
/// assert_eq!((count, region.length), (1, 100 * region.slot_size));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CRegion {
    /// Where its first slot starts.
    pub start: *mut c_void,
    /// Its length in bytes: a multiple of `slot_size`, and at most 1 GiB unless one slot is larger.
    pub length: usize,
    /// How many bytes lie from the start of one buffer to that of the next.
    pub slot_size: usize,
}

impl From<PinnedRegion> for CRegion {
    fn from(region: PinnedRegion) -> Self {
        Self { start: region.start.as_ptr().cast(), length: region.len, slot_size: region.slot_size }
    }
}

/// Writes as many items as `out` has room for. Returns how many there are.
pub(crate) fn write_items<T>(items: impl Iterator<Item = impl Into<T>>, out: &mut [T]) -> usize {
    let mut count = 0;
    for item in items {
        if let Some(place) = out.get_mut(count) {
            *place = item.into();
        }
        count += 1;
    }
    count
}

/// Writes as many items as an array of C's has room for. Returns how many there are.
///
/// # Safety
/// - `out` is NULL or writable for `max` items
/// - `T` has no padding, and every value of its bytes is one
pub(crate) unsafe fn write_array<T>(
    items: impl Iterator<Item = impl Into<T>>,
    out: *mut T,
    max: usize,
) -> usize {
    let out = match max {
        _ if out.is_null() => &mut [],
        // SAFETY:
        // - not NULL, and writable for as many (caller); no slice is longer than memory
        max => unsafe { std::slice::from_raw_parts_mut(out, max.min(isize::MAX as usize / size_of::<T>())) },
    };
    let count = write_items(items, out);
    let filled = count.min(out.len());
    out[..filled].iter_mut().for_each(written);
    count
}

/// `bytepool_outstanding`: a tracked buffer that is outstanding.
///
/// It is good while the handler runs.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::ffi::{capi, types::COutstanding};
/// use std::ffi::c_void;
///
/// unsafe extern "C" fn add(buffer: *const COutstanding, sum: *mut c_void) {
///     // SAFETY:
///     // - the library passes a buffer, and the pointer that was given below
///     unsafe { *sum.cast::<usize>() += (*buffer).size };
/// }
/// let pool = bytepool::Pool::builder().size_class(4096, 100).track_every(1).build()?;
/// let _buffers = [pool.get(100)?, pool.get(200)?];
/// let mut sum = 0_usize;
/// // SAFETY:
/// // - `add` may be called with `sum`, and does not throw
/// unsafe { capi::bytepool_dump_outstanding(pool.context().as_ptr(), Some(add), (&raw mut sum).cast()) };
/// assert_eq!(sum, 300);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct COutstanding {
    /// The size of this struct in the library's version, in bytes. Later versions only append.
    pub struct_size: usize,
    /// Where the buffer starts.
    pub data: *const c_void,
    /// How many bytes were asked for.
    pub size: usize,
    /// How many bytes the buffer has room for.
    pub buffer_size: usize,
    /// Nanoseconds since it was got.
    pub age_ns: u64,
    /// The system's number of the thread that got it. 0 if unknown.
    pub thread: u64,
    /// The name that the thread had then, ended by a zero byte. Empty if unknown.
    pub thread_name: [u8; 16],
    /// The source file of the get, a string that is never freed. NULL if unknown.
    pub file: *const c_char,
    /// The line of the get, from 1 on. 0 if unknown.
    pub line: u32,
    /// The column of the get, from 1 on. 0 if unknown, as in C.
    pub column: u32,
    /// `BYTEPOOL_LANGUAGE_RUST` and so on.
    pub language: i32,
}

/// `bytepool_outstanding_handler`: what [`bytepool_dump_outstanding`](super::capi::bytepool_dump_outstanding) calls for
/// each tracked buffer.
///
/// No lock is held, so it may call any function of the library. It must not throw.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::ffi::{capi, types::{COutstanding, OutstandingHandler}};
/// use std::ffi::c_void;
///
/// unsafe extern "C" fn look(buffer: *const COutstanding, _: *mut c_void) {
///     // SAFETY:
///     // - the library passes a buffer
///     println!("{:?}", unsafe { *buffer });
/// }
/// let handler: OutstandingHandler = look;
/// let pool = bytepool::Pool::builder().size_class(4096, 100).track_every(1).build()?;
/// let _buffer = pool.get(100)?;
/// // SAFETY:
/// // - the handler may be called so, and does not throw
/// let count = unsafe {
///     capi::bytepool_dump_outstanding(pool.context().as_ptr(), Some(handler), std::ptr::null_mut())
/// };
/// assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
pub type OutstandingHandler = unsafe extern "C" fn(*const COutstanding, *mut c_void);

impl From<&Outstanding> for COutstanding {
    fn from(buffer: &Outstanding) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            data: std::ptr::without_provenance(buffer.address),
            size: buffer.size,
            buffer_size: buffer.buffer_size,
            age_ns: u64::try_from(buffer.age.as_nanos()).unwrap_or(u64::MAX),
            thread: buffer.thread,
            thread_name: buffer.thread_name_with_nul(),
            file: buffer.file_with_nul().cast(),
            line: buffer.line,
            column: buffer.column,
            language: match buffer.language {
                Language::Rust => 1,
                Language::C => 2,
                Language::Cpp => 3,
            },
        }
    }
}

/// No version's struct is larger, in bytes: a larger `struct_size` was never set.
const MAX_STRUCT_SIZE: usize = 4096;

/// A builder with what the caller's version of the struct says.
///
/// # Safety
/// - `config` is NULL or points to a config of at least its `struct_size` bytes, whose `size_classes` has
///   `size_class_count` entries
pub(crate) unsafe fn read_config(config: *const Config) -> Result<Builder, Status> {
    if config.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY:
    // - not NULL; every version of the struct starts with its size
    let struct_size = unsafe { config.cast::<usize>().read() };
    if !(size_of::<Config>()..=MAX_STRUCT_SIZE).contains(&struct_size) {
        return Err(Status::InvalidArgument);
    }
    let known = size_of::<Config>();
    // A newer caller's fields must be unused: this version cannot honour them.
    // SAFETY:
    // - the struct has `struct_size` bytes (caller)
    let newer = unsafe { std::slice::from_raw_parts(config.cast::<u8>().add(known), struct_size - known) };
    if newer.iter().any(|&byte| byte != 0) {
        return Err(Status::InvalidArgument);
    }
    // SAFETY:
    // - the struct has all fields of this version (caller)
    // - the classes are as the caller promised
    unsafe { builder_of(&*config) }
}

/// # Safety
/// - `size_classes` has `size_class_count` entries, unless it is NULL
/// - `round` is NULL or may be called on any thread, and does not throw
pub(crate) unsafe fn builder_of(config: &Config) -> Result<Builder, Status> {
    let is_known = config.flags & !ALL_FLAGS == 0 && config.unused == 0;
    if !is_known || (config.size_classes.is_null() && config.size_class_count > 0) {
        return Err(Status::InvalidArgument);
    }
    // No pool has so many classes, and a slice must not be longer than memory.
    if config.size_class_count > isize::MAX as usize / size_of::<SizeClass>() {
        return Err(Status::InvalidArgument);
    }
    let classes = match config.size_class_count {
        0 => &[],
        // SAFETY:
        // - not NULL, with this many entries (caller)
        count => unsafe { std::slice::from_raw_parts(config.size_classes, count) },
    };
    let has = |flag| config.flags & flag != 0;
    let mut builder = Builder::default()
        .alignment(config.alignment)
        .max_bytes(config.max_bytes)
        .zero_on_get(has(ZERO_ON_GET))
        .zero_on_put(has(ZERO_ON_PUT))
        .thread_cache(!has(NO_THREAD_CACHE))
        .huge_pages(has(HUGE_PAGES))
        .pinned(has(PINNED))
        .coloring(has(COLORING))
        .track_every(config.track_every)
        .guard_every(config.guard_every);
    for class in classes {
        builder = builder.size_class(class.buffer_size, class.capacity);
    }
    if let Some(round) = config.round {
        // SAFETY:
        // - it may be called on any thread, and does not throw (caller)
        builder = builder.round(move |size| unsafe { round(size) });
    }
    Ok(builder)
}

/// Writes as much of `value` as the caller's version of the struct holds. A newer caller's further fields become 0.
///
/// # Safety
/// - `out` is NULL or points to a struct that starts with its size in bytes, and is writable for that many
/// - `T` starts with a `usize`, too, and has no padding
pub(crate) unsafe fn write_struct<T: Copy>(out: *mut T, value: T) -> Result<(), Status> {
    if out.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY:
    // - it starts with its size (caller)
    let struct_size = unsafe { out.cast::<usize>().read() };
    if !(size_of::<usize>()..=MAX_STRUCT_SIZE).contains(&struct_size) {
        return Err(Status::InvalidArgument);
    }
    let known = struct_size.min(size_of::<T>());
    // SAFETY:
    // - `out` is writable for `struct_size` bytes (caller), `value` readable for `known`
    unsafe {
        out.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), known);
        out.cast::<u8>().add(known).write_bytes(0, struct_size - known);
        out.cast::<usize>().write(struct_size);
        written(std::slice::from_raw_parts_mut(out.cast::<u8>(), struct_size));
    }
    Ok(())
}
