//! The C functions against a sequential model: every status, last error, report of misuse, figure and mark, for
//! any sequence of calls on two threads and several pools, with arbitrary pointers, sizes and contexts.
//!
//! Shared by `tests/suites/c_model.rs` (proptest) and `fuzz/` (libFuzzer), which both have `tests/support/valgrind.rs` at
//! their root.

mod calls;
mod figures;
mod gets;
pub(crate) mod program;
mod puts;
mod world;

use program::{Call, Step};
use world::{Resolved, World};

/// Makes the calls, and in the end puts every buffer and frees every context.
pub(crate) fn run(program: &[Step]) {
    let mut world = World::new();
    for step in program {
        world.on_other_thread = step.on_other_thread;
        world.step(&step.call);
    }
    world.end();
}

impl World {
    fn step(&mut self, call: &Call) {
        match *call {
            Call::New(ref setup) => self.new_pool(setup),
            Call::Clone(context) => self.clone_context(context),
            Call::Close(context) => self.close(context),
            Call::Free(context) => self.free(self.context(context)),
            Call::Get(context, size) => self.get(context, size),
            Call::GetAligned { context, alignment, size } => self.get_aligned(context, alignment, size),
            Call::GetMany { context, size, count } => self.get_many(context, size, count),
            Call::Calloc { context, count, size } => self.calloc(context, count, size),
            Call::Copy { context, size } => self.copy(context, size),
            Call::Realloc(context, data, size) => self.realloc(context, data, size),
            Call::Put(context, data, size) => self.put(context, data, size),
            Call::PutChecked(context, data, size) => self.put_checked(context, data, size),
            Call::PutUnsized(context, data) => self.put_unsized(context, data),
            Call::PutMany { context, ref data, size } => self.put_many(context, data, size),
            Call::UsableSize(context, data) => self.usable_size(context, data),
            Call::Trim(context, size) => self.trim(context, size),
            Call::ReadStats { context, struct_size } => self.read_stats(context, struct_size),
            Call::ReadClassStats { context, index, struct_size } => {
                self.read_class_stats(context, index, struct_size);
            }
            Call::GetTimeout { context, size, nanoseconds } => self.get_timeout(context, size, nanoseconds),
            Call::EndOtherThread => self.end_other_thread(),
        }
    }

    /// Every buffer is put and every context freed; then no context reaches anything.
    fn end(&mut self) {
        self.on_other_thread = false;
        self.check_all();
        for pool in 0..self.pools.len() {
            self.check_figures(pool);
        }
        while let Some(held) = self.held.first().copied() {
            self.put_right(held);
        }
        for pool in 0..self.pools.len() {
            if self.has_handle(pool) {
                self.check_figures(pool);
            }
        }
        for index in 0..self.contexts.len() {
            if self.contexts[index].is_live {
                self.free(self.contexts[index].value);
            }
        }
        for index in 0..self.contexts.len() {
            let context = self.contexts[index].value;
            assert_eq!(self.resolve(context), Resolved::Invalid);
            self.check_is_refused(context);
        }
        self.end_other_thread();
    }
}
