//! The proof: the output, with the transform undone, is the input.

use std::path::Path;

use bytepool::Pool;

use crate::error::Error;
use crate::files::Source;
use crate::relay::CHUNK;

/// Compares byte for byte, chunk by chunk; the number of bytes compared. Tells `progress` how many so far.
///
/// # Errors
/// [`Error::Differs`] at the first byte that differs; [`Error::Read`] and [`Error::Get`].
pub fn verify(pool: &Pool, input: &Path, output: &Path, progress: &mut dyn FnMut(u64)) -> Result<u64, Error> {
    let mut inputs = Source::open(input)?;
    let mut outputs = Source::open(output)?;
    let mut bytes = 0;
    loop {
        let expected = inputs.read_chunk(pool, CHUNK)?;
        let mut found = outputs.read_chunk(pool, CHUNK)?;
        undo_delta(&mut found);
        if let Some(index) = first_difference(&expected, &found) {
            return Err(Error::Differs { path: output.into(), offset: bytes + index as u64 });
        }
        if expected.is_empty() {
            return Ok(bytes);
        }
        bytes += expected.len() as u64;
        progress(bytes);
    }
}

/// In Rust on purpose: a mistake in the C function for it would show.
fn undo_delta(bytes: &mut [u8]) {
    let mut last: u8 = 0;
    for byte in bytes {
        last = last.wrapping_add(*byte);
        *byte = last;
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let common = a.len().min(b.len());
    Some(a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(common))
}
