//! `PooledBytes`: one outstanding buffer that several share, or a part of it.
//!
//! ```text
//! buffer   [ h e l l o   w o r l d . . . . ]        <- data, by whose address the count of sharers is found
//! a slice              [ w o r l d ]                <- start, len
//! ```

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Bound, Deref, RangeBounds};
use std::panic::{Location as Place, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use super::buffer::{self, PooledBuffer};
use crate::class::location::Buffer;
use crate::core::sharing::Share;
use crate::debug::tracking::Caller;
use crate::error::GetError;

/// Bytes of a [`Pool`](crate::Pool)'s buffer that nobody changes any more, shared.
///
/// A clone or a slice is another sharer of the same buffer. The end of the last sharer puts it.
///
/// Sharing copies nothing and allocates nothing: the sharers are counted outside the buffer. They keep the pool's
/// memory, so they may outlive every handle. While there is a sharer, a put from C with the buffer's pointer is
/// refused.
///
/// The buffer counts as outstanding, once, as long as anything of it is shared: a small slice holds all of it.
/// [`copy_range`](Self::copy_range) lets go of it. Sharers may be used and dropped on any thread.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let message = pool.copy(b"hello world")?.freeze();
/// let hello = message.slice(..5);
/// std::thread::spawn(move || assert_eq!(hello, b"hello")).join().unwrap();
/// assert_eq!(message, b"hello world");
/// drop(message); // the last of it: the buffer is put
/// assert_eq!(pool.stats().puts, 1);
/// # Ok(())
/// # }
/// ```
pub struct PooledBytes {
    /// This value's share, which the buffer's count of sharers includes.
    share: Share,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY:
// - the bytes do not change while they are shared, and the count is atomic
// - the pool it refers to is Send and Sync
unsafe impl Send for PooledBytes {}
// SAFETY: as for Send
unsafe impl Sync for PooledBytes {}

// A panic leaves nothing half done.
impl UnwindSafe for PooledBytes {}
impl RefUnwindSafe for PooledBytes {}

impl PooledBytes {
    /// Makes the buffer's owner its only sharer.
    pub(super) fn new(buffer: PooledBuffer) -> Self {
        let len = buffer.len();
        let Buffer { data, location, .. } = buffer.as_buffer();
        let share = Share { pool: buffer.pool(), data, location };
        std::mem::forget(buffer);
        // SAFETY:
        // - the PooledBuffer owned it, and gave it up
        unsafe { share.share() };
        Self { share, start: data, len }
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

    /// Shares a range of these bytes. Nothing is copied, and the whole buffer stays outstanding.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let bytes = pool.copy(b"key=value")?.freeze();
    /// assert_eq!(bytes.slice(4..), b"value");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// - the range does not lie within these bytes
    /// - the buffer has 2^31 sharers
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let part = &self[bounds(&range)];
        let (start, len) = (NonNull::from(part).cast(), part.len());
        self.share(start, len)
    }

    /// Splits the first `at` bytes off and returns them. These bytes then begin after them. Nothing is copied.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut bytes = pool.copy(b"headbody")?.freeze();
    /// let head = bytes.split_to(4);
    /// assert_eq!((&*head, &*bytes), (&b"head"[..], &b"body"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// - there are fewer than `at` bytes
    /// - the buffer has 2^31 sharers
    #[track_caller]
    pub fn split_to(&mut self, at: usize) -> Self {
        let first = self.slice(..at);
        self.skip(at);
        first
    }

    /// Leaves the first `count` bytes out.
    pub(super) fn skip(&mut self, count: usize) {
        assert!(count <= self.len, "{count} bytes of {} are to be skipped", self.len);
        // SAFETY:
        // - still within the bytes, or at their end
        self.start = unsafe { self.start.add(count) };
        self.len -= count;
    }

    /// Copies a range of the bytes into another buffer of the same pool. So a few bytes of a large buffer do not keep
    /// it outstanding.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(64, 100).size_class(65536, 100).build()?;
    /// let packet = pool.get_zeroed(65536)?.freeze();
    /// let header = packet.copy_range(..16)?;
    /// drop(packet); // put, although the header is still there
    /// assert_eq!((pool.stats().classes[0].outstanding, pool.stats().classes[1].outstanding), (1, 0));
    /// # drop(header);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    ///
    /// # Panics
    /// The range does not lie within these bytes.
    #[track_caller]
    pub fn copy_range(&self, range: impl RangeBounds<usize>) -> Result<Self, GetError> {
        let part = &self[bounds(&range)];
        let caller = Caller::Rust(Place::caller());
        // SAFETY:
        // - this sharer keeps the pool
        let mut copy = unsafe { buffer::get_from(self.share.pool, part.len(), caller)? };
        copy.copy_from_slice(part);
        Ok(copy.freeze())
    }

    /// Makes the only sharer the owner of the buffer, so that it can be written again. The buffer's length is that of
    /// these bytes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let bytes = pool.copy(b"hello")?.freeze();
    /// let other = bytes.clone();
    /// let bytes = bytes.try_into_buffer().unwrap_err();
    /// drop(other);
    /// let buffer = bytes.try_into_buffer().unwrap();
    /// assert_eq!(buffer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// These bytes, unchanged, if others share the buffer or they do not begin with its first byte.
    pub fn try_into_buffer(self) -> Result<PooledBuffer, Self> {
        // SAFETY:
        // - this value is a share, and nobody makes another by it
        if self.start != self.share.data || !unsafe { self.share.unshare() } {
            return Err(self);
        }
        let owner = ManuallyDrop::new(self);
        // SAFETY:
        // - just made the owner
        Ok(unsafe { owner.owned(owner.share.capacity()) })
    }

    /// The buffer of a share that became the owner, with a capacity that the caller chooses.
    ///
    /// # Safety
    /// - the caller owns the buffer, and uses this value no more
    unsafe fn owned(&self, capacity: usize) -> PooledBuffer {
        let Share { pool, data, location } = self.share;
        PooledBuffer::new(pool, Buffer { data, capacity, location }, self.len)
    }

    /// Another sharer, of a part of these bytes.
    #[inline]
    #[track_caller]
    fn share(&self, start: NonNull<u8>, len: usize) -> Self {
        // SAFETY:
        // - this value is a share
        assert!(unsafe { self.share.add() }, "the buffer already has 2^31 sharers");
        Self { share: self.share, start, len }
    }
}

/// Ranges in the form by which the standard library indexes slices.
fn bounds(range: &impl RangeBounds<usize>) -> (Bound<usize>, Bound<usize>) {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

impl Clone for PooledBytes {
    /// Makes another sharer of the same bytes. Nothing is copied or allocated.
    ///
    /// # Panics
    /// The buffer has 2^31 sharers.
    #[inline]
    fn clone(&self) -> Self {
        self.share(self.start, self.len)
    }
}

impl Drop for PooledBytes {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - this value is a share, given up once; after the last one this thread owns the buffer
        unsafe {
            if self.share.release() {
                // It is dropped at once, so nobody asks for its real capacity.
                drop(self.owned(self.len));
            }
        }
    }
}

impl Deref for PooledBytes {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - `start` and `len` are of a part of the buffer's bytes, all initialised as those of a PooledBuffer
        // - nobody writes them while there is a sharer, and this value is one
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl From<PooledBuffer> for PooledBytes {
    fn from(buffer: PooledBuffer) -> Self {
        buffer.freeze()
    }
}

impl fmt::Debug for PooledBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBytes").field("data", &self.start).field("len", &self.len).finish()
    }
}
