//! Calls that make pools and contexts, close and free.

use std::ptr;

use bytepool::ffi::capi::*;
use bytepool::ffi::status::Status;

use crate::valgrind;

use super::program::{Alignment, Handle, Rounding, Setup};
use super::world::{ContextModel, LARGEST, OK, Resolved, World, model_of};

unsafe extern "C" fn to_pages(size: usize) -> usize {
    size.checked_next_multiple_of(4096).unwrap_or(size)
}

unsafe extern "C" fn half(size: usize) -> usize {
    size / 2
}

unsafe extern "C" fn original(size: usize) -> usize {
    bytepool_round_original(size)
}

pub(super) fn rounding(round: Rounding) -> Option<unsafe extern "C" fn(usize) -> usize> {
    match round {
        Rounding::Nothing => None,
        Rounding::Original => Some(original),
        Rounding::Pages => Some(to_pages),
        Rounding::Half => Some(half),
    }
}

pub(super) fn context_of(context: usize) -> *mut std::ffi::c_void {
    ptr::without_provenance_mut(context)
}

pub(super) fn pointer_of(data: usize) -> *mut std::ffi::c_void {
    ptr::with_exposed_provenance_mut(data)
}

impl World {
    // ---- contexts ----

    pub(super) fn new_pool(&mut self, setup: &Setup) {
        if self.pools.len() >= 4 {
            return;
        }
        let (clears, pins) = (setup.flags() & 3 != 0, setup.flags() & 16 != 0);
        let mut classes: Vec<SizeClass> = Vec::new();
        for &(size, capacity) in setup.classes.iter().take(70) {
            classes.push(SizeClass {
                buffer_size: size as usize % LARGEST,
                capacity: usize::from(capacity) % if pins { 4 } else { 300 },
            });
        }
        // What would take too long to write or to list is made small, or left out.
        classes.extend(setup.odd_class.filter(|_| !pins).map(|(size, capacity)| SizeClass {
            buffer_size: if clears { size as usize % LARGEST } else { size as usize },
            capacity: if capacity <= 1 << 30 { capacity as usize % (1 << 16) } else { capacity as usize },
        }));
        let alignment = self.alignment(setup.alignment);
        let known_flags = setup.flags() < 64;
        let (newer, last) = (usize::from(setup.newer.0) % 64, setup.newer.1);
        // As a caller with a larger struct has it.
        let mut memory = [const { std::mem::MaybeUninit::<Config>::zeroed() }; 3];
        memory[0].write(Config {
            struct_size: size_of::<Config>() + newer,
            size_classes: classes.as_ptr().cast(),
            size_class_count: classes.len(),
            alignment,
            max_bytes: setup.max_bytes.map_or(0, |bytes| bytes as usize),
            round: rounding(setup.round),
            flags: setup.flags(),
            unused: 0,
            track_every: 0,
            guard_every: 0,
        });
        if newer > 0 {
            // SAFETY:
            // - inside `memory`
            unsafe { memory.as_mut_ptr().cast::<u8>().add(size_of::<Config>() + newer - 1).write(last) };
        }
        let memory = memory.as_ptr().expose_provenance();
        let mut out = 1;
        let answer = {
            let out = &mut out;
            // SAFETY:
            // - the config and its classes are this function's, and as large as told
            self.call(|| unsafe {
                let mut context = ptr::dangling_mut();
                let status = bytepool_new(ptr::with_exposed_provenance(memory), &raw mut context);
                *out = context.addr();
                status as usize
            })
        };
        let status = answer.value as i32;
        self.check_status(&answer, status, 0);
        if !known_flags || !alignment.is_power_of_two() && alignment != 0 || newer > 0 && last != 0 {
            assert_eq!(status, Status::InvalidArgument as i32);
        }
        if status != OK {
            let expected =
                [Status::InvalidArgument, Status::Limit, Status::OutOfMemory].map(|kind| kind as i32);
            assert!(out == 0 && expected.contains(&status), "status {status} of new");
            return;
        }
        let sizes = classes.iter().map(|class| class.buffer_size).collect();
        self.pools.push(model_of(setup, sizes, alignment));
        self.enter_context(out, self.pools.len() - 1);
        let overflows = |class: &&SizeClass| class.buffer_size < 4096 && class.capacity % 2 == 0;
        if let (Some(class), None) = (classes.first().filter(overflows), setup.max_bytes) {
            self.overflow_often(out, *class);
        }
    }

    /// So that overflow is served from a region, where that may be.
    fn overflow_often(&mut self, context: usize, class: SizeClass) {
        let (size, count) = (class.buffer_size, class.capacity + 100);
        let got: Vec<_> = (0..count).map(|_| bytepool_get(context_of(context), size)).collect();
        let pool = self.pools.last_mut().expect("it was just made");
        pool.gets += count as u64;
        pool.puts += count as u64;
        for data in got {
            assert!(!data.is_null());
            // SAFETY:
            // - got above, and used no more
            unsafe { bytepool_put(context_of(context), data, size) };
        }
    }

    pub(super) fn alignment(&self, alignment: Alignment) -> usize {
        match alignment {
            Alignment::Default => 0,
            Alignment::Power(exponent) => match exponent % 64 {
                // What would only map much is left out.
                exponent @ 23..=46 => 1 << (exponent % 23),
                // What memcheck's own `malloc` ends a program for, if it comes from the library's usual one.
                exponent @ 47.. if valgrind::slots_under_memcheck() => 1 << (exponent % 23),
                exponent => 1 << exponent,
            },
            Alignment::Any(bytes) => bytes.into(),
        }
    }

    fn enter_context(&mut self, value: usize, pool: usize) {
        assert!(value != 0 && self.contexts.iter().all(|known| known.value != value), "a context came twice");
        self.contexts.push(ContextModel { value, pool, is_live: true });
    }

    pub(super) fn clone_context(&mut self, context: Handle) {
        let context = self.context(context);
        let resolved = self.resolve(context);
        let mut out = 1;
        let answer = {
            let out = &mut out;
            // SAFETY:
            // - `clone` is writable
            self.call(|| unsafe {
                let mut clone = ptr::dangling_mut();
                let status = bytepool_clone(context_of(context), &raw mut clone);
                *out = clone.addr();
                status as usize
            })
        };
        let status = status_of(resolved, OK);
        assert_eq!(answer.value as i32, status, "clone of {resolved:?}");
        self.check_status(&answer, status, context);
        match resolved {
            Resolved::Live(pool) => self.enter_context(out, pool),
            _ => assert_eq!(out, 0),
        }
    }

    pub(super) fn close(&mut self, context: Handle) {
        let context = self.context(context);
        let resolved = self.resolve(context);
        let answer = self.call(|| bytepool_close(context_of(context)) as usize);
        let status = status_of(resolved, OK);
        assert_eq!(answer.value as i32, status, "close of {resolved:?}");
        self.check_status(&answer, status, context);
        if let Resolved::Live(pool) = resolved {
            self.pools[pool].is_closed = true;
        }
    }

    pub(super) fn free(&mut self, context: usize) {
        let resolved = self.resolve(context);
        let answer = self.call(|| {
            bytepool_free(context_of(context));
            0
        });
        let Resolved::Live(pool) = resolved else {
            return self.check_status(&answer, Status::InvalidContext as i32, context);
        };
        self.check_status(&answer, OK, context);
        let freed = self.contexts.iter_mut().rev().find(|known| known.value == context);
        freed.expect("it was resolved").is_live = false;
        self.pools[pool].is_closed |= !self.has_handle(pool);
    }
}

/// What a call that needs a live context comes to.
pub(super) fn status_of(resolved: Resolved, live: i32) -> i32 {
    match resolved {
        Resolved::Live(_) => live,
        Resolved::Freed(_) => Status::Closed as i32,
        Resolved::Invalid => Status::InvalidContext as i32,
    }
}
