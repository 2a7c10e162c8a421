//! What [`fork`](crate::fork) needs of the threads' blocks.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU32};
use std::ptr;

use super::{Block, EMPTY, INACTIVE, all, unused};
use crate::barrier;
use crate::thread_cache::way;

/// How many sections the calling thread is in; `None` if it has no block.
#[inline]
pub(crate) fn own_sections() -> Option<&'static AtomicU32> {
    let block = way::block();
    (block.number != 0).then_some(&block.sections)
}

/// How many sections each thread with a block is in.
pub(crate) fn all_sections() -> impl Iterator<Item = &'static AtomicU32> {
    all().map(|block| &block.sections)
}

/// Makes all keys of all threads lead nowhere, and waits until no thread uses a cache. No thread is in a
/// section, so no key is led anywhere meanwhile.
pub(crate) fn cut_all_ways() {
    all().for_each(Block::cut_ways);
    barrier::fence_all_threads();
    all().for_each(Block::wait_until_inactive);
}

/// The block of the thread that forked, in its child.
static FORKED: AtomicPtr<Block> = AtomicPtr::new((&raw const EMPTY).cast_mut());

/// In a child, on the thread that forked.
pub(crate) fn note_forked() {
    FORKED.store(ptr::from_ref(way::block()).cast_mut(), Relaxed);
}

/// In a child: whether a block is of a thread that is in the parent only.
pub(in crate::thread_cache) fn is_of_other_thread(block: &'static Block) -> bool {
    // Relaxed: written before this process had another thread.
    !ptr::eq(block, FORKED.load(Relaxed))
}

/// In a child, before anything else: the blocks of threads that it does not have are unused.
pub(crate) fn forget_other_threads() {
    let mut unused = unused();
    unused.blocks.clear();
    for block in all().filter(|block| is_of_other_thread(block)) {
        // Relaxed, all: no other thread of this process uses a block yet.
        block.activity.store(INACTIVE, Relaxed);
        block.sections.store(0, Relaxed);
        block.was_cut.store(false, Relaxed);
        // There is room for all that were made.
        unused.blocks.push(block);
    }
}
