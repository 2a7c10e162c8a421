//! `PooledBuffer`: one outstanding buffer with one owner.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use super::Pool;
use super::bytes::PooledBytes;
use crate::class::ledger::Holder;
use crate::class::location::{Buffer, Location};
use crate::core::Core;
use crate::core::door;
use crate::core::door::Refused;
use crate::core::get::Request;
use crate::core::reference::OfBuffer;
use crate::debug::tracking::Caller;
use crate::error::{GetError, Misuse, ResizeError};
use crate::os::fork::ForkGuard;

/// A buffer from a [`Pool`] with one owner: this value.
///
/// Dropping it puts the buffer.
///
/// It derefs to its bytes, `len` of them, which are at most `capacity`. `grow` moves them to a larger buffer. The
/// pool's memory stays as long as the buffer is out, so it may outlive every handle. A buffer that is forgotten stays
/// out. A put from C with its pointer is refused while the `PooledBuffer` exists.
///
/// It may be sent to any thread, and dropped there. A drop may call the waker of a task that waits by
/// [`Pool::get_async`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let mut buffer = pool.get(100)?;
/// buffer[..5].copy_from_slice(b"hello");
/// buffer.truncate(5);
/// std::thread::spawn(move || assert_eq!(buffer, b"hello")).join().unwrap(); // dropped, and put, there
/// assert_eq!(pool.stats().puts, 1);
/// # Ok(())
/// # }
/// ```
pub struct PooledBuffer {
    data: NonNull<u8>,
    len: usize,
    capacity: usize,
    location: Location,
    /// Holds a reference.
    pool: NonNull<Core>,
}

// SAFETY:
// - the buffer has one owner, and its bytes may be used from any thread
// - the pool it refers to is Send and Sync
unsafe impl Send for PooledBuffer {}
// SAFETY:
// - a shared PooledBuffer only gives shared access to its bytes
unsafe impl Sync for PooledBuffer {}

// A panic leaves nothing half done, and the bytes are as they were written.
impl UnwindSafe for PooledBuffer {}
impl RefUnwindSafe for PooledBuffer {}

impl PooledBuffer {
    /// Owns a buffer that was just got from `pool` with the holder `Owned` and initialised bytes. `len` is at most its
    /// capacity.
    #[inline]
    pub(crate) fn new(pool: NonNull<Core>, buffer: Buffer, len: usize) -> Self {
        let Buffer { data, capacity, location } = buffer;
        debug_assert!(len <= capacity);
        Self { data, len, capacity, location, pool }
    }

    /// Becomes the owner of a raw buffer that is outstanding from `pool`. C got it, or [`Pool::get_raw`] did, or
    /// [`into_raw`](Self::into_raw) gave it up.
    ///
    /// `size` is the one asked for, in bytes, or another of the same class. It becomes the length, cut to the capacity.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use bytepool::PooledBuffer;
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let data = pool.get_raw(100)?;
    /// // SAFETY:
    /// // - got above, of a size class, and only used by its owner from now on
    /// let buffer = unsafe { PooledBuffer::from_raw(&pool, data, 100)? };
    /// assert_eq!(buffer.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Misuse`] if `data` is no such buffer. Then nothing changed, and it is still the caller's.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of `pool`, the caller owns it, and nobody else uses it from now on
    /// - all its usable bytes, as [`Pool::usable_size`] counts them, are initialised. The slots of a class fulfil
    ///   this, unless padding or a `MaybeUninit` was written there since the get
    pub unsafe fn from_raw(pool: &Pool, data: NonNull<u8>, size: usize) -> Result<Self, Misuse> {
        let pool = pool.reference();
        // SAFETY:
        // - the caller owns the buffer
        let buffer = unsafe { pool.adopt(&mut ForkGuard::new(), data, size)? };
        let Buffer { data, capacity, location } = buffer;
        // The raw buffer's reference is this PooledBuffer's now.
        Ok(Self { data, len: size.min(capacity), capacity, location, pool: pool.as_pointer() })
    }

    /// Gives the buffer up as a raw pointer, with its length in bytes. A put names that size, or another of the
    /// buffer's class. The buffer stays outstanding, and is the caller's.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let (data, size) = pool.copy(b"hello")?.into_raw();
    /// // SAFETY:
    /// // - given up above, and put once
    /// unsafe { pool.put_raw(data, size)? };
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_raw(self) -> (NonNull<u8>, usize) {
        let buffer = ManuallyDrop::new(self);
        // SAFETY:
        // - `buffer` holds a reference, so the pool exists
        // - `data` and `location` are of the outstanding buffer it owns
        unsafe {
            let pool = buffer.pool.as_ref();
            pool.release(&mut ForkGuard::new(), buffer.data, buffer.location, buffer.len);
        }
        (buffer.data, buffer.len)
    }

    /// The length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most bytes that the buffer can have: the buffer size of its class, or its own size where no class fits.
    /// Under AddressSanitizer, valgrind or their like, and for a guarded buffer, it is the size asked for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the length to `len` bytes. The buffer does not move. Bytes that appear hold whatever was there.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut buffer = pool.copy(b"hello world")?;
    /// buffer.resize(5)?;
    /// assert_eq!(buffer, b"hello");
    /// buffer.resize(11)?;
    /// assert_eq!(buffer, b"hello world");
    /// assert!(buffer.resize(5000).is_err()); // its class has 4096 bytes
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ResizeError`] if `len` exceeds the capacity. Then the length is as it was.
    pub fn resize(&mut self, len: usize) -> Result<(), ResizeError> {
        if len > self.capacity {
            return Err(ResizeError { requested: len, capacity: self.capacity });
        }
        self.len = len;
        Ok(())
    }

    /// Ends the writing. From now on the bytes may be shared, as many as the length says. Nothing is copied or
    /// allocated.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut buffer = pool.get(5)?;
    /// buffer.copy_from_slice(b"hello");
    /// let bytes = buffer.freeze();
    /// assert_eq!(bytes.clone(), bytes);
    /// # Ok(())
    /// # }
    /// ```
    pub fn freeze(self) -> PooledBytes {
        PooledBytes::new(self)
    }

    pub(super) fn pool(&self) -> NonNull<Core> {
        self.pool
    }

    pub(super) fn as_buffer(&self) -> Buffer {
        Buffer { data: self.data, capacity: self.capacity, location: self.location }
    }

    /// All bytes up to the capacity.
    pub(super) fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY:
        // - the buffer has `capacity` bytes, all initialised, as `deref` says
        // - this value is borrowed mutably
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.capacity) }
    }

    #[cfg(feature = "cxx")]
    pub(crate) fn into_parts(self) -> (NonNull<u8>, usize, usize, Location, NonNull<Core>) {
        let buffer = ManuallyDrop::new(self);
        (buffer.data, buffer.len, buffer.capacity, buffer.location, buffer.pool)
    }

    /// # Safety
    /// - the parts came from [`into_parts`](Self::into_parts), and are used once
    /// - another length than then is at most the capacity
    #[cfg(feature = "cxx")]
    pub(crate) unsafe fn from_parts(
        data: NonNull<u8>,
        len: usize,
        capacity: usize,
        location: Location,
        pool: NonNull<Core>,
    ) -> Self {
        debug_assert!(len <= capacity);
        Self { data, len, capacity, location, pool }
    }
}

impl PooledBuffer {
    /// # Safety
    /// - the buffer is not put yet, and nobody uses it afterwards
    #[cold]
    #[inline(never)] // so that the drop is small enough to be inlined
    unsafe fn put_slow(&mut self) {
        // SAFETY:
        // - the buffer holds a reference until it is put
        // - `data` and `location` are of the outstanding buffer that this value owns
        unsafe { door::put_owned_slow(OfBuffer::new(self.pool), self.data, self.location) };
    }
}

impl Drop for PooledBuffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - the buffer holds a reference until it is put
        let handle = unsafe { OfBuffer::new(self.pool) };
        // SAFETY:
        // - `data` and `location` are of the outstanding buffer that this value owns, which ends
        let put = unsafe { door::put_owned(handle, self.data.as_ptr(), self.location) };
        if !put {
            // SAFETY:
            // - not put yet, and dropped once
            unsafe { self.put_slow() };
        }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - the buffer has at least `len` bytes
        // - all are initialised: fresh slots are zero pages, reused slots hold what was there when they were
        //   put, other buffers were zeroed when they were allocated, and the caller of `from_raw` vouched for its own
        // - nobody else writes to them while this value is borrowed
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for PooledBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY:
        // - as in `deref`
        // - this value is borrowed mutably
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A buffer of `size` bytes from the pool of another buffer.
///
/// # Safety
/// - a buffer's reference keeps the pool meanwhile
pub(super) unsafe fn get_from(
    pool: NonNull<Core>,
    size: usize,
    caller: Caller,
) -> Result<PooledBuffer, GetError> {
    // SAFETY:
    // - as the caller promised
    let handle = unsafe { OfBuffer::new(pool) };
    let buffer = match door::get(handle, size, Holder::Owned) {
        Some(buffer) => buffer,
        None => door::get_slow(handle, &Request::owned(size, caller)).map_err(Refused::into_error)?,
    };
    Ok(PooledBuffer::new(pool, buffer, size))
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBuffer")
            .field("data", &self.data)
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish()
    }
}
