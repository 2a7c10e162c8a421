//! The traits of the crate `bytes`. Code that reads into a `BufMut`, writes a `Buf` or keeps `Bytes` takes pooled
//! buffers.

use ::bytes::buf::UninitSlice;
use ::bytes::{Buf, BufMut, Bytes};

use super::buffer::PooledBuffer;
use super::bytes::PooledBytes;

/// Appends within the capacity. The buffer does not grow beyond it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::BufMut;
/// let pool = bytepool::Pool::builder().size_class(16, 100).build()?;
/// let mut buffer = pool.get_empty(16)?;
/// buffer.put_u16(0x0102);
/// buffer.put_slice(b"abc");
/// assert_eq!((&*buffer, buffer.remaining_mut()), (&b"\x01\x02abc"[..], 11));
/// # Ok(())
/// # }
/// ```
// SAFETY:
// - `chunk_mut` is what follows the length, and `advance_mut` makes that part of the buffer
unsafe impl BufMut for PooledBuffer {
    fn remaining_mut(&self) -> usize {
        self.capacity() - self.len()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        let left = self.remaining_mut();
        assert!(count <= left, "{count} bytes were written where {left} were left");
        let longer = self.resize(self.len() + count);
        debug_assert!(longer.is_ok());
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.spare_capacity_mut())
    }
}

/// Reads from the front. What was read stays in the buffer, but no longer in these bytes. Reads past the end panic, and
/// `copy_to_bytes` allocates, as `Bytes::from` does.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::Buf;
/// # let pool = bytepool::Pool::builder().size_class(16, 100).build()?;
/// let mut bytes = pool.copy(b"\x01\x02abc")?.freeze();
/// assert_eq!(bytes.get_u16(), 0x0102);
/// let rest = bytes.copy_to_bytes(3); // shared, in spite of its name
/// assert_eq!(&*rest, b"abc");
/// # Ok(())
/// # }
/// ```
impl Buf for PooledBytes {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        self.skip(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.split_to(len).into()
    }
}

/// Shares the bytes as `Bytes`, which allocates a count of its own sharers. Without memory for that the process ends.
/// The end of the last of them puts the buffer.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = bytepool::Pool::builder().size_class(16, 100).build()?;
/// let bytes = bytes::Bytes::from(pool.copy(b"hello")?.freeze());
/// assert_eq!(&*bytes, b"hello");
/// drop(bytes);
/// assert_eq!(pool.stats().puts, 1);
/// # Ok(())
/// # }
/// ```
impl From<PooledBytes> for Bytes {
    fn from(bytes: PooledBytes) -> Self {
        Self::from_owner(bytes)
    }
}
