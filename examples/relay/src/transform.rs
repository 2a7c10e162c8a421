//! The way to `transform.c`, and from there on: the chunks it makes.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use bytepool::ffi::status::Status;
use bytepool::{Context, Pool, PooledBuffer};

use crate::error::Error;

/// `relay_chunk`: owns its buffer, but nothing puts it.
#[repr(C)]
pub(crate) struct RawChunk {
    data: *mut u8,
    size: usize,
    crc32: u32,
}

unsafe extern "C" {
    fn relay_transform(
        context: *mut c_void,
        input: *mut u8,
        size: usize,
        crc_before: u32,
        out: *mut RawChunk,
    ) -> i32;
}

/// A chunk on its way from C to C++. Its buffer is put if it never arrives.
pub(crate) struct Chunk<'p> {
    raw: RawChunk,
    pool: &'p Pool,
}

// SAFETY:
// - the chunk is its buffer's only owner, and a raw buffer may be used and put on any thread
unsafe impl Send for Chunk<'_> {}

impl Chunk<'_> {
    /// Of the file up to and including this chunk.
    pub(crate) fn crc32(&self) -> u32 {
        self.raw.crc32
    }

    /// Hands the buffer over to who asks.
    pub(crate) fn into_raw(self) -> RawChunk {
        let RawChunk { data, size, crc32 } = ManuallyDrop::new(self).raw;
        RawChunk { data, size, crc32 }
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        let Some(data) = NonNull::new(self.raw.data) else { return };
        // SAFETY:
        // - the buffer is this chunk's own, and the chunk is at its end
        let put = unsafe { self.pool.put_raw(data, self.raw.size) };
        debug_assert_eq!(put, Ok(()));
    }
}

/// Has C make a chunk of `input`, whose bytes follow those with the CRC-32 `crc_before`. C puts the buffer of `input`.
/// `context` is one of `pool`.
pub(crate) fn transform<'p>(
    pool: &'p Pool,
    context: &Context,
    input: PooledBuffer,
    crc_before: u32,
) -> Result<Chunk<'p>, Error> {
    let (data, size) = input.into_raw();
    let mut chunk = Chunk { raw: RawChunk { data: ptr::null_mut(), size: 0, crc32: 0 }, pool };
    // SAFETY:
    // - `data` is an outstanding buffer with `size` initialised bytes, given up for C to put
    // - `chunk.raw` is writable, and has the layout of `relay_chunk`
    let code = unsafe { relay_transform(context.as_ptr(), data.as_ptr(), size, crc_before, &mut chunk.raw) };
    match Status::from_code(code) {
        Some(Status::Ok) => Ok(chunk),
        status => Err(Error::Transform(status.unwrap_or(Status::Panic))),
    }
}

#[cfg(test)]
mod tests {
    unsafe extern "C" {
        fn relay_crc32(crc: u32, data: *const u8, size: usize) -> u32;
        fn relay_delta(input: *const u8, size: usize, output: *mut u8);
        fn relay_delta_undo(input: *const u8, size: usize, output: *mut u8);
    }

    fn crc32(crc: u32, data: &[u8]) -> u32 {
        // SAFETY:
        // - `data` has this many bytes
        unsafe { relay_crc32(crc, data.as_ptr(), data.len()) }
    }

    fn through(function: unsafe extern "C" fn(*const u8, usize, *mut u8), input: &[u8]) -> Vec<u8> {
        let mut output = vec![0xEE; input.len()];
        // SAFETY:
        // - one of the two functions above; both slices have this many bytes, and do not overlap
        unsafe { function(input.as_ptr(), input.len(), output.as_mut_ptr()) };
        output
    }

    /// All lengths around the step of eight, of bytes that repeat nothing.
    fn samples() -> impl Iterator<Item = Vec<u8>> {
        (0..40).map(|len: u32| (0..len).map(|i| (i * i * 37 + len * 11) as u8).collect())
    }

    /// The definition, bit by bit.
    fn slow_crc32(data: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }

    #[test]
    fn crc32_has_the_check_value_and_follows_the_definition() {
        assert_eq!(crc32(0, b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(0, b""), 0);
        for sample in samples() {
            assert_eq!(crc32(0, &sample), slow_crc32(&sample), "{sample:?}");
        }
        let all: Vec<u8> = (0..=255).cycle().take(4096).collect();
        assert_eq!(crc32(0, &all), slow_crc32(&all));
    }

    #[test]
    fn crc32_goes_on_where_it_stopped() {
        for sample in samples() {
            for cut in 0..=sample.len() {
                let (start, end) = sample.split_at(cut);
                assert_eq!(crc32(crc32(0, start), end), crc32(0, &sample), "cut at {cut}");
            }
        }
    }

    #[test]
    fn delta_is_the_difference_and_can_be_undone() {
        assert_eq!(through(relay_delta, &[5, 7, 7, 0, 255]), [5, 2, 0, 249, 255]);
        for sample in samples() {
            let coded = through(relay_delta, &sample);
            assert_eq!(through(relay_delta_undo, &coded), sample);
        }
    }
}
