//! What a `PooledBuffer` has in common with a `Vec<u8>`, within its capacity. Nothing here grows by itself.

use std::fmt;
use std::io;
use std::panic::Location;

use super::buffer::{self, PooledBuffer};
use crate::debug::tracking::Caller;
use crate::error::{GetError, ResizeError};

impl PooledBuffer {
    /// Makes the length 0. The capacity stays, and so do the bytes in the memory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut buffer = pool.copy(b"hello")?;
    /// buffer.clear();
    /// assert!(buffer.is_empty() && buffer.capacity() == 4096);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Shortens the buffer to its first `len` bytes. If it has no more, nothing is done.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut buffer = pool.copy(b"hello world")?;
    /// buffer.truncate(5);
    /// assert_eq!(buffer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate(&mut self, len: usize) {
        let shortened = self.resize(len.min(self.len()));
        debug_assert!(shortened.is_ok());
    }

    /// Appends a copy of `bytes`, within the capacity. The buffer does not grow beyond it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(8, 100).build()?;
    /// let mut buffer = pool.get_empty(8)?;
    /// buffer.extend_from_slice(b"hello")?;
    /// assert!(buffer.extend_from_slice(b" world").is_err());
    /// assert_eq!(buffer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ResizeError`] if they do not fit the capacity. Then nothing is appended.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), ResizeError> {
        let len = self.len();
        self.resize(len.saturating_add(bytes.len()))?;
        self[len..].copy_from_slice(bytes);
        Ok(())
    }

    /// The bytes from the length to the capacity, to be written into. They are initialised, and hold whatever was
    /// there. A [`resize`](Self::resize) afterwards makes what was written part of the buffer.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(64, 100).build()?;
    /// let mut buffer = pool.copy(b"hello")?;
    /// buffer.spare_capacity_mut()[..3].copy_from_slice(b"...");
    /// buffer.resize(8)?;
    /// assert_eq!(buffer, b"hello...");
    /// # Ok(())
    /// # }
    /// ```
    pub fn spare_capacity_mut(&mut self) -> &mut [u8] {
        let (len, capacity) = (self.len(), self.capacity());
        &mut self.all_mut()[len..capacity]
    }

    /// Makes room for at least `capacity` bytes. If the buffer has less, its bytes move to another buffer of the same
    /// pool, and the old one is put.
    ///
    /// Bytes beyond the length are not copied. The new buffer has the pool's own alignment.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(64, 100).size_class(4096, 100).build()?;
    /// let mut buffer = pool.copy(b"hello")?;
    /// buffer.grow(1000)?;
    /// assert_eq!((buffer.capacity(), &*buffer), (4096, &b"hello"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory. Then the buffer is as it was.
    #[track_caller]
    pub fn grow(&mut self, capacity: usize) -> Result<(), GetError> {
        if capacity > self.capacity() {
            let caller = Caller::Rust(Location::caller());
            // SAFETY:
            // - this buffer keeps the pool
            let mut larger = unsafe { buffer::get_from(self.pool(), capacity, caller)? };
            larger.truncate(self.len());
            larger.copy_from_slice(self);
            *self = larger;
        }
        Ok(())
    }
}

/// Appends as many bytes as fit the capacity.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::{ErrorKind, Write};
/// let pool = bytepool::Pool::builder().size_class(8, 100).build()?;
/// let mut buffer = pool.get_empty(8)?;
/// assert_eq!(buffer.write(b"hello world")?, 8);
/// assert_eq!(buffer.write_all(b"!").unwrap_err().kind(), ErrorKind::WriteZero);
/// # Ok(())
/// # }
/// ```
impl io::Write for PooledBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.capacity() - self.len());
        let appended = self.extend_from_slice(&bytes[..fits]);
        debug_assert!(appended.is_ok());
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends text. A piece that does not fit the capacity is an error, and nothing of it is appended.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::fmt::Write;
/// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
/// let mut buffer = pool.get_empty(100)?;
/// write!(buffer, "{} bytes", 5)?;
/// assert_eq!(buffer, b"5 bytes");
/// # Ok(())
/// # }
/// ```
impl fmt::Write for PooledBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend_from_slice(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
