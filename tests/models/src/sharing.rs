//! Shared buffers: the last sharer, and nobody before, has the buffer alone, after all that the others did with it.

use std::ptr::NonNull;

use super::check;
use super::pools::{SIZE, assert_whole, pool, spawn};
use super::sync::{plain_memory, thread};
use crate::{Pool, PooledBytes};

const SHARERS: usize = 3;

/// A thread reads its own byte, as no two reads race: whoever has the buffer alone must come after each of them.
fn read(bytes: &PooledBytes, thread: usize) {
    plain_memory::is_used(NonNull::from(&bytes[thread]));
}

/// Whoever has the buffer alone writes.
fn write(buffer: &[u8]) {
    buffer[..SHARERS].iter().for_each(|byte| plain_memory::is_used(NonNull::from(byte)));
}

fn frozen(pool: &Pool, size: usize) -> PooledBytes {
    let buffer = pool.get(size).unwrap();
    write(&buffer);
    buffer.freeze()
}

/// A slot, and a buffer of the registry.
const SIZES: [usize; 2] = [SIZE, 2 * SIZE];

#[test]
fn whoever_gives_the_last_share_up_puts_the_buffer_once() {
    for size in SIZES {
        check(1000, move || {
            let pool = pool();
            let bytes = frozen(&pool, size);
            let others = [1, 2].map(|number| {
                let other = bytes.clone();
                spawn(&pool, move |_| {
                    let another = other.clone();
                    drop(other);
                    read(&another, number);
                })
            });
            read(&bytes, 0);
            drop(bytes);
            // If it is the same buffer again, it was put before, after all that read it.
            write(&pool.get(size).unwrap());
            others.into_iter().for_each(thread::JoinHandle::join);
            let stats = pool.stats();
            assert_eq!((stats.gets, stats.puts), (2, 2));
            assert_whole(&pool);
        });
    }
}

#[test]
fn of_two_sharers_at_most_one_owns_the_buffer_again() {
    fn own(bytes: PooledBytes, thread: usize) -> bool {
        read(&bytes, thread);
        match bytes.try_into_buffer() {
            Ok(buffer) => {
                write(&buffer);
                true
            }
            Err(shared) => {
                read(&shared, thread);
                false
            }
        }
    }
    for size in SIZES {
        check(1000, move || {
            let pool = pool();
            let bytes = frozen(&pool, size);
            let other = bytes.clone();
            let other = spawn(&pool, move |_| own(other, 1));
            let own = own(bytes, 0);
            assert!(!(other.join() && own));
            assert_eq!(pool.stats().puts, 1);
            assert_whole(&pool);
        });
    }
}

/// The pool goes with the last sharer's buffer, while the other is still on its way out.
#[test]
fn the_pool_ends_once_with_its_last_sharer() {
    for size in SIZES {
        check(1000, move || {
            let pool = pool();
            let bytes = frozen(&pool, size);
            let other = bytes.clone();
            drop(pool);
            let other = thread::spawn(move || drop(other));
            drop(bytes);
            other.join();
        });
    }
}
