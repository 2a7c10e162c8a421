//! Contexts: what C holds of a pool, a `void *` that is never dereferenced.
//!
//! ```text
//! before mixing    63 ....... 46   45 ......... 28   27 ..... 14   13 .... 0
//!                  generation      anchor's number   handle's cell its use
//! ```
//!
//! The four numbers are mixed one-to-one with a key of this copy of the library. So another copy's context, a stray
//! pointer or an invented value decodes to a random id. A pool hardly ever has that id: 2^36 ids are possible.
//!
//! The id names the pool for ever, so a stale context never reaches a newer pool. The handle's number tells whether
//! this very context was freed.

use std::ffi::c_void;
use std::fmt;
use std::process;
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::Core;
use crate::core::door::{Handle, Refused};
use crate::core::reference::Reference;
use crate::ffi::status::boundary;
use crate::os::anchor::{GENERATION_BITS, INDEX_BITS, PoolId};
use crate::os::caller::KeptErrno;
use crate::os::cells::NoCell;
use crate::os::fork::ForkGuard;
use crate::os::handle::{HandleState, MAX_HANDLES, NUMBER_BITS};
use crate::os::lock::Once;
use crate::os::thread_state::{key_of, product_of};
use crate::pool::Pool;

const _: () = assert!(INDEX_BITS + GENERATION_BITS + NUMBER_BITS == 64);

const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// Odd, so that multiplying by it can be undone.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
const UNMIX: u64 = inverse(MIX);

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the correct bits.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}
const _: () = assert!(MIX.wrapping_mul(UNMIX) == 1);

/// Differs between copies of the library in one process, and from run to run. It finds mistakes and keeps no secret. So
/// the randomness that the process has is enough, and the system is asked for nothing that a sandbox may refuse.
fn key(guard: &ForkGuard) -> u64 {
    static KEY: Once<u64> = Once::new();
    // No anchor has the number INDEX_MASK, so no context is the key itself, and none is NULL.
    *KEY.get_or_init(guard, || {
        let own_address = (&raw const KEY).addr() as u64;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let parts = [own_address, time, u64::from(process::id()), random::of_process()];
        parts.into_iter().fold(0, |key, part| mixed(key ^ part)) | INDEX_MASK << NUMBER_BITS
    })
}

/// Each bit of the result depends on each bit of `word`.
fn mixed(word: u64) -> u64 {
    let folded = (word ^ word >> 32).wrapping_mul(MIX);
    let folded = (folded ^ folded >> 29).wrapping_mul(MIX);
    folded ^ folded >> 32
}

#[cfg(target_os = "linux")]
mod random {
    /// Random bytes that the kernel gives each program at its start.
    pub(super) fn of_process() -> u64 {
        // SAFETY:
        // - it asks for no more than what the program was started with
        let address = unsafe { libc::getauxval(libc::AT_RANDOM) };
        let bytes = std::ptr::with_exposed_provenance::<[u64; 2]>(address as usize);
        if bytes.is_null() {
            return 0;
        }
        // SAFETY:
        // - not NULL, so the address of 16 bytes that stay, of any alignment
        let [a, b] = unsafe { bytes.read_unaligned() };
        a ^ b
    }
}

#[cfg(not(target_os = "linux"))]
mod random {
    use std::hash::{BuildHasher, RandomState};

    pub(super) fn of_process() -> u64 {
        RandomState::new().hash_one(0)
    }
}

fn encode(guard: &ForkGuard, id: PoolId, handle: u32) -> *mut c_void {
    let id = u64::from(id.generation) << INDEX_BITS | u64::from(id.index);
    let value = id << NUMBER_BITS | u64::from(handle);
    ptr::without_provenance_mut(key_of((value ^ key(guard)).wrapping_mul(MIX)) as usize)
}

fn decode(guard: &ForkGuard, context: *mut c_void) -> (PoolId, u32) {
    let value = product_of(context.addr() as u64).wrapping_mul(UNMIX) ^ key(guard);
    let id = value >> NUMBER_BITS;
    let id = PoolId { index: (id & INDEX_MASK) as u32, generation: (id >> INDEX_BITS) as u32 };
    (id, value as u32 & ((1 << NUMBER_BITS) - 1))
}

/// A context that names a pool that exists.
pub(crate) struct Resolved {
    /// Keeps the pool alive for the call.
    pub(crate) pool: Reference,
    /// Whether this very handle is not freed.
    pub(crate) is_live: bool,
    handle: u32,
}

/// The pool that a context names. `None` if the context is NULL, stale or invented. It touches no memory of a pool that
/// is gone.
#[inline]
pub(crate) fn resolve(guard: &ForkGuard, context: *mut c_void) -> Option<Resolved> {
    if context.is_null() {
        return None;
    }
    let (id, handle) = decode(guard, context);
    let pool = Reference::to_live_pool(id)?;
    match pool.handles().state(handle) {
        HandleState::Live => Some(Resolved { pool, is_live: true, handle }),
        HandleState::GivenUp => Some(Resolved { pool, is_live: false, handle }),
        HandleState::Unknown => None,
    }
}

/// The form in which the door takes a context. Its value is the key that leads a thread to its cache of the pool.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct ContextHandle(pub(crate) *mut c_void);

impl Handle for ContextHandle {
    type Pool = Reference;

    #[inline(always)]
    fn key(self) -> u64 {
        self.0.addr() as u64
    }

    fn resolve(self, guard: &ForkGuard) -> Option<Reference> {
        resolve(guard, self.0).map(|resolved| resolved.pool)
    }

    fn is_live(self, guard: &ForkGuard, pool: &Core) -> bool {
        pool.handles().state(decode(guard, self.0).1) == HandleState::Live
    }

    #[inline(always)]
    fn enter<T, E>(run: impl FnOnce(&mut ForkGuard) -> Result<T, Refused<E>>) -> Result<T, Refused<E>> {
        boundary(Err(Refused::Panic), run)
    }
}

/// Gives the handle up; `false` if the context is not a live one.
pub(crate) fn free(guard: &ForkGuard, context: *mut c_void) -> bool {
    let Some(resolved) = resolve(guard, context) else { return false };
    if !resolved.pool.handles().give_up(guard, resolved.handle) {
        return false;
    }
    // From here on it hands out nothing, on any thread.
    resolved.pool.caches().detach(guard, ContextHandle(context).key());
    // SAFETY:
    // - a live context's handle was leaked by `Context::new`, and giving it up above made it this thread's
    drop(unsafe { Pool::from_leaked(resolved.pool.as_pointer()) });
    true
}

/// Why no context could be made.
///
/// The pool is as it was.
///
/// ```
/// use bytepool::ContextError;
/// let error = ContextError::TooMany { limit: 16384 };
/// assert_eq!(error.to_string(), "this pool has its limit of 16384 live contexts");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextError {
    /// The pool has as many live contexts as can be told apart.
    TooMany {
        /// The most live contexts of one pool.
        limit: usize,
    },
    /// The system has no memory.
    OutOfMemory,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { limit } => write!(f, "this pool has its limit of {limit} live contexts"),
            Self::OutOfMemory => f.write_str("the system has no memory for another context"),
        }
    }
}

impl std::error::Error for ContextError {}

/// A handle on a pool for C: the `void *context` of `bytepool_get`, `bytepool_put` and `bytepool_free`.
///
/// It keeps the pool open. Dropping it frees the context, like `bytepool_free` in C. It may be used and dropped on any
/// thread.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::ffi::capi::{bytepool_get, bytepool_put};
///
/// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let context = pool.context();
/// let data = bytepool_get(context.as_ptr(), 100); // by C, most often
/// // SAFETY:
/// // - got above, and put once
/// unsafe { bytepool_put(context.as_ptr(), data, 100) };
/// assert_eq!(pool.stats().puts, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Context {
    context: *mut c_void,
}

// SAFETY:
// - the pointer is a number that names a handle; every use of it is checked, on any thread
unsafe impl Send for Context {}
// SAFETY: as for Send.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn new(pool: Pool) -> Result<Self, ContextError> {
        let guard = ForkGuard::new();
        let number = pool.reference().handles().make(&guard).map_err(|error| match error {
            NoCell::TooMany => ContextError::TooMany { limit: MAX_HANDLES },
            NoCell::OutOfMemory(_) => ContextError::OutOfMemory,
        })?;
        let context = encode(&guard, pool.reference().registration().id(), number);
        pool.leak();
        Ok(Self { context })
    }

    /// The `void *` for C. The context stays this value's, and is good as long as this value exists.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let context = pool.context();
    /// assert!(!context.as_ptr().is_null());
    /// # Ok(())
    /// # }
    /// ```
    pub fn as_ptr(&self) -> *mut c_void {
        self.context
    }

    /// Gives the context up as a `void *` for C. Its new owner frees it by `bytepool_free` or
    /// [`from_raw`](Self::from_raw). Until then it keeps the pool open.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let context = pool.context().into_raw();
    /// bytepool::ffi::capi::bytepool_free(context);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_raw(self) -> *mut c_void {
        std::mem::ManuallyDrop::new(self).context
    }

    /// Becomes the owner of a context that [`into_raw`](Self::into_raw), `bytepool_new` or `bytepool_clone` gave out.
    /// The result is `None` if the context is stale, invented or freed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use bytepool::Context;
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let raw = pool.context().into_raw();
    /// // SAFETY:
    /// // - given up above, and nobody else frees it
    /// let context = unsafe { Context::from_raw(raw) }.unwrap();
    /// drop(context);
    /// // SAFETY:
    /// // - a freed context is refused
    /// assert!(unsafe { Context::from_raw(raw) }.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Safety
    /// - the caller owns the context: nobody else frees it from now on
    pub unsafe fn from_raw(context: *mut c_void) -> Option<Self> {
        resolve(&ForkGuard::new(), context)?.is_live.then_some(Self { context })
    }

    /// Another handle on the context's pool. If C freed the context against the contract, it is a handle as long as the
    /// pool lives, which may be closed then, and `None` afterwards.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let context = pool.context();
    /// let same = context.pool().unwrap();
    /// let _buffer = same.get(100)?;
    /// assert_eq!(pool.stats().outstanding(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pool(&self) -> Option<Pool> {
        resolve(&ForkGuard::new(), self.context).map(|resolved| Pool::from_reference(resolved.pool))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _errno = KeptErrno::new();
        // If C freed the context against the contract, that call did the work, and this one does nothing.
        free(&ForkGuard::new(), self.context);
    }
}

impl Pool {
    /// Makes a context for C: another handle on this pool.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let context = pool.context();
    /// drop(pool); // the context keeps the pool open
    /// assert!(!context.pool().unwrap().is_closed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the pool has its limit of 16,384 live contexts, or the system has no memory.
    /// [`try_context`](Self::try_context) returns an error instead.
    pub fn context(&self) -> Context {
        self.try_context().unwrap_or_else(|error| panic!("no context: {error}"))
    }

    /// Makes a context for C: another handle on this pool.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let context = pool.try_context()?;
    /// assert!(!context.as_ptr().is_null());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ContextError`]: the pool has its limit of 16,384 live contexts, or the system has no memory.
    pub fn try_context(&self) -> Result<Context, ContextError> {
        Context::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_decode_to_what_they_encode_and_are_never_null() {
        let guard = ForkGuard::new();
        for index in [0, 1, 77, INDEX_MASK as u32 - 1] {
            for generation in [0, 1, (1 << GENERATION_BITS) - 1] {
                for handle in [0, 5, (1 << NUMBER_BITS) - 1] {
                    let id = PoolId { index, generation };
                    let context = encode(&guard, id, handle);
                    assert!(!context.is_null());
                    assert_eq!(decode(&guard, context), (id, handle));
                }
            }
        }
    }

    #[test]
    fn neighbours_of_a_context_are_refused() {
        let guard = ForkGuard::new();
        let pool = Pool::builder().size_class(64, 4).build().unwrap();
        let context = pool.context();
        let address = context.as_ptr().addr();
        let strays = (0..64).map(|bit| address ^ 1 << bit).chain([address + 1, address - 1, 1, usize::MAX]);
        for stray in strays {
            assert!(
                resolve(&guard, ptr::without_provenance_mut(stray)).is_none(),
                "{stray:#x} reached a pool"
            );
        }
        assert!(resolve(&guard, context.as_ptr()).is_some());
    }
}
