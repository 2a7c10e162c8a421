//! The cxx bridge, on which `include/bytepool/bytepool.hpp` stands. It uses the structs of `bytepool.h`, so each is
//! described once.
//!
//! A cxx function that panics aborts the process. So whatever may run the user's rounding function goes through
//! [`boundary`].

mod sharing;
mod tracked;

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::class::ledger::Holder;
use crate::class::location::{Location, PutSize};
use crate::core::Core;
use crate::core::door::{self, Handle, Refused, Unfinished};
use crate::core::get::Request;
use crate::core::reference::{OfBuffer, Reference};
use crate::core::stats::Stats;
use crate::debug::tracking::{Caller, Language};
use crate::error::{BuildError, GetError, Misuse};
use crate::ffi::context::resolve;
use crate::ffi::cpp_error::{CppError, boundary};
use crate::ffi::last_error::{Failure, set_last_error};
use crate::ffi::misuse::{refuse_context, refuse_pointer};
use crate::ffi::status::Status;
use crate::ffi::types::{
    CClassStats, CRegion, CStats, Config, SizeClass, builder_of, timeout_of, write_items,
};
use crate::os::fork::ForkGuard;
use crate::os::memory;
use crate::pool::Pool;
use crate::pool::buffer::PooledBuffer;
use crate::pool::builder::Builder;

/// The form in which the door takes a pool of C++.
#[derive(Clone, Copy)]
struct CppHandle<'a> {
    key: u64,
    pool: &'a Reference,
}

impl<'a> CppHandle<'a> {
    #[inline(always)]
    fn new(pool: &'a Pool) -> Self {
        Self::with_key(pool.reference().key(), pool)
    }

    /// For a caller who remembers the pool's key. Reading it from the pool takes a quarter of the time of a fast path.
    #[inline(always)]
    fn with_key(key: u64, pool: &'a Pool) -> Self {
        Self { key, pool: pool.reference() }
    }
}

impl<'a> Handle for CppHandle<'a> {
    type Pool = &'a Core;

    #[inline(always)]
    fn key(self) -> u64 {
        self.key
    }

    fn resolve(self, guard: &ForkGuard) -> Option<&'a Core> {
        self.pool.resolve(guard)
    }

    fn is_live(self, guard: &ForkGuard, pool: &Core) -> bool {
        self.pool.is_live(guard, pool)
    }

    #[inline(always)]
    fn enter<T, E>(run: impl FnOnce(&mut ForkGuard) -> Result<T, Refused<E>>) -> Result<T, Refused<E>> {
        boundary(Refused::Panic, run)
    }
}

/// Tells the bridge that a struct of types.rs is the C struct with the same fields.
macro_rules! extern_type {
    ($rust:ty, $c:tt) => {
        // SAFETY:
        // - the Rust struct is repr(C) and has the fields of the C struct in the same order: tests compare sizes and
        //   offsets
        // - it is trivially copyable in C++
        unsafe impl cxx::ExternType for $rust {
            type Id = cxx::type_id!($c);
            type Kind = cxx::kind::Trivial;
        }
    };
}

extern_type!(SizeClass, "bytepool_size_class");
extern_type!(Config, "bytepool_config");
extern_type!(CStats, "bytepool_stats");
extern_type!(CClassStats, "bytepool_class_stats");
extern_type!(CRegion, "bytepool_region");

#[cxx::bridge(namespace = "bytepool")]
mod cpp {
    /// A `PooledBuffer` taken apart. The C++ class holds these parts, so that its accessors need no call.
    #[namespace = "bytepool::detail"]
    struct BufferParts {
        data: *mut u8,
        size: usize,
        capacity: usize,
        /// Holds a reference. C++ does not look into it.
        pool: *mut u8,
        /// C++ does not look into it either.
        location: u64,
    }

    /// What a get asks for, and where it is called.
    #[namespace = "bytepool::detail"]
    struct GetRequest {
        size: usize,
        /// In bytes; 1 means the pool's own.
        alignment: usize,
        timeout_ns: u64,
        /// Whether the caller gave a timeout, which may be 0.
        is_timed: bool,
        /// NULL if it is not known.
        file: *const c_char,
        line: u32,
        column: u32,
    }

    unsafe extern "C++" {
        include!("bytepool/bytepool.h");

        #[namespace = ""]
        #[cxx_name = "bytepool_size_class"]
        type SizeClass = crate::ffi::types::SizeClass;
        #[namespace = ""]
        #[cxx_name = "bytepool_config"]
        type Config = crate::ffi::types::Config;
        #[namespace = ""]
        #[cxx_name = "bytepool_stats"]
        type CStats = crate::ffi::types::CStats;
        #[namespace = ""]
        #[cxx_name = "bytepool_class_stats"]
        type CClassStats = crate::ffi::types::CClassStats;
        #[namespace = ""]
        #[cxx_name = "bytepool_region"]
        type CRegion = crate::ffi::types::CRegion;
    }

    extern "Rust" {
        // So that the bridges of other crates can name it.
        #[derive(ExternType)]
        type Pool;

        /// Another handle on the same pool. Throws rust::Error if the system has no memory.
        #[cxx_name = "clone"]
        fn clone_pool(self: &Pool) -> Result<Box<Pool>>;
        /// Closes the pool for all its handles: gets fail, waiters wake, and idle memory goes back to the system at
        /// once, on Windows with the last buffer. Outstanding buffers stay good until they are put. A second close has
        /// no effect.
        fn close(self: &Pool);
        /// Whether the pool was closed.
        fn is_closed(self: &Pool) -> bool;
        /// Gives idle memory back to the system, and keeps at least `keep_idle_bytes` bytes of idle slots if there are
        /// as many. Only whole pages go, and none of a pinned pool or on Windows. Returns how many bytes of slots went
        /// back. It drains the thread caches.
        fn trim(self: &Pool, keep_idle_bytes: usize) -> usize;
        /// The alignment of every buffer, in bytes.
        fn alignment(self: &Pool) -> usize;
        /// The room that a buffer got for `size` bytes has at least, in bytes. A buffer that will grow can ask for that
        /// many at once. Throws rust::Error if the rounding function panics.
        #[cxx_name = "good_size"]
        fn c_good_size(self: &Pool, size: usize) -> Result<usize>;
        /// The pool's figures. `std::cout << pool->stats()` prints them.
        #[cxx_name = "stats"]
        fn c_stats(self: &Pool) -> CStats;
        /// The figures of a size class. Classes are counted from 0 by ascending buffer size. Throws rust::Error if
        /// there is no such class.
        #[cxx_name = "class_stats"]
        fn c_class_stats(self: &Pool, index: usize) -> Result<CClassStats>;
        /// Writes as many regions of a pinned pool's memory to `out` as there is room for. Returns how many the pool
        /// has. bytepool::pinned_regions gives them all.
        #[cxx_name = "pinned_regions"]
        fn c_pinned_regions(self: &Pool, out: &mut [CRegion]) -> usize;
    }

    #[namespace = "bytepool::detail"]
    extern "Rust" {
        fn new_pool_of_classes(size_classes: &[SizeClass]) -> Result<Box<Pool>>;
        fn new_pool_of_config(config: &Config) -> Result<Box<Pool>>;
        unsafe fn pool_of_context(context: *mut u8) -> Result<Box<Pool>>;
        fn context_of_pool(pool: &Pool) -> Result<*mut u8>;
        fn same_pool(a: &Pool, b: &Pool) -> bool;
        fn key_of(pool: &Pool) -> u64;

        fn try_new_pool(config: &Config, why: &mut i32) -> *mut Pool;
        unsafe fn try_pool_of_context(context: *mut u8, why: &mut i32) -> *mut Pool;
        fn try_context(pool: &Pool, why: &mut i32) -> *mut u8;

        unsafe fn get_at(pool: &Pool, request: &GetRequest, parts: &mut BufferParts) -> i32;
        fn get_raw_aligned(pool: &Pool, alignment: usize, size: usize) -> *mut u8;
        unsafe fn adopt(pool: &Pool, data: *mut u8, size: usize) -> Result<BufferParts>;
        unsafe fn try_adopt(pool: &Pool, data: *mut u8, size: usize, parts: &mut BufferParts) -> i32;
        unsafe fn release(parts: &BufferParts);

    }
}

use cpp::{BufferParts, GetRequest};

// ---- pools ----

fn boxed(pool: Pool) -> Result<Box<Pool>, CppError> {
    memory::boxed(|| Ok::<_, BuildError>(pool)).map_err(CppError::Build)
}

fn new_pool_of_classes(size_classes: &[SizeClass]) -> Result<Box<Pool>, CppError> {
    let add = |builder: Builder, class: &SizeClass| builder.size_class(class.buffer_size, class.capacity);
    let builder = size_classes.iter().fold(Pool::builder(), add);
    boundary(CppError::Panic, |_| boxed(builder.build().map_err(CppError::Build)?))
}

fn new_pool_of_config(config: &Config) -> Result<Box<Pool>, CppError> {
    // SAFETY:
    // - bytepool.hpp fills the config in from a vector of classes, which outlives this call
    let builder = unsafe { builder_of(config) }.map_err(|_| CppError::InvalidConfig)?;
    boundary(CppError::Panic, |_| boxed(builder.build().map_err(CppError::Build)?))
}

/// # Safety
/// - none: the context is checked, and cxx asks for `unsafe` with any raw pointer
unsafe fn pool_of_context(context: *mut u8) -> Result<Box<Pool>, CppError> {
    let mut guard = ForkGuard::new();
    match resolve(&guard, context.cast()) {
        Some(resolved) if resolved.is_live => boxed(Pool::from_reference(resolved.pool)),
        Some(_) => Err(CppError::Get(GetError::Closed)),
        None => {
            refuse_context(&mut guard, context.cast(), ptr::null(), 0);
            Err(CppError::InvalidContext)
        }
    }
}

fn context_of_pool(pool: &Pool) -> Result<*mut u8, CppError> {
    pool.try_context().map(|context| context.into_raw().cast()).map_err(CppError::Context)
}

/// A failure for a caller without exceptions: NULL, and its status in `why`.
fn refused_to(why: &mut i32) -> impl FnOnce(CppError) -> *mut Pool + '_ {
    |error| {
        *why = keep_as_last(error) as i32;
        ptr::null_mut()
    }
}

/// Makes an error the thread's last one. Returns its status.
fn keep_as_last(error: CppError) -> Status {
    let failure = Failure::from(error);
    let status = failure.status();
    set_last_error(failure);
    status
}

fn try_new_pool(config: &Config, why: &mut i32) -> *mut Pool {
    *why = Status::Ok as i32;
    new_pool_of_config(config).map_or_else(refused_to(why), Box::into_raw)
}

/// # Safety
/// - none: the context is checked, and cxx asks for `unsafe` with any raw pointer
unsafe fn try_pool_of_context(context: *mut u8, why: &mut i32) -> *mut Pool {
    *why = Status::Ok as i32;
    // SAFETY:
    // - as the caller promised
    unsafe { pool_of_context(context) }.map_or_else(refused_to(why), Box::into_raw)
}

fn try_context(pool: &Pool, why: &mut i32) -> *mut u8 {
    *why = Status::Ok as i32;
    context_of_pool(pool).unwrap_or_else(|error| refused_to(why)(error).cast())
}

fn same_pool(a: &Pool, b: &Pool) -> bool {
    a.reference().as_pointer() == b.reference().as_pointer()
}

impl Pool {
    fn clone_pool(&self) -> Result<Box<Pool>, CppError> {
        boxed(self.clone())
    }

    fn c_good_size(&self, size: usize) -> Result<usize, CppError> {
        boundary(CppError::Panic, |guard| Ok(self.reference().good_size(guard, size)))
    }

    fn c_stats(&self) -> CStats {
        let mut stats = Stats::NONE; // made in place: it is large
        self.reference().read_stats(&ForkGuard::new(), &mut stats);
        CStats::from(&stats)
    }

    fn c_class_stats(&self, index: usize) -> Result<CClassStats, CppError> {
        let mut stats = Stats::NONE;
        self.reference().read_stats(&ForkGuard::new(), &mut stats);
        let classes = &stats.classes;
        let class = classes.get(index).ok_or(CppError::ClassIndex { index, classes: classes.len() })?;
        Ok(CClassStats::from(class))
    }

    fn c_pinned_regions(&self, out: &mut [CRegion]) -> usize {
        write_items(self.pinned_regions(), out)
    }
}

// ---- PooledBuffer ----

fn take_apart(buffer: PooledBuffer) -> BufferParts {
    let (data, size, capacity, location, pool) = buffer.into_parts();
    let location = location.to_bits();
    BufferParts { data: data.as_ptr(), size, capacity, pool: pool.as_ptr().cast(), location }
}

fn location_of(parts: &BufferParts) -> Location {
    Location::from_bits(parts.location)
}

/// # Safety
/// - the parts came from [`take_apart`], and are put together once
/// - another size than then is at most the capacity
unsafe fn put_together(parts: &BufferParts) -> PooledBuffer {
    let BufferParts { data, size, capacity, pool, .. } = *parts;
    let location = location_of(parts);
    // SAFETY:
    // - parts of a PooledBuffer (caller), whose pointers are not null, used once
    unsafe {
        let data = NonNull::new_unchecked(data);
        let pool = NonNull::new_unchecked(pool.cast::<Core>());
        PooledBuffer::from_parts(data, size, capacity, location, pool)
    }
}

/// # Safety
/// - `file` is NULL, or a string that outlives the caller
unsafe fn caller_at<'a>(file: *const c_char, line: u32, column: u32) -> Caller<'a> {
    // SAFETY:
    // - not NULL, so a string (caller)
    let file = (!file.is_null()).then(|| unsafe { CStr::from_ptr(file) });
    Caller::Native { language: Language::Cpp, file, line, column }
}

/// The request that the door takes.
///
/// # Safety
/// - the file is NULL, or a string that outlives the result
unsafe fn request_of(request: &GetRequest) -> Request<'_> {
    // SAFETY:
    // - as the caller promised
    let caller = unsafe { caller_at(request.file, request.line, request.column) };
    let alignment = (request.alignment != 1).then_some(request.alignment);
    let timeout = request.is_timed.then(|| timeout_of(request.timeout_ns));
    Request { alignment, timeout, ..Request::owned(request.size, caller) }
}

/// The status of a get that was refused. It becomes the thread's last error, too.
#[cold]
fn refused(refused: Refused<GetError>) -> Status {
    match refused {
        Refused::Error(error) => {
            set_last_error(error);
            Status::from(&error)
        }
        Refused::Panic | Refused::NoPool => {
            set_last_error(Status::Panic);
            Status::Panic
        }
    }
}

/// Gets a buffer by the slow path, and returns the status. It is inlined, because checkers of memory note few callers.
///
/// # Safety
/// - the file is NULL or a string
#[inline(always)]
unsafe fn get_at(pool: &Pool, request: &GetRequest, parts: &mut BufferParts) -> i32 {
    // SAFETY:
    // - as the caller promised
    match door::get_slow(CppHandle::new(pool), &unsafe { request_of(request) }) {
        Ok(got) => {
            *parts = take_apart(PooledBuffer::new(pool.reference().as_pointer(), got, request.size));
            Status::Ok as i32
        }
        Err(error) => refused(error) as i32,
    }
}

/// # Safety
/// - if `data` is an outstanding buffer of `pool`, the caller owns it, and nobody else uses it from now on
unsafe fn adopt(pool: &Pool, data: *mut u8, size: usize) -> Result<BufferParts, CppError> {
    let data = NonNull::new(data).ok_or(CppError::NullPointer)?;
    boundary(CppError::Panic, |_| {
        // SAFETY:
        // - as the caller promised
        // - the value is taken apart at once, so no Rust code reads bytes that may be uninitialised
        unsafe { PooledBuffer::from_raw(pool, data, size) }.map(take_apart).map_err(CppError::Misuse)
    })
}

/// # Safety
/// - as for [`adopt`]
unsafe fn try_adopt(pool: &Pool, data: *mut u8, size: usize, parts: &mut BufferParts) -> i32 {
    // SAFETY:
    // - as the caller promised
    match unsafe { adopt(pool, data, size) } {
        Ok(adopted) => {
            *parts = adopted;
            Status::Ok as i32
        }
        Err(error) => keep_as_last(error) as i32,
    }
}

/// The fast path of `PooledBuffer`'s constructor. It goes past the bridge, where each call becomes two. `false` means
/// that nothing was done, and [`get_at`] must be called.
#[unsafe(no_mangle)]
extern "C" fn bytepool_cpp_get(pool: &Pool, size: usize, parts: &mut MaybeUninit<BufferParts>) -> bool {
    let got = door::get(CppHandle::new(pool), size, Holder::Owned);
    if let Some(buffer) = got {
        parts.write(take_apart(PooledBuffer::new(pool.reference().as_pointer(), buffer, size)));
    }
    got.is_some()
}

/// `PooledBuffer`'s destructor: puts the buffer.
///
/// # Safety
/// - the parts are of a `PooledBuffer` that the caller owns, and gives up
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_put(parts: &BufferParts) {
    // SAFETY:
    // - the buffer holds a reference until it is put, so the pool exists; its pointer is not null
    let handle = unsafe { OfBuffer::new(NonNull::new_unchecked(parts.pool.cast::<Core>())) };
    // SAFETY:
    // - the parts are of a `PooledBuffer` that the caller gives up
    let put = unsafe { door::put_owned(handle, parts.data, location_of(parts)) };
    if !put {
        // SAFETY: as the caller promised
        unsafe { put_slow(parts) };
    }
}

/// # Safety
/// - the parts are of a `PooledBuffer` that the caller owns, and gives up
// It does not unwind and has its caller's signature, so the call is a tail call.
#[cold]
#[inline(never)]
unsafe extern "C" fn put_slow(parts: &BufferParts) {
    // SAFETY:
    // - the pointers of parts are not null, and the buffer holds a reference until it is put
    // - of a PooledBuffer that the caller owns
    unsafe {
        let pool = OfBuffer::new(NonNull::new_unchecked(parts.pool.cast::<Core>()));
        door::put_owned_slow(pool, NonNull::new_unchecked(parts.data), location_of(parts));
    }
}

/// # Safety
/// - the parts are of a `PooledBuffer` that the caller owns, and gives up
unsafe fn release(parts: &BufferParts) {
    // SAFETY: as the caller promised
    unsafe { put_together(parts) }.into_raw();
}

// ---- memory_resource ----

/// The key that leads a thread to its cache of the pool.
fn key_of(pool: &Pool) -> u64 {
    pool.reference().key()
}

/// Gets a raw buffer past the bridge. `key` is the pool's [`key_of`]. NULL means that it was refused, and the thread's
/// last error says why.
#[unsafe(no_mangle)]
extern "C" fn bytepool_cpp_get_raw(key: u64, size: usize, pool: &Pool) -> *mut u8 {
    match door::get(CppHandle::with_key(key, pool), size, Holder::Raw(size)) {
        Some(got) => got.data.as_ptr(),
        None => get_raw_slow(key, size, pool),
    }
}

// It does not unwind and has its caller's signature, so the call is a tail call.
#[cold]
#[inline(never)]
extern "C" fn get_raw_slow(_: u64, size: usize, pool: &Pool) -> *mut u8 {
    get_raw_for(pool, &Request::raw(size, Caller::somewhere(Language::Cpp)))
}

fn get_raw_aligned(pool: &Pool, alignment: usize, size: usize) -> *mut u8 {
    let request = Request::raw(size, Caller::somewhere(Language::Cpp));
    get_raw_for(pool, &Request { alignment: Some(alignment), ..request })
}

#[inline(always)]
fn get_raw_for(pool: &Pool, request: &Request) -> *mut u8 {
    match door::get_slow(CppHandle::new(pool), request) {
        Ok(got) => got.data.as_ptr(),
        Err(error) => {
            refused(error);
            ptr::null_mut()
        }
    }
}

/// # Safety
/// - if `data` is an outstanding buffer of the pool, the caller owns it, and nobody uses it any more
/// - the key is the pool's
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_put_raw(key: u64, data: *mut u8, size: usize, pool: &Pool) {
    if let Err(unfinished) = door::put(CppHandle::with_key(key, pool), data, size) {
        // SAFETY:
        // - as the caller promised; the fast path just gave this
        unsafe { finish_put_raw(unfinished, data, size, pool) };
    }
}

/// # Safety
/// - if `data` is an outstanding buffer of the pool, the caller owns it, and nobody uses it any more
/// - the fast path just gave `unfinished`
#[cold]
#[inline(never)]
unsafe fn finish_put_raw(unfinished: Unfinished, data: *mut u8, size: usize, pool: &Pool) {
    // SAFETY:
    // - as the caller promised
    let put = unsafe {
        if door::finish_put(unfinished, data) {
            return;
        }
        door::put_slow(CppHandle::new(pool), data, PutSize::Sized(size))
    };
    if let Err(Refused::<Misuse>::Error(misuse)) = put {
        refuse_pointer(&mut ForkGuard::new(), &misuse, ptr::null_mut(), data.cast(), size);
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use crate::os::thread_state::looks;

    #[test]
    fn a_destructor_looks_its_cache_up_at_most_twice() {
        let pool = Pool::builder().size_class(1024, 1000).build().unwrap();
        let get = || -> Vec<PooledBuffer> { (0..200).map(|_| pool.get(1024).unwrap()).collect() };
        let of_another_thread = std::thread::scope(|scope| scope.spawn(get).join().unwrap());
        let buffers = get().into_iter().chain(of_another_thread).chain([pool.get(1 << 20).unwrap()]);
        for buffer in buffers {
            let parts = take_apart(buffer);
            looks::take();
            // SAFETY:
            // - parts of a buffer, put once
            unsafe { bytepool_cpp_put(&parts) };
            let looks = looks::take();
            assert!((1..=2).contains(&looks), "{looks} looks");
        }
        assert_eq!(pool.stats().puts, 401);
    }
}
