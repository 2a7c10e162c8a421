//! Calls that tell or trim.

use std::mem::MaybeUninit;
use std::ptr;

use bytepool::ffi::capi::*;
use bytepool::ffi::status::Status;

use super::calls::{context_of, pointer_of, status_of};
use super::program::{Handle, Pointer, Size};
use super::world::{Answer, OK, Resolved, World};

const UNTOUCHED: u8 = 0xA5;

/// A pool's figures, through a context that reaches it.
pub(super) fn stats_of(context: usize) -> CStats {
    let mut stats = CStats { struct_size: size_of::<CStats>(), ..zeroed() };
    // SAFETY:
    // - a struct of its size
    assert_eq!(unsafe { bytepool_read_stats(context_of(context), &raw mut stats) }, OK);
    stats
}

impl World {
    pub(super) fn usable_size(&mut self, context: Handle, data: Pointer) {
        let context = self.context(context);
        let resolved = self.resolve(context);
        let data = self.pointer(data, resolved.pool());
        let answer = self.call(|| bytepool_usable_size(context_of(context), pointer_of(data)));
        if resolved == Resolved::Invalid {
            assert_eq!(answer.value, 0);
            let status = Status::InvalidContext as i32;
            return self.check_answer(&answer, status, context, &[(status, data)]);
        }
        self.check_status(&answer, OK, context);
        let held = self.held.iter().find(|held| held.data == data && Some(held.pool) == resolved.pool());
        assert_eq!(answer.value, held.map_or(0, |held| held.capacity), "usable size of {held:x?}");
    }

    /// A context that reaches nothing is refused.
    pub(super) fn check_is_refused(&mut self, context: usize) {
        let answer = self.call(|| bytepool_usable_size(context_of(context), ptr::null()));
        assert_eq!(answer.value, 0);
        self.check_status(&answer, Status::InvalidContext as i32, context);
    }

    pub(super) fn trim(&mut self, context: Handle, keep: Size) {
        let context = self.context(context);
        let resolved = self.resolve(context);
        let keep = self.size(keep, resolved.pool());
        let answer = self.call(|| bytepool_trim(context_of(context), keep));
        let status = status_of(resolved, OK);
        assert!(status == OK || answer.value == 0);
        self.check_status(&answer, status, context);
        self.check_all();
    }

    /// Reads a struct of `struct_size` bytes; what came of it, and the bytes.
    fn read<T>(&mut self, struct_size: u8, read: impl FnOnce(*mut T) -> i32 + Send) -> (Answer, Vec<u8>) {
        let mut memory = vec![MaybeUninit::<u64>::zeroed(); 64];
        let bytes = 8 * memory.len();
        let start = memory.as_mut_ptr().cast::<u8>();
        // SAFETY:
        // - all inside `memory`
        unsafe {
            start.write_bytes(UNTOUCHED, bytes);
            start.cast::<usize>().write(struct_size.into());
        }
        let address = start.expose_provenance();
        let answer = self.call(|| read(ptr::with_exposed_provenance_mut(address)) as usize);
        // SAFETY:
        // - all written above
        let bytes = unsafe { std::slice::from_raw_parts(start, bytes) }.to_vec();
        let told = usize::from(struct_size).max(8);
        assert!(
            bytes[told..].iter().all(|&byte| byte == UNTOUCHED),
            "more was written than struct_size says"
        );
        (answer, bytes)
    }

    pub(super) fn read_stats(&mut self, context: Handle, struct_size: u8) {
        let context = self.context(context);
        // SAFETY:
        // - `read` passes memory of more than a u8's bytes
        let (answer, _) =
            self.read(struct_size, |out| unsafe { bytepool_read_stats(context_of(context), out) });
        let resolved = self.resolve(context);
        let status = match resolved {
            Resolved::Invalid => Status::InvalidContext,
            _ if struct_size < 8 => Status::InvalidArgument,
            _ => Status::Ok,
        } as i32;
        assert_eq!(answer.value as i32, status);
        self.check_status(&answer, status, context);
        if let Some(pool) = resolved.pool() {
            self.check_figures(pool);
        }
    }

    pub(super) fn read_class_stats(&mut self, context: Handle, index: u8, struct_size: u8) {
        let context = self.context(context);
        let index = usize::from(index % 80);
        // SAFETY:
        // - `read` passes memory of more than a u8's bytes
        let (answer, _) = self
            .read(struct_size, |out| unsafe { bytepool_read_class_stats(context_of(context), index, out) });
        let resolved = self.resolve(context);
        let known = |pool: usize| index < self.pools[pool].buffer_sizes.len();
        let status = match resolved.pool() {
            None => Status::InvalidContext,
            Some(pool) if !known(pool) || struct_size < 8 => Status::InvalidArgument,
            _ => Status::Ok,
        } as i32;
        assert_eq!(answer.value as i32, status);
        self.check_status(&answer, status, context);
    }

    /// The pool's figures are the model's, and add up.
    pub(super) fn check_figures(&mut self, pool: usize) {
        let known = self.contexts.iter().find(|known| known.pool == pool).expect("a pool has a context");
        let context = known.value;
        if self.resolve(context) == Resolved::Invalid {
            return;
        }
        let stats = stats_of(context);
        let model = &self.pools[pool];
        let held = || self.held.iter().filter(|held| held.pool == pool);
        // A get_many that fails midway puts back what it had got.
        let undone = stats.gets - model.gets;
        assert!(undone == 0 || model.failed_midway, "{undone} gets too many");
        assert_eq!(stats.puts, model.puts + undone, "puts");
        assert_eq!(stats.gets - stats.puts, held().count() as u64, "outstanding");
        assert_eq!(stats.double_puts + stats.size_mismatches + stats.foreign_pointers, model.misuses);
        assert_eq!((stats.max_bytes, stats.size_class_count), (model.max_bytes, model.buffer_sizes.len()));
        assert!(stats.max_bytes == 0 || stats.mapped_bytes <= stats.max_bytes);
        let oversize = || held().filter(|held| held.class.is_none());
        assert_eq!(stats.oversize_buffers, oversize().count());
        assert_eq!(stats.oversize_bytes, oversize().map(|held| held.bytes).sum::<usize>());
        let (mut mapped, mut allocated) = (stats.oversize_bytes, stats.oversize_bytes);
        for (index, &buffer_size) in model.buffer_sizes.iter().enumerate() {
            let class = class_stats_of(context, index);
            assert_eq!(class.buffer_size, buffer_size);
            let of_class = held().filter(|held| held.class == Some(index)).count();
            assert_eq!(class.outstanding + class.overflow, of_class, "outstanding of class {index}");
            let slots_out = of_class - class.system_overflow;
            assert_eq!(class.touched, slots_out + class.idle);
            assert_eq!(class.outstanding, slots_out.min(class.capacity));
            assert!(class.cached <= class.idle && class.peak >= slots_out);
            mapped += (class.touched + class.system_overflow) * class.slot_size;
            allocated += (of_class + class.idle.min(class.capacity)) * class.buffer_size;
        }
        assert_eq!((stats.mapped_bytes, stats.allocated_bytes), (mapped, allocated));
    }
}

pub(super) fn class_stats_of(context: usize, index: usize) -> CClassStats {
    let mut class = CClassStats { struct_size: size_of::<CClassStats>(), ..zeroed() };
    // SAFETY:
    // - a struct of its size
    assert_eq!(unsafe { bytepool_read_class_stats(context_of(context), index, &raw mut class) }, OK);
    class
}

/// A struct of numbers, all 0.
fn zeroed<T: Copy>() -> T {
    // SAFETY:
    // - callers pass structs of integers
    unsafe { MaybeUninit::zeroed().assume_init() }
}
