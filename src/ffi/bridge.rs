//! The cxx bridge: what `include/bytepool/bytepool.hpp` stands on. The types are those of `bytepool.h`, so
//! each struct is described once.
//!
//! A cxx function that panics aborts the process, so whatever may run the user's rounding function goes
//! through [`guarded`].

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::buffer::PooledBuffer;
use crate::config::Builder;
use crate::error::GetError;
use crate::ffi::context::resolve;
use crate::ffi::cpp_error::{CppError, guarded};
use crate::ffi::misuse::{refuse_context, refuse_pointer};
use crate::ffi::types::{CClassStats, CStats, Config, SizeClass, builder_of, timeout_of};
use crate::fork;
use crate::instrument::tracking::{Caller, Language};
use crate::ledger::Holder;
use crate::memory;
use crate::pool::Pool;
use crate::shared::{Buffer, Fill, Place, Request, Shared};
use crate::thread_cache;

/// Makes a struct of types.rs the C struct of the same fields to the bridge.
macro_rules! extern_type {
    ($rust:ty, $c:tt) => {
        // SAFETY:
        // - the Rust struct is repr(C) with the fields of the C struct in the same order; tests compare
        //   sizes and offsets
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

#[cxx::bridge(namespace = "bytepool")]
mod cpp {
    /// A `PooledBuffer` taken apart: what the C++ class holds, so that its accessors need no call.
    #[namespace = "bytepool::detail"]
    struct BufferParts {
        data: *mut u8,
        size: usize,
        capacity: usize,
        /// Holds a reference; opaque to C++.
        pool: *mut u8,
        slot: u32,
        class_number: u32,
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
    }

    extern "Rust" {
        // So that the bridges of other crates can name it.
        #[derive(ExternType)]
        type Pool;

        /// Another handle on the same pool.
        #[cxx_name = "clone"]
        fn clone_pool(self: &Pool) -> Result<Box<Pool>>;
        /// As `bytepool_close`.
        fn close(self: &Pool);
        /// Whether the pool was closed.
        fn is_closed(self: &Pool) -> bool;
        /// As `bytepool_trim`.
        fn trim(self: &Pool, keep_idle_bytes: usize) -> usize;
        /// The alignment of every buffer in bytes.
        fn alignment(self: &Pool) -> usize;
        /// As `bytepool_read_stats`.
        #[cxx_name = "stats"]
        fn c_stats(self: &Pool) -> CStats;
        /// As `bytepool_read_class_stats`.
        #[cxx_name = "class_stats"]
        fn c_class_stats(self: &Pool, index: usize) -> Result<CClassStats>;
    }

    #[namespace = "bytepool::detail"]
    extern "Rust" {
        fn new_pool_of_classes(size_classes: &[SizeClass]) -> Result<Box<Pool>>;
        fn new_pool_of_config(config: &Config) -> Result<Box<Pool>>;
        unsafe fn pool_of_context(context: *mut u8) -> Result<Box<Pool>>;
        fn context_of_pool(pool: &Pool) -> Result<*mut u8>;
        fn same_pool(a: &Pool, b: &Pool) -> bool;

        /// Of an earlier version: as `get_at`, from somewhere.
        fn get(pool: &Pool, size: usize) -> Result<BufferParts>;
        /// As `get`.
        fn try_get(pool: &Pool, size: usize, parts: &mut BufferParts) -> bool;
        unsafe fn get_at(
            pool: &Pool,
            size: usize,
            file: *const c_char,
            line: u32,
            column: u32,
        ) -> Result<BufferParts>;
        unsafe fn try_get_at(
            pool: &Pool,
            size: usize,
            file: *const c_char,
            line: u32,
            column: u32,
            parts: &mut BufferParts,
        ) -> bool;
        unsafe fn get_timeout_at(
            pool: &Pool,
            size: usize,
            timeout_ns: u64,
            file: *const c_char,
            line: u32,
            column: u32,
            parts: &mut BufferParts,
        ) -> Result<bool>;
        unsafe fn adopt(pool: &Pool, data: *mut u8, size: usize) -> Result<BufferParts>;
        unsafe fn release(parts: &BufferParts);

        fn get_raw(pool: &Pool, size: usize, alignment: usize) -> *mut u8;
        unsafe fn put_raw(pool: &Pool, data: *mut u8, size: usize);
    }
}

use cpp::BufferParts;

// ---- pools ----

fn boxed(pool: Pool) -> Result<Box<Pool>, CppError> {
    memory::boxed(pool).map_err(|error| CppError::Build(error.into()))
}

fn new_pool_of_classes(size_classes: &[SizeClass]) -> Result<Box<Pool>, CppError> {
    let add = |builder: Builder, class: &SizeClass| builder.size_class(class.buffer_size, class.capacity);
    let builder = size_classes.iter().fold(Pool::builder(), add);
    guarded(|| boxed(builder.build().map_err(CppError::Build)?))
}

fn new_pool_of_config(config: &Config) -> Result<Box<Pool>, CppError> {
    // SAFETY:
    // - bytepool.hpp fills the config in from a vector of classes, which outlives this call
    let builder = unsafe { builder_of(config) }.map_err(|_| CppError::InvalidConfig)?;
    guarded(|| boxed(builder.build().map_err(CppError::Build)?))
}

/// # Safety
/// - none: the context is checked; cxx asks for `unsafe` with any raw pointer
unsafe fn pool_of_context(context: *mut u8) -> Result<Box<Pool>, CppError> {
    let _section = fork::section();
    match resolve(context.cast()) {
        Some(resolved) if resolved.is_live => boxed(Pool::from_reference(resolved.pool)),
        Some(_) => Err(CppError::Get(GetError::Closed)),
        None => {
            refuse_context(context.cast(), ptr::null(), 0);
            Err(CppError::InvalidContext)
        }
    }
}

fn context_of_pool(pool: &Pool) -> Result<*mut u8, CppError> {
    pool.try_context().map(|context| context.into_raw().cast()).map_err(CppError::Context)
}

fn same_pool(a: &Pool, b: &Pool) -> bool {
    a.reference().as_pointer() == b.reference().as_pointer()
}

impl Pool {
    fn clone_pool(&self) -> Result<Box<Pool>, CppError> {
        boxed(self.clone())
    }

    fn c_stats(&self) -> CStats {
        CStats::from(&self.stats())
    }

    fn c_class_stats(&self, index: usize) -> Result<CClassStats, CppError> {
        let classes = self.stats().classes;
        let class = classes.get(index).ok_or(CppError::ClassIndex { index, classes: classes.len() })?;
        Ok(CClassStats::from(class))
    }
}

// ---- PooledBuffer ----

/// `class_number` of a buffer from the system allocator.
const SYSTEM: u32 = u32::MAX;
/// Added to the `class_number` of a buffer of the spare: as no class has such a number, its put takes the slow path.
const SPARE: u32 = 1 << 8;

fn take_apart(buffer: PooledBuffer) -> BufferParts {
    let (data, size, capacity, place, pool) = buffer.into_parts();
    let (class_number, slot) = match place {
        Place::Slot { class, slot } => (u32::from(class), slot),
        Place::Spare { class, slot } => (SPARE + u32::from(class), slot),
        Place::System => (SYSTEM, 0),
    };
    BufferParts { data: data.as_ptr(), size, capacity, pool: pool.as_ptr().cast(), slot, class_number }
}

/// # Safety
/// - the parts came from [`take_apart`], with a size up to the capacity, and are put together once
unsafe fn put_together(parts: &BufferParts) -> PooledBuffer {
    let BufferParts { data, size, capacity, pool, slot, class_number } = *parts;
    let class = class_number as u8;
    let place = match class_number {
        SYSTEM => Place::System,
        SPARE.. => Place::Spare { class, slot },
        _ => Place::Slot { class, slot },
    };
    // SAFETY:
    // - parts of a PooledBuffer (caller), whose pointers are not null, used once
    unsafe {
        let data = NonNull::new_unchecked(data);
        let pool = NonNull::new_unchecked(pool.cast::<Shared>());
        PooledBuffer::from_parts(data, size, capacity, place, pool)
    }
}

/// Most functions do not ask where they are called.
const SOMEWHERE: Caller = Caller::somewhere(Language::Cpp);

fn caller_at(file: *const c_char, line: u32, column: u32) -> Caller {
    Caller::Native { language: Language::Cpp, file, line, column }
}

/// A buffer of `size` bytes that `get` takes from the pool.
fn get_by(
    pool: &Pool,
    size: usize,
    caller: Caller,
    get: impl FnOnce(&Request) -> Result<Buffer, GetError>,
) -> Result<BufferParts, CppError> {
    let request = Request { size, holder: Holder::Owned, fill: Fill::Initialised, caller };
    let got = guarded(|| get(&request).map_err(CppError::Get))?;
    Ok(take_apart(PooledBuffer::new(pool.reference().as_pointer(), got, size)))
}

fn get(pool: &Pool, size: usize) -> Result<BufferParts, CppError> {
    get_by(pool, size, SOMEWHERE, |request| pool.get_for(request))
}

fn try_get(pool: &Pool, size: usize, parts: &mut BufferParts) -> bool {
    get(pool, size).map(|got| *parts = got).is_ok()
}

/// `false`: there was no room in time.
///
/// # Safety
/// - as [`get_at`]
unsafe fn get_timeout_at(
    pool: &Pool,
    size: usize,
    timeout_ns: u64,
    file: *const c_char,
    line: u32,
    column: u32,
    parts: &mut BufferParts,
) -> Result<bool, CppError> {
    let timeout = timeout_of(timeout_ns);
    match get_by(pool, size, caller_at(file, line, column), |request| pool.get_patiently(request, timeout)) {
        Ok(got) => {
            *parts = got;
            Ok(true)
        }
        Err(CppError::Get(GetError::Timeout { .. })) => Ok(false),
        // It did not wait.
        Err(CppError::Get(GetError::Limit { limit, requested, .. })) if requested <= limit => Ok(false),
        Err(error) => Err(error),
    }
}

/// # Safety
/// - `file` is NULL or a string
unsafe fn get_at(
    pool: &Pool,
    size: usize,
    file: *const c_char,
    line: u32,
    column: u32,
) -> Result<BufferParts, CppError> {
    get_by(pool, size, caller_at(file, line, column), |request| pool.get_for(request))
}

/// # Safety
/// - as [`get_at`]
unsafe fn try_get_at(
    pool: &Pool,
    size: usize,
    file: *const c_char,
    line: u32,
    column: u32,
    parts: &mut BufferParts,
) -> bool {
    // SAFETY:
    // - as the caller promised
    unsafe { get_at(pool, size, file, line, column) }.map(|got| *parts = got).is_ok()
}

/// # Safety
/// - as [`PooledBuffer::from_raw`], but that the bytes need not be initialised: C++ reads them at its own
///   risk
unsafe fn adopt(pool: &Pool, data: *mut u8, size: usize) -> Result<BufferParts, CppError> {
    let data = NonNull::new(data).ok_or(CppError::NullPointer)?;
    // SAFETY:
    // - as the caller promised; the value is taken apart at once, so no Rust code reads the bytes
    guarded(|| unsafe { PooledBuffer::from_raw(pool, data, size) }.map(take_apart).map_err(CppError::Misuse))
}

/// The fast path of `PooledBuffer`'s constructor: past the bridge, whose every call is two. `false`: nothing
/// was done, [`get_at`] must look.
#[unsafe(no_mangle)]
extern "C" fn bytepool_cpp_get(pool: &Pool, size: usize, parts: &mut MaybeUninit<BufferParts>) -> bool {
    let got = thread_cache::get(pool.reference().cache_key(), size, Holder::Owned);
    if let Some(buffer) = got {
        parts.write(take_apart(PooledBuffer::new(pool.reference().as_pointer(), buffer, size)));
    }
    got.is_some()
}

/// `PooledBuffer`'s destructor.
///
/// # Safety
/// - as [`put_together`]
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_put(parts: &BufferParts) {
    // SAFETY:
    // - the buffer holds a reference until it is put, so the pool exists
    let key = unsafe { &*parts.pool.cast::<Shared>() }.cache_key();
    // Field by field: what was just written in words is slow to be read as a whole. No class has the number SYSTEM.
    if !thread_cache::put_owned(key, parts.data.addr(), parts.class_number, parts.slot) {
        // SAFETY: as the caller promised
        unsafe { put_slowly(parts) };
    }
}

/// # Safety
/// - as [`put_together`]
// Not unwinding, and of the same signature: so it is a tail call.
#[cold]
#[inline(never)]
unsafe extern "C" fn put_slowly(parts: &BufferParts) {
    // SAFETY: as the caller promised
    drop(unsafe { put_together(parts) });
}

/// # Safety
/// - as [`put_together`]
unsafe fn release(parts: &BufferParts) {
    // SAFETY: as the caller promised
    unsafe { put_together(parts) }.into_raw();
}

// ---- memory_resource ----

/// NULL on failure.
fn get_raw(pool: &Pool, size: usize, alignment: usize) -> *mut u8 {
    let aligned = alignment <= pool.alignment();
    if aligned && let Some(buffer) = thread_cache::get(pool.reference().cache_key(), size, Holder::Raw(size))
    {
        return buffer.data.as_ptr();
    }
    let got = guarded(|| {
        let _section = fork::section();
        let request = Request::raw(size, SOMEWHERE);
        let got =
            if aligned { pool.get_for(&request) } else { pool.reference().get_aligned(alignment, &request) };
        got.map_err(CppError::Get)
    });
    got.map_or(ptr::null_mut(), |buffer| buffer.data.as_ptr())
}

/// # Safety
/// - as `bytepool_put`
unsafe fn put_raw(pool: &Pool, data: *mut u8, size: usize) {
    if thread_cache::put(pool.reference().cache_key(), data.addr(), size) {
        return;
    }
    let Some(buffer) = NonNull::new(data) else { return };
    let outcome = guarded(|| {
        // SAFETY:
        // - the caller owns the buffer
        unsafe { pool.put_raw(buffer, size) }.map_err(CppError::Misuse)
    });
    if let Err(CppError::Misuse(misuse)) = outcome {
        refuse_pointer(&misuse, ptr::null_mut(), data.cast(), size);
    }
}
