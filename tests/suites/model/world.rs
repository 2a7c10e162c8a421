//! What the model knows at a moment: handles, figures, and every byte; and how the pool's figures are
//! compared with it.

use std::collections::HashMap;
use std::ops::Range;
use std::ptr::NonNull;

use bytepool::{Pool, PooledBuffer, Stats, round_original};

use super::PORTABLE;
use super::program::Setup;

#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    pub(crate) buffer_size: usize,
    pub(crate) slot_size: usize,
    pub(crate) capacity: usize,
    pub(crate) slots_out: usize,
    pub(crate) idle: usize,
    pub(crate) system_overflow: usize,
    pub(crate) gets: u64,
    pub(crate) puts: u64,
}

/// Where a buffer is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Slot(usize),
    SystemOverflow(usize),
    Oversize,
}

/// What a slot that nobody holds was left with.
pub(crate) struct Left {
    pub(crate) content: Vec<u8>,
    /// Some of its pages may have been given back since: each byte is as it was or zero.
    pub(crate) may_be_zeros: bool,
}

/// An outstanding buffer, and what it must hold.
pub(crate) struct Held {
    pub(crate) hand: Hand,
    pub(crate) place: Place,
    /// To its capacity.
    pub(crate) content: Vec<u8>,
}

pub(crate) enum Hand {
    Owned(PooledBuffer),
    /// With the size that was asked for.
    Raw(NonNull<u8>, usize),
}

impl Held {
    pub(crate) fn data(&self) -> NonNull<u8> {
        match &self.hand {
            Hand::Owned(buffer) => NonNull::new(buffer.as_ptr().cast_mut()).unwrap(),
            Hand::Raw(data, _) => *data,
        }
    }

    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.data().as_ptr().addr();
        start..start + self.content.len().max(1)
    }

    pub(crate) fn check(&mut self) {
        let bytes = match &mut self.hand {
            Hand::Owned(buffer) => {
                let len = buffer.len();
                buffer.resize(self.content.len()).unwrap();
                let same = buffer[..] == self.content;
                buffer.resize(len).unwrap();
                return assert!(same, "{:?} of {} bytes changed", self.place, self.content.len());
            }
            Hand::Raw(data, _) => read(*data, self.content.len()),
        };
        assert!(bytes == self.content, "raw {:?} of {} bytes changed", self.place, self.content.len());
    }

    pub(crate) fn write(&mut self, range: Range<usize>, value: u8) {
        self.content[range.clone()].fill(value);
        let data = self.data();
        // SAFETY:
        // - callers pass a range inside the capacity
        // - this value owns the buffer, and no reference to it exists
        unsafe { data.add(range.start).write_bytes(value, range.len()) };
    }
}

/// The bytes of a raw buffer that were all written, or of a slot.
pub(crate) fn read(data: NonNull<u8>, bytes: usize) -> Vec<u8> {
    // SAFETY:
    // - callers pass an outstanding buffer of theirs of at least this size, initialised
    unsafe { std::slice::from_raw_parts(data.as_ptr(), bytes) }.to_vec()
}

pub(crate) struct Model {
    pub(crate) setup: Setup,
    pub(crate) handles: Vec<Pool>,
    pub(crate) classes: Vec<Class>,
    pub(crate) held: Vec<Held>,
    /// Slots that were touched and are not outstanding, by address, with their class.
    pub(crate) left: HashMap<usize, (usize, Left)>,
    /// Figures of the whole pool; those of classes and sums are derived.
    pub(crate) oversize: usize,
    pub(crate) counts: Counts,
    pub(crate) is_closed: bool,
    /// Slots that were cached may lie on the shelf, more of them than are kept there otherwise.
    pub(crate) was_trimmed: bool,
    /// Each write and fill has a value of its own, modulo 255.
    pub(crate) next_value: u8,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) oversize_gets: u64,
    pub(crate) oversize_puts: u64,
    pub(crate) system_allocations: u64,
    pub(crate) limit_failures: u64,
    pub(crate) double_puts: u64,
    pub(crate) size_mismatches: u64,
    pub(crate) foreign_pointers: u64,
}

impl Model {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut builder = Pool::builder().alignment(setup.alignment).max_bytes(setup.max_bytes);
        builder = builder.zero_on_get(setup.zero_on_get).zero_on_put(setup.zero_on_put);
        for &(size, capacity) in &setup.classes {
            builder = builder.size_class(size, capacity);
        }
        if setup.round {
            builder = builder.round(round_original);
        }
        let slot_alignment = if setup.alignment == 0 { 64 } else { setup.alignment.max(16) };
        let mut classes: Vec<Class> = setup
            .classes
            .iter()
            .map(|&(size, capacity)| {
                let buffer_size = if setup.round { round_original(size) } else { size };
                let slot_size = buffer_size.next_multiple_of(slot_alignment);
                Class { buffer_size, slot_size, capacity, ..Class::default() }
            })
            .collect();
        classes.sort_by_key(|class| class.buffer_size);
        Self {
            setup,
            handles: vec![builder.build().unwrap()],
            classes,
            held: Vec::new(),
            left: HashMap::new(),
            oversize: 0,
            counts: Counts::default(),
            is_closed: false,
            was_trimmed: false,
            next_value: 0,
        }
    }

    pub(crate) fn pool(&self) -> Pool {
        self.handles[self.next_value as usize % self.handles.len()].clone()
    }

    pub(crate) fn value(&mut self) -> u8 {
        self.next_value = self.next_value % 255 + 1;
        self.next_value
    }

    pub(crate) fn rounded(&self, size: usize) -> usize {
        if self.setup.round { round_original(size) } else { size }
    }

    pub(crate) fn class_of(&self, size: usize) -> Option<usize> {
        let rounded = self.rounded(size);
        self.classes.iter().position(|class| class.buffer_size >= rounded)
    }

    pub(crate) fn mapped(&self) -> usize {
        let slots = |class: &Class| (class.slots_out + class.idle + class.system_overflow) * class.slot_size;
        self.classes.iter().map(slots).sum::<usize>() + self.oversize
    }

    pub(crate) fn idle_bytes(&self) -> usize {
        self.classes.iter().map(|class| class.idle * class.slot_size).sum()
    }

    // ---- figures ----

    pub(crate) fn check_figures(&self) {
        let stats = self.handles[0].stats();
        stats.assert_consistent();
        let Counts { system_allocations, limit_failures, .. } = self.counts;
        assert_eq!(stats.classes.len(), self.classes.len());
        for (found, class) in stats.classes.iter().zip(&self.classes) {
            let out = class.slots_out + class.system_overflow;
            let outstanding = class.slots_out.min(class.capacity);
            assert_eq!(
                (found.buffer_size, found.slot_size, found.capacity),
                (class.buffer_size, class.slot_size, class.capacity)
            );
            assert_eq!(
                (found.touched, found.outstanding, found.idle),
                (class.slots_out + class.idle, outstanding, class.idle),
                "touched, outstanding and idle of {class:?}"
            );
            assert_eq!(
                (found.overflow, found.system_overflow),
                (out - outstanding, class.system_overflow),
                "overflow of {class:?}"
            );
            assert_eq!((found.gets, found.puts), (class.gets, class.puts), "gets and puts of {class:?}");
            let counted = out + class.idle.min(class.capacity);
            assert_eq!(found.allocated_bytes, counted * class.buffer_size);
            assert!(found.cached <= found.idle && found.peak >= class.slots_out);
        }
        let sum = |figure: fn(&Class) -> u64| self.classes.iter().map(figure).sum::<u64>();
        assert_eq!(stats.gets, sum(|class| class.gets) + self.counts.oversize_gets);
        assert_eq!(stats.puts, sum(|class| class.puts) + self.counts.oversize_puts);
        assert_eq!((stats.max_bytes, stats.mapped_bytes), (self.setup.max_bytes, self.mapped()));
        let in_classes = stats.classes.iter().map(|class| class.allocated_bytes).sum::<usize>();
        assert_eq!(stats.allocated_bytes, in_classes + self.oversize);
        let oversize_buffers = self.counts.oversize_gets - self.counts.oversize_puts;
        assert_eq!((stats.oversize_bytes, stats.oversize_buffers as u64), (self.oversize, oversize_buffers));
        assert_eq!(stats.system_allocations, system_allocations, "gets served by the system");
        assert_eq!((stats.limit_failures, stats.waits), (limit_failures, 0));
        assert_eq!(
            (stats.double_puts, stats.size_mismatches, stats.foreign_pointers),
            (self.counts.double_puts, self.counts.size_mismatches, self.counts.foreign_pointers),
            "double puts, size mismatches and foreign pointers"
        );
    }

    /// Takes over which idle slots went, after checking that only idle ones did; the bytes they had.
    pub(crate) fn note_given_up(&mut self, stats: &Stats) -> usize {
        let mut given = 0;
        for (number, (found, class)) in stats.classes.iter().zip(&mut self.classes).enumerate() {
            assert!(found.idle <= class.idle, "idle slots appeared in {class:?}");
            if found.idle < class.idle {
                given += (class.idle - found.idle) * class.slot_size;
                class.idle = found.idle;
            }
            // Even of a slot that stayed, a page may have gone.
            let of_class = self.left.values_mut().filter(|(class, _)| *class == number);
            of_class.for_each(|(_, left)| left.may_be_zeros = true);
        }
        // That region cannot give pages back, but goes as a whole when a closed pool's last slot came back.
        assert!(!PORTABLE || given == 0 || stats.classes.iter().all(|class| class.outstanding == 0));
        given
    }
}
