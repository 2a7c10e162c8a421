//! bytepool's own C functions, called through pointers into its shared library as each peer's are. The declarations are
//! those of bytepool.h once more: the crate's own are not what a C program sees.

use std::ffi::c_void;

use crate::library::Library;
use crate::peers::{CAPACITY, Counts, Peer, SIZES};

type Context = *mut c_void;

#[repr(C)]
struct SizeClass {
    buffer_size: usize,
    capacity: usize,
}

#[repr(C)]
struct Config {
    struct_size: usize,
    size_classes: *const SizeClass,
    size_class_count: usize,
    alignment: usize,
    max_bytes: usize,
    round: Option<extern "C" fn(usize) -> usize>,
    flags: u32,
    unused: u32,
    track_every: u32,
    guard_every: u32,
}

#[repr(C)]
#[derive(Default)]
struct Stats {
    struct_size: usize,
    /// size_class_count, max_bytes, mapped_bytes, allocated_bytes, oversize_bytes, oversize_buffers
    sizes: [usize; 6],
    gets: u64,
    puts: u64,
    system_allocations: u64,
    /// limit_failures, waits, double_puts, size_mismatches, foreign_pointers
    others: [u64; 5],
    bookkeeping_bytes: usize,
}

/// The C functions of bytepool's shared library.
#[derive(Clone, Copy)]
pub struct Functions {
    pub get: unsafe extern "C" fn(Context, usize) -> *mut c_void,
    pub put: unsafe extern "C" fn(Context, *mut c_void, usize),
    pub put_unsized: unsafe extern "C" fn(Context, *mut c_void),
    pub get_many: unsafe extern "C" fn(Context, usize, *mut *mut c_void, usize) -> i32,
    pub put_many: unsafe extern "C" fn(Context, *const *mut c_void, usize, usize) -> i32,
    new: unsafe extern "C" fn(*const Config, *mut Context) -> i32,
    read_stats: unsafe extern "C" fn(Context, *mut Stats) -> i32,
}

impl Functions {
    pub fn open() -> Self {
        let library = Library::open(env!("PEERS_BYTEPOOL")).expect("the build script linked it");
        // SAFETY:
        // - each field has the type that bytepool.h gives the function
        unsafe {
            Self {
                get: library.function("bytepool_get"),
                put: library.function("bytepool_put"),
                put_unsized: library.function("bytepool_put_unsized"),
                get_many: library.function("bytepool_get_many"),
                put_many: library.function("bytepool_put_many"),
                new: library.function("bytepool_new"),
                read_stats: library.function("bytepool_read_stats"),
            }
        }
    }

    /// A pool with the three classes that most cases use.
    pub fn usual_pool(self) -> Pooled {
        self.pool(&SIZES.map(|size| (size, CAPACITY)))
    }

    /// A pool that lasts as long as the process.
    pub fn pool(self, classes: &[(usize, usize)]) -> Pooled {
        self.pool_with(classes, 0)
    }

    /// The same with bytepool.h's `BYTEPOOL_COLORING`.
    pub fn colored_pool(self, classes: &[(usize, usize)]) -> Pooled {
        const COLORING: u32 = 32;
        self.pool_with(classes, COLORING)
    }

    fn pool_with(self, classes: &[(usize, usize)], flags: u32) -> Pooled {
        let classes: Vec<SizeClass> =
            classes.iter().map(|&(buffer_size, capacity)| SizeClass { buffer_size, capacity }).collect();
        let config = Config {
            struct_size: size_of::<Config>(),
            size_classes: classes.as_ptr(),
            size_class_count: classes.len(),
            alignment: 0,
            max_bytes: 0,
            round: None,
            flags,
            unused: 0,
            track_every: 0,
            guard_every: 0,
        };
        let mut context = std::ptr::null_mut();
        // SAFETY:
        // - the configuration is bytepool.h's, and its classes are alive
        // - the context may be written
        let status = unsafe { (self.new)(&config, &mut context) };
        assert_eq!(status, 0, "bytepool_new failed");
        Pooled { functions: self, context: context as usize }
    }
}

/// A pool of bytepool's.
#[derive(Clone, Copy)]
pub struct Pooled {
    pub functions: Functions,
    context: usize,
}

impl Pooled {
    pub fn context(self) -> Context {
        self.context as Context
    }
}

impl Peer for Pooled {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - any context and size are allowed
        unsafe { (self.functions.get)(self.context(), size) }.cast()
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - got from this pool with this size, says the caller
        unsafe { (self.functions.put)(self.context(), buffer.cast(), size) }
    }

    fn counts(self) -> Option<Counts> {
        let mut stats = Stats { struct_size: size_of::<Stats>(), ..Stats::default() };
        // SAFETY:
        // - the struct is bytepool.h's, with its size
        let status = unsafe { (self.functions.read_stats)(self.context(), &mut stats) };
        assert_eq!(status, 0, "bytepool_read_stats failed");
        let misuses: u64 = stats.others.iter().sum();
        assert_eq!(misuses, 0, "proof failed: bytepool refused a call");
        let Stats { gets, puts, system_allocations, .. } = stats;
        Some(Counts { gets, puts, system_allocations })
    }
}

/// A pool of bytepool's whose buffers are put without their size.
#[derive(Clone, Copy)]
pub struct Unsized(pub Pooled);

impl Peer for Unsized {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - as the caller says
        unsafe { self.0.get(size) }
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, _size: usize) {
        // SAFETY:
        // - got from this pool, says the caller
        unsafe { (self.0.functions.put_unsized)(self.0.context(), buffer.cast()) }
    }

    fn counts(self) -> Option<Counts> {
        self.0.counts()
    }
}

/// A pool of bytepool's whose buffers are put with another size of the same class.
#[derive(Clone, Copy)]
pub struct OtherSize(pub Pooled);

impl Peer for OtherSize {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - as the caller says
        unsafe { self.0.get(size) }
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - got from this pool, says the caller
        // - 100 bytes less are of the same class for each of SIZES
        unsafe { self.0.put(buffer, size - 100) }
    }

    fn counts(self) -> Option<Counts> {
        self.0.counts()
    }
}
