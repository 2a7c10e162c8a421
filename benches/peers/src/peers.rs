//! What bytepool is measured against: each peer's functions, called through pointers into shared libraries.

use std::ffi::{c_int, c_void};
use std::hint::black_box;

use crate::library::Library;

pub const SIZES: [usize; 3] = [512, 4 << 10, 16 << 10];
/// Buffers of each size class, unless a case says otherwise.
pub const CAPACITY: usize = 1000;

/// Gets, and what a pool itself counted of them.
#[derive(Clone, Copy)]
pub struct Counts {
    pub gets: u64,
    pub puts: u64,
    pub system_allocations: u64,
}

/// Something that hands out buffers. Copied into each loop, so that its pointers are in registers there.
pub trait Peer: Copy + Send + Sync + 'static {
    /// A buffer of `size` bytes, or what stands for it.
    ///
    /// # Safety
    /// - the thread has called `enter_thread`, unless it is the main thread
    unsafe fn get(self, size: usize) -> *mut u8;

    /// The bytes of a buffer that `get` returned.
    ///
    /// # Safety
    /// - the buffer is out
    unsafe fn data(self, buffer: *mut u8) -> *mut u8 {
        buffer
    }

    /// # Safety
    /// - the buffer was got with this size and is not used again
    /// - as `get`
    unsafe fn put(self, buffer: *mut u8, size: usize);

    /// Before a thread's first get or put.
    fn enter_thread(self) {}

    /// After a thread's last get or put.
    fn leave_thread(self) {}

    /// If the peer counts.
    fn counts(self) -> Option<Counts> {
        None
    }
}

// ---- pools ----

/// `std::pmr::synchronized_pool_resource`.
#[derive(Clone, Copy)]
pub struct Pmr {
    resource: usize,
    get: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    put: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

impl Pmr {
    pub fn open() -> Result<Self, String> {
        let library = Library::open(env!("PEERS_PMR"))?;
        // SAFETY:
        // - the types that cpp/pmr.cpp gives the functions
        let (new, get, put) = unsafe {
            let new: unsafe extern "C" fn() -> *mut c_void = library.function("pmr_new");
            (new, library.function("pmr_get"), library.function("pmr_put"))
        };
        // SAFETY:
        // - takes nothing, and has no conditions
        let resource = unsafe { new() };
        assert!(!resource.is_null(), "no memory for a pool resource");
        Ok(Self { resource: resource as usize, get, put })
    }
}

impl Peer for Pmr {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - the resource is alive
        unsafe { (self.get)(self.resource as *mut c_void, size) }.cast()
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - the resource is alive
        // - got from it with this size, says the caller
        unsafe { (self.put)(self.resource as *mut c_void, buffer.cast(), size) }
    }
}

/// `AVBufferRef` of libavutil/buffer.h. A buffer is a pointer to one.
#[repr(C)]
struct AvBufferRef {
    buffer: *mut c_void,
    data: *mut u8,
    size: usize,
}

/// FFmpeg's AVBufferPool, one for each size.
#[derive(Clone, Copy)]
pub struct AvBufferPool {
    pools: [usize; 3],
    get: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    unref: unsafe extern "C" fn(*mut *mut c_void),
}

impl AvBufferPool {
    /// `name` is of a version with a `size_t` size: libavutil 57 and later.
    pub fn open(name: &'static str) -> Result<Self, String> {
        let library = Library::open(name)?;
        // SAFETY:
        // - the types that libavutil/buffer.h gives the functions
        let (init, get, unref) = unsafe {
            let init: unsafe extern "C" fn(usize, *const c_void) -> *mut c_void =
                library.function("av_buffer_pool_init");
            (init, library.function("av_buffer_pool_get"), library.function("av_buffer_unref"))
        };
        let pools = SIZES.map(|size| {
            // SAFETY:
            // - no allocator means the default one
            let pool = unsafe { init(size, std::ptr::null()) };
            assert!(!pool.is_null(), "no memory for an AVBufferPool");
            pool as usize
        });
        Ok(Self { pools, get, unref })
    }
}

/// Which of [`SIZES`] fits.
#[inline(always)]
fn class(size: usize) -> usize {
    usize::from(size > SIZES[0]) + usize::from(size > SIZES[1])
}

impl Peer for AvBufferPool {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - the pool is alive
        unsafe { (self.get)(self.pools[class(size)] as *mut c_void) }.cast()
    }

    #[inline(always)]
    unsafe fn data(self, buffer: *mut u8) -> *mut u8 {
        // SAFETY:
        // - a reference that is out, says the caller
        unsafe { (*buffer.cast::<AvBufferRef>()).data }
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, _size: usize) {
        let mut reference: *mut c_void = buffer.cast();
        // SAFETY:
        // - the only reference, says the caller
        unsafe { (self.unref)(&mut reference) }
    }
}

/// The thread-local list without checks of c/bare_list.c: the limit.
#[derive(Clone, Copy)]
pub struct BareList {
    get: unsafe extern "C" fn(usize) -> *mut c_void,
    put: unsafe extern "C" fn(*mut c_void, usize),
    leave: unsafe extern "C" fn(),
}

impl BareList {
    pub fn open() -> Result<Self, String> {
        let library = Library::open(env!("PEERS_BARE_LIST"))?;
        // SAFETY:
        // - the types that c/bare_list.c gives the functions
        Ok(unsafe {
            Self {
                get: library.function("bare_get"),
                put: library.function("bare_put"),
                leave: library.function("bare_leave"),
            }
        })
    }
}

impl Peer for BareList {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - any of SIZES is allowed
        unsafe { (self.get)(size) }.cast()
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - got from the list with this size, says the caller
        unsafe { (self.put)(buffer.cast(), size) }
    }

    fn leave_thread(self) {
        // SAFETY:
        // - has no conditions
        unsafe { (self.leave)() }
    }
}

/// DPDK's mempool, through c/dpdk_mempool.c.
#[derive(Clone, Copy)]
pub struct Mempool {
    get: unsafe extern "C" fn(usize) -> *mut c_void,
    put: unsafe extern "C" fn(*mut c_void, usize),
    pub get_many: unsafe extern "C" fn(usize, *mut *mut c_void, usize) -> c_int,
    pub put_many: unsafe extern "C" fn(*const *mut c_void, usize, usize),
    enter: unsafe extern "C" fn() -> c_int,
    leave: unsafe extern "C" fn(),
}

impl Mempool {
    pub fn open() -> Result<Self, String> {
        let library = Library::open(env!("PEERS_DPDK"))?;
        // SAFETY:
        // - the types that c/dpdk_mempool.c gives the functions
        let (open, mempool) = unsafe {
            let open: unsafe extern "C" fn() -> c_int = library.function("dpdk_open");
            let mempool = Self {
                get: library.function("dpdk_get"),
                put: library.function("dpdk_put"),
                get_many: library.function("dpdk_get_many"),
                put_many: library.function("dpdk_put_many"),
                enter: library.function("dpdk_enter"),
                leave: library.function("dpdk_leave"),
            };
            (open, mempool)
        };
        // SAFETY:
        // - called once, by the main thread
        match unsafe { open() } {
            0 => Ok(mempool),
            step => Err(format!("it did not start: step {step}")),
        }
    }
}

impl Peer for Mempool {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - any of SIZES is allowed
        unsafe { (self.get)(size) }.cast()
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - got from the mempool with this size, says the caller
        unsafe { (self.put)(buffer.cast(), size) }
    }

    fn enter_thread(self) {
        // SAFETY:
        // - dpdk_open succeeded
        assert_eq!(unsafe { (self.enter)() }, 0, "DPDK has no core number for a thread");
    }

    fn leave_thread(self) {
        // SAFETY:
        // - the thread entered
        unsafe { (self.leave)() }
    }
}

/// Keeps the compiler from knowing what a peer's pointers are.
#[inline(always)]
pub fn unknown<P: Peer>(peer: P) -> P {
    black_box(peer)
}
