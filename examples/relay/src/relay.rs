//! The Rust stage, and how the three stages are joined.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{panic, thread};

use bytepool::{Context, Pool};

use crate::error::Error;
use crate::files::Source;
use crate::sink::{self, Summary};
use crate::transform::{Chunk, transform};

/// Bytes in every chunk but the last.
pub const CHUNK: usize = 64 << 10;

/// Chunks that may wait for C++.
const QUEUE: usize = 8;

/// Buffers out at once, at most: two while C transforms, those in the queue, two while C++ checks.
const BUFFERS: usize = 2 + QUEUE + 2;

/// Size classes, in bytes and buffers: one for whole chunks, the others so that a small last chunk takes no large
/// buffer.
const CLASSES: [(usize, usize); 3] = [(512, 4), (8 << 10, 4), (CHUNK, BUFFERS)];

/// A pool that suffices for one relay at a time, and cannot use more memory than its classes.
///
/// # Errors
/// [`Error::Build`]: the system has no address space.
pub fn build_pool() -> Result<Pool, Error> {
    let max_bytes = CLASSES.iter().map(|(size, capacity)| size * capacity).sum();
    let mut builder = Pool::builder().max_bytes(max_bytes);
    for (size, capacity) in CLASSES {
        builder = builder.size_class(size, capacity);
    }
    Ok(builder.build()?)
}

/// Relays the file `input` to the file `output`: delta coded, chunk by chunk. Tells `progress` how many bytes are under
/// way.
///
/// # Errors
/// [`Error`] of the stage that failed first. Every buffer is back in the pool then, too.
pub fn relay(
    pool: &Pool,
    input: &Path,
    output: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, Error> {
    let source = Source::open(input)?;
    let context = pool.try_context()?;
    let (queue, chunks) = sync_channel(QUEUE);
    thread::scope(|scope| {
        let sink = thread::Builder::new()
            .name("C++".into())
            .spawn_scoped(scope, || sink::run(&context, output, chunks))
            .map_err(Error::Thread)?;
        let sent = send_chunks(pool, &context, source, queue, progress);
        // The sender is gone, so the sink ends.
        let summary = sink.join().unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        sent.map(|()| summary)
    })
}

/// Reads the file, has C transform it, and queues the chunks for C++.
fn send_chunks<'p>(
    pool: &'p Pool,
    context: &Context,
    mut source: Source<'_>,
    queue: SyncSender<Chunk<'p>>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut crc32 = 0;
    let mut bytes = 0;
    loop {
        let buffer = source.read_chunk(pool, CHUNK)?;
        if buffer.is_empty() {
            return Ok(());
        }
        bytes += buffer.len() as u64;
        let chunk = transform(pool, context, buffer, crc32)?;
        crc32 = chunk.crc32();
        if queue.send(chunk).is_err() {
            // C++ gave up; its own error is the one to report.
            return Ok(());
        }
        progress(bytes);
    }
}
