//! A pool for tests of the core, without the layers above.

use std::ops::Deref;
use std::panic::Location;

use super::Core;
use super::config::{Config, Flags};
use super::door;
use super::get::Request;
use super::reference::Reference;
use super::stats::Stats;
use crate::class::layout::{Layout, ROOM_OF_POOL, Shape};
use crate::class::location::Buffer;
use crate::debug::environment::Sampling;
use crate::debug::tracking::Caller;
use crate::os::anchor::Registration;
use crate::os::fork::ForkGuard;
use crate::os::memory;

const SHAPE: Shape = Shape { alignment: 64, huge_pages: false, coloring: false, room: ROOM_OF_POOL };

/// One handle.
pub(crate) struct TestPool(Reference);

impl TestPool {
    /// A pool of these classes, each a buffer size and a capacity, and a limit in bytes.
    pub(crate) fn new(classes: &[(usize, usize)], max_bytes: usize) -> Self {
        let guard = ForkGuard::new();
        let config = Config {
            layout: Layout::new(classes, SHAPE).unwrap(),
            alignment: 64,
            max_bytes,
            round: None,
            flags: Flags::default(),
            sampling: Sampling::default(),
        };
        let registration = Registration::new(&guard).unwrap();
        let core = memory::written_box(|place| Core::write(place, &guard, config, registration)).unwrap();
        Self(Reference::to_new_pool(core))
    }

    pub(crate) fn get(&self, size: usize) -> Buffer {
        let request = Request::owned(size, Caller::Rust(Location::caller()));
        door::get_slow(&self.0, &request).unwrap()
    }

    pub(crate) fn put(&self, buffer: Buffer) {
        // SAFETY:
        // - tests put each buffer that they got once
        unsafe { door::put_owned_slow(&self.0, buffer.data, buffer.location) };
    }

    /// Gets so many buffers, and puts them.
    pub(crate) fn use_buffers(&self, size: usize, count: usize) {
        let buffers: Vec<_> = (0..count).map(|_| self.get(size)).collect();
        buffers.into_iter().for_each(|buffer| self.put(buffer));
    }

    pub(crate) fn figures(&self) -> Stats {
        self.0.stats(&ForkGuard::new())
    }
}

impl Deref for TestPool {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.0
    }
}

impl Drop for TestPool {
    fn drop(&mut self) {
        self.0.close_handle(&mut ForkGuard::new());
    }
}
