//! The way to `sink.cpp`: its one function, and the queue it takes chunks from.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::mpsc::Receiver;

use bytepool::Context;

use crate::error::Error;
use crate::transform::{Chunk, RawChunk};

/// What came through: `relay_summary`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Summary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Chunks they came in.
    pub chunks: u64,
    /// How often each byte occurs in the file.
    pub histogram: [u64; 256],
    /// Of the file.
    pub crc32: u32,
}

type NextChunk = unsafe extern "C" fn(queue: *mut c_void, out: *mut RawChunk) -> bool;

unsafe extern "C" {
    fn relay_sink_run(
        context: *mut c_void,
        path: *const c_char,
        next: NextChunk,
        queue: *mut c_void,
        summary: *mut Summary,
        error: *mut c_char,
        error_size: usize,
    ) -> bool;
}

/// Where `queue` points for C++.
type Queue<'p> = Receiver<Chunk<'p>>;

/// Runs the C++ stage on this thread, until the queue's sender is gone. Chunks still in the queue after a failure are
/// dropped, and so put.
pub(crate) fn run(context: &Context, output: &Path, mut queue: Queue<'_>) -> Result<Summary, Error> {
    let fail = |message: String| Error::Sink { path: output.into(), message };
    let path = CString::new(output.as_os_str().as_encoded_bytes())
        .map_err(|_| fail("the path has a zero byte".into()))?;
    let mut summary = Summary { bytes: 0, chunks: 0, histogram: [0; 256], crc32: 0 };
    let mut error: [c_char; 512] = [0; 512];
    // SAFETY:
    // - `path` ends with a zero; `summary` has the layout of `relay_summary`; `error` has the size that is given
    // - `queue` is what `next_chunk` expects, and outlives the call
    let done = unsafe {
        relay_sink_run(
            context.as_ptr(),
            path.as_ptr(),
            next_chunk,
            (&raw mut queue).cast(),
            &mut summary,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if done {
        return Ok(summary);
    }
    // SAFETY:
    // - C++ wrote a text with a zero at its end, or nothing into what was all zeros
    let message = unsafe { CStr::from_ptr(error.as_ptr()) };
    Err(fail(message.to_string_lossy().into_owned()))
}

/// `relay_next_chunk`: waits for a chunk and gives it to C++.
///
/// # Safety
/// - `queue` points to a [`Queue`] that nobody else uses during the call
/// - `out` is writable
unsafe extern "C" fn next_chunk(queue: *mut c_void, out: *mut RawChunk) -> bool {
    // SAFETY:
    // - a queue that only this call uses (caller)
    let queue = unsafe { &*queue.cast::<Queue<'_>>() };
    let Ok(chunk) = queue.recv() else { return false };
    // SAFETY:
    // - writable (caller)
    unsafe { out.write(chunk.into_raw()) };
    true
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::relay::build_pool;
    use crate::transform::transform;

    #[test]
    fn a_chunk_that_does_not_follow_is_found_by_its_crc() {
        let output = PathBuf::from(if cfg!(windows) { "NUL" } else { "/dev/null" });
        let pool = build_pool().unwrap();
        let context = pool.context();
        let chunk = |bytes: &[u8], crc| transform(&pool, &context, pool.copy(bytes).unwrap(), crc).unwrap();
        let first = chunk(b"first", 0);
        let after_first = first.crc32();
        let queued = [first, chunk(b"second", after_first + 1), chunk(b"never looked at", 0)];
        let (sender, receiver) = sync_channel(queued.len());
        queued.into_iter().for_each(|chunk| sender.send(chunk).unwrap());
        drop(sender);

        let error = run(&context, &output, receiver).unwrap_err();
        assert!(
            matches!(&error, Error::Sink { message, .. } if message == "chunk 1 arrived damaged: its CRC-32 is wrong"),
            "{error:?}"
        );
        let stats = pool.stats();
        assert_eq!((stats.gets, stats.puts), (8, 8));
    }
}
