//! The Rust worker: buffers with an owner, and raw ones.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::SeqCst;

use bytepool::{GetError, Misuse, PooledBuffer};

use crate::counts::Counts;
use crate::exchange::Parcel;
use crate::failing;
use crate::random::Random;
use crate::world::World;

const MOST_HELD: usize = 48;

struct Held {
    buffer: PooledBuffer,
    pool: u32,
    mark: u8,
}

struct Worker<'a> {
    world: &'a World,
    counts: &'a mut Counts,
    random: Random,
    held: Vec<Held>,
}

/// Does this many operations, or fewer if the phase ends. Leaves no buffer with the thread.
pub(crate) fn work(world: &World, seed: u64, operations: u64, counts: &mut Counts) {
    let mut worker = Worker { world, counts, random: Random(seed), held: Vec::with_capacity(MOST_HELD) };
    while worker.counts.operations < operations
        && (worker.counts.operations % 64 != 0 || !world.is_over.load(SeqCst))
    {
        worker.step();
        worker.counts.operations += 1;
    }
    while let Some(held) = worker.held.pop() {
        worker.check_mark(&held);
    }
}

impl Worker<'_> {
    fn step(&mut self) {
        match self.random.below(100) {
            choice if choice < 45 || self.held.is_empty() => self.obtain(choice < 8),
            ..80 => {
                let held = self.remove_one();
                self.check_mark(&held);
            }
            80..88 => self.offer(),
            88..95 => self.resize(),
            95..99 => self.misuse(),
            _ if self.random.one_in(20) => {
                let number = self.random.below(self.world.pools.len());
                self.world.pools[number].pool.trim(self.random.below(1 << 20));
                self.counts.trims += 1;
            }
            _ => {}
        }
    }

    fn remove_one(&mut self) -> Held {
        let index = self.random.below(self.held.len());
        self.held.swap_remove(index)
    }

    // ---- marks ----

    fn write_mark(&mut self, held: &mut Held) {
        held.mark = self.random.next() as u8;
        held.buffer.fill(held.mark);
        self.counts.bytes += held.buffer.len() as u64;
    }

    fn check_mark(&mut self, held: &Held) {
        let same = held.buffer.iter().all(|&byte| byte == held.mark);
        assert!(same, "Rust: a buffer is not as its owner left it");
        self.counts.bytes += held.buffer.len() as u64;
    }

    // ---- buffers ----

    /// One more buffer, unless there are enough.
    fn obtain(&mut self, from_others: bool) {
        match self.held.len() {
            MOST_HELD.. => {}
            _ if from_others => self.take(),
            _ => self.get(),
        }
    }

    fn get(&mut self) {
        let number = self.random.below(self.world.pools.len());
        let pool = &self.world.pools[number].pool;
        let size = self.random.choose(&self.world.sizes);
        let armed = self.random.one_in(64);
        if armed {
            failing::arm(self.random.below(3) as u32);
        }
        let zeroed = self.random.one_in(8);
        let got = if zeroed { pool.get_zeroed(size) } else { pool.get(size) };
        let injected = armed && failing::disarm();
        match got {
            Ok(buffer) => {
                assert!(!zeroed || buffer.iter().all(|&byte| byte == 0), "Rust: not zeroed");
                let mut held = Held { buffer, pool: number as u32, mark: 0 };
                self.write_mark(&mut held);
                self.held.push(held);
                self.counts.gets += 1;
            }
            Err(error) => self.check_failed(number, injected, &error),
        }
    }

    /// Counts why a get failed, which must have a reason.
    fn check_failed(&mut self, number: usize, injected: bool, error: &GetError) {
        let entry = &self.world.pools[number];
        match error {
            GetError::Limit { limit, mapped, requested } => {
                assert!(entry.is_limited && mapped <= limit && requested > &0, "{error}");
                self.counts.limit_failures += 1;
            }
            GetError::Closed => {
                assert!(entry.is_closing(), "an open pool is closed");
                self.counts.closed_failures += 1;
            }
            GetError::OutOfMemory { .. } => {
                assert!(injected, "{error}");
                self.counts.memory_failures += 1;
            }
            _ => panic!("{error}"),
        }
    }

    fn resize(&mut self) {
        let mut held = self.remove_one();
        self.check_mark(&held);
        let len = self.random.below(held.buffer.capacity() + 1);
        held.buffer.resize(len).unwrap();
        self.write_mark(&mut held);
        self.held.push(held);
        self.counts.reallocations += 1;
    }

    fn offer(&mut self) {
        let held = self.remove_one();
        let (data, size) = held.buffer.into_raw();
        let parcel = Parcel { data: data.as_ptr().cast(), size, pool: held.pool, mark: held.mark };
        if self.world.exchange.offer(parcel) {
            self.counts.offered += 1;
        } else {
            self.adopt(parcel);
        }
    }

    fn take(&mut self) {
        let Some(parcel) = self.world.exchange.take(self.random.next()) else { return };
        self.counts.taken += 1;
        self.adopt(parcel);
        let mut held = self.held.pop().unwrap();
        self.write_mark(&mut held);
        self.held.push(held);
    }

    fn adopt(&mut self, parcel: Parcel) {
        let pool = &self.world.pools[parcel.pool as usize].pool;
        let data = NonNull::new(parcel.data.cast()).unwrap();
        // SAFETY:
        // - a parcel owns its buffer, whose `size` bytes were written; what lies behind is of the pool
        let buffer = unsafe { PooledBuffer::from_raw(pool, data, parcel.size) }.unwrap();
        let held = Held { buffer, pool: parcel.pool, mark: parcel.mark };
        self.check_mark(&held);
        self.held.push(held);
    }

    // ---- misuse ----

    /// A call that breaks the contract, for sure and whatever others do: refused, and counted.
    fn misuse(&mut self) {
        let index = self.random.below(self.held.len());
        let (number, len) = (self.held[index].pool as usize, self.held[index].buffer.len());
        let pool = &self.world.pools[number].pool;
        let data = NonNull::new(self.held[index].buffer.as_ptr().cast_mut()).unwrap();
        if self.random.one_in(2) {
            // SAFETY:
            // - refused: it has an owner
            let verdict = unsafe { pool.put_raw(data, len) };
            assert!(matches!(verdict, Err(Misuse::DoublePut { .. })), "{verdict:?}");
            self.counts.double_puts[number] += 1;
        } else {
            let inside = NonNull::new(data.as_ptr().wrapping_add(1)).unwrap();
            // SAFETY:
            // - refused: no buffer starts there
            let verdict = unsafe { pool.put_raw(inside, len) };
            assert!(matches!(verdict, Err(Misuse::ForeignPointer { .. })), "{verdict:?}");
            self.counts.foreign_pointers[number] += 1;
        }
    }
}
