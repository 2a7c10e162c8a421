//! What must come of a get, and what a buffer must hold.

use bytepool::GetError;

use super::PORTABLE;
use super::program::{GetKind, UNIT};
use super::world::{Hand, Held, Model, Place, read};

/// What must come of a get.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Predicted {
    /// An idle slot of this class.
    Reuses(usize),
    /// A buffer that was none before; under a limit, with this many bytes given up at least.
    New {
        place: Place,
        gives_up: Option<usize>,
    },
    Fails(GetError),
}

impl Model {
    /// What must come of a get, as far as the model knows it.
    pub(crate) fn predict(&self, size: usize) -> Predicted {
        if self.is_closed {
            return Predicted::Fails(GetError::Closed);
        }
        let rounded = self.rounded(size);
        if rounded > isize::MAX as usize - 4096 {
            return Predicted::Fails(GetError::OutOfMemory { requested: rounded });
        }
        let (place, bytes) = match self.class_of(size) {
            Some(number) => {
                let class = &self.classes[number];
                if class.idle > 0 {
                    return Predicted::Reuses(number);
                }
                // No program comes to the end of the room beyond a capacity.
                let is_slot = !PORTABLE || class.slots_out < class.capacity;
                (if is_slot { Place::Slot(number) } else { Place::SystemOverflow(number) }, class.slot_size)
            }
            None => (Place::Oversize, rounded),
        };
        let (limit, mapped) = (self.setup.max_bytes, self.mapped());
        let can_go = if PORTABLE { 0 } else { self.idle_bytes() };
        if limit > 0 && mapped - can_go + bytes > limit {
            return Predicted::Fails(GetError::Limit { limit, mapped, requested: bytes });
        }
        Predicted::New { place, gives_up: (limit > 0).then(|| (mapped + bytes).saturating_sub(limit)) }
    }

    /// What comes of a new size for an oversize buffer: only the difference counts.
    pub(crate) fn predict_resize(&self, capacity: usize, size: usize) -> Predicted {
        let rounded = self.rounded(size);
        if let fails @ Predicted::Fails(GetError::Closed | GetError::OutOfMemory { .. }) = self.predict(size)
        {
            return fails;
        }
        let grown = rounded.saturating_sub(capacity);
        let (limit, mapped) = (self.setup.max_bytes, self.mapped());
        let can_go = if PORTABLE { 0 } else { self.idle_bytes() };
        if limit > 0 && grown > 0 && mapped - can_go + grown > limit {
            return Predicted::Fails(GetError::Limit { limit, mapped, requested: grown });
        }
        let gives_up = (limit > 0 && grown > 0).then(|| (mapped + grown).saturating_sub(limit));
        Predicted::New { place: Place::Oversize, gives_up }
    }

    pub(crate) fn get(&mut self, kind: GetKind, size: usize) {
        let predicted = self.predict(size);
        // A get that fails must not need memory for what it copies.
        let source = vec![0x5A; if kind == GetKind::Copied && size <= 3 * UNIT { size } else { 0 }];
        let kind = if source.len() == size { kind } else { GetKind::Owned };
        let pool = self.pool();
        let got = match kind {
            GetKind::Owned => pool.get(size).map(Hand::Owned),
            GetKind::Zeroed => pool.get_zeroed(size).map(Hand::Owned),
            GetKind::Copied => pool.copy(&source).map(Hand::Owned),
            GetKind::Raw => pool.get_raw(size).map(|data| Hand::Raw(data, size)),
        };
        match got {
            Ok(hand) => self.check_got(predicted, hand, kind, size),
            Err(error) => self.check_failed(predicted, error),
        }
    }

    pub(crate) fn check_failed(&mut self, predicted: Predicted, error: GetError) {
        let Predicted::Fails(expected) = predicted else { panic!("{error} instead of {predicted:?}") };
        if let GetError::Limit { limit, requested, .. } = expected {
            let stats = self.handles[0].stats();
            self.counts.limit_failures += 1;
            let given = self.note_given_up(&stats);
            assert!(requested <= limit || given == 0, "{given} bytes were given up for a hopeless request");
            // It names what was mapped when it gave up.
            assert_eq!(error, GetError::Limit { limit, requested, mapped: stats.mapped_bytes });
        } else {
            assert_eq!(error, expected);
        }
    }

    /// Enters a buffer just got, after comparing it with the prediction.
    pub(crate) fn check_got(&mut self, predicted: Predicted, hand: Hand, kind: GetKind, size: usize) {
        let place = match predicted {
            Predicted::Reuses(class) => {
                self.classes[class].idle -= 1;
                Place::Slot(class)
            }
            Predicted::New { place, gives_up } => {
                self.note_room(gives_up);
                place
            }
            Predicted::Fails(error) => panic!("a get of {size} bytes succeeded instead of: {error}"),
        };
        let is_fresh = !matches!(predicted, Predicted::Reuses(_));
        let capacity = match place {
            Place::Slot(class) | Place::SystemOverflow(class) => self.classes[class].buffer_size,
            Place::Oversize => self.rounded(size),
        };
        self.enter(place, capacity);
        let mut held = Held { hand, place, content: Vec::new() };
        if let Hand::Owned(buffer) = &held.hand {
            assert_eq!((buffer.len(), buffer.capacity()), (size, capacity));
        }
        assert_eq!(self.handles[0].usable_size(held.data()), capacity);
        let aligned = held.data().as_ptr().addr() % self.handles[0].alignment() == 0;
        assert!(aligned, "{place:?} is not aligned to {}", self.setup.alignment);
        held.content = vec![0; capacity];
        let addresses = held.addresses();
        for other in &self.held {
            let other = other.addresses();
            let apart = other.end <= addresses.start || addresses.end <= other.start;
            assert!(apart, "{other:x?} and {addresses:x?} overlap");
        }
        self.check_content(&mut held, is_fresh, kind, size);
        self.held.push(held);
    }

    /// Idle slots that went to make room: no fewer than needed.
    pub(crate) fn note_room(&mut self, gives_up: Option<usize>) {
        let Some(needed) = gives_up.filter(|&needed| needed > 0) else { return };
        let stats = self.handles[0].stats();
        assert!(stats.mapped_bytes <= self.setup.max_bytes);
        let given = self.note_given_up(&stats);
        assert!(given >= needed, "{given} bytes were given up for {needed}");
    }

    /// Counts a buffer got.
    pub(crate) fn enter(&mut self, place: Place, capacity: usize) {
        match place {
            Place::Slot(class) => {
                self.classes[class].slots_out += 1;
                self.classes[class].gets += 1;
            }
            Place::SystemOverflow(class) => {
                self.classes[class].system_overflow += 1;
                self.classes[class].gets += 1;
                self.counts.system_allocations += 1;
            }
            Place::Oversize => {
                self.oversize += capacity;
                self.counts.oversize_gets += 1;
                self.counts.system_allocations += 1;
            }
        }
    }

    /// What a buffer just got must hold; for one that may be uninitialised, it is written instead.
    pub(crate) fn check_content(&mut self, held: &mut Held, is_fresh: bool, kind: GetKind, size: usize) {
        let address = held.data().as_ptr().addr();
        let is_slot = matches!(held.place, Place::Slot(_));
        let left = if is_slot { self.left.remove(&address) } else { None };
        if kind == GetKind::Raw && !is_slot && !self.setup.zero_on_get {
            let value = self.value();
            return held.write(0..held.content.len(), value);
        }
        if is_slot && !is_fresh && !self.setup.zero_on_get {
            let Place::Slot(class) = held.place else { unreachable!() };
            let (of_class, left) = left.unwrap_or_else(|| panic!("{address:#x} was reused, but never put"));
            assert_eq!(of_class, class);
            held.content = left.content;
            let found = match &mut held.hand {
                Hand::Owned(buffer) => {
                    buffer.resize(held.content.len()).unwrap();
                    let bytes = buffer.to_vec();
                    buffer.resize(size).unwrap();
                    bytes
                }
                Hand::Raw(data, _) => read(*data, held.content.len()),
            };
            if left.may_be_zeros && found != held.content {
                // As far as this get wrote itself, the comparison below decides.
                let own = if matches!(kind, GetKind::Zeroed | GetKind::Copied) { size } else { 0 };
                let pairs = found.iter().zip(&held.content).skip(own);
                assert!(pairs.clone().all(|(&new, &old)| new == old || new == 0), "neither kept nor zeros");
                held.content[own..].copy_from_slice(&found[own..]);
            }
        }
        match kind {
            GetKind::Zeroed => held.content[..size].fill(0),
            GetKind::Copied => held.content[..size].fill(0x5A),
            GetKind::Owned | GetKind::Raw => {}
        }
        held.check();
    }
}
