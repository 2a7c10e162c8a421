//! What must come of puts, right and wrong, and of buffers that change hands.

use std::ptr::NonNull;

use bytepool::{Misuse, PooledBuffer, ReallocError};

use super::PORTABLE;
use super::get::Predicted;
use super::world::{Hand, Held, Left, Model, Place, read};

impl Model {
    pub(crate) fn choose(&self, which: usize) -> Option<usize> {
        (!self.held.is_empty()).then(|| which % self.held.len())
    }

    /// What a put of this buffer with this size (`None`: without one) must be refused with.
    pub(crate) fn expect_refusal(&self, held: &Held, size: Option<usize>) -> Option<Misuse> {
        let address = held.data().as_ptr().addr();
        let buffer_size = held.content.len();
        let Hand::Raw(_, requested) = held.hand else {
            return Some(Misuse::DoublePut { address, buffer_size });
        };
        let size = size.filter(|&size| size != requested)?;
        let same_class = match held.place {
            Place::Slot(class) | Place::SystemOverflow(class) => self.class_of(size) == Some(class),
            Place::Oversize => false,
        };
        (!same_class).then_some(Misuse::SizeMismatch { address, size, requested, buffer_size })
    }

    pub(crate) fn count(&mut self, misuse: &Misuse) {
        match misuse {
            Misuse::DoublePut { .. } => self.counts.double_puts += 1,
            Misuse::SizeMismatch { .. } => self.counts.size_mismatches += 1,
            Misuse::ForeignPointer { .. } => self.counts.foreign_pointers += 1,
            _ => panic!("a kind of misuse that the model does not know: {misuse:?}"),
        }
    }

    /// Compares a verdict with the expected one; whether the call was accepted.
    pub(crate) fn judge<T>(&mut self, verdict: Result<T, Misuse>, expected: Option<Misuse>) -> Option<T> {
        match verdict {
            Ok(value) => {
                assert_eq!(expected, None, "a misuse was accepted");
                Some(value)
            }
            Err(misuse) => {
                assert_eq!(Some(misuse), expected);
                self.count(&misuse);
                None
            }
        }
    }

    pub(crate) fn put_raw(&mut self, which: usize, size: Option<usize>) {
        let Some(index) = self.choose(which) else { return };
        self.held[index].check();
        let held = &self.held[index];
        let expected = self.expect_refusal(held, size);
        let data = held.data();
        let pool = self.pool();
        let verdict = match size {
            // SAFETY:
            // - a raw buffer of the model, which forgets it if the put is accepted; else the pool refuses it
            Some(size) => unsafe { pool.put_raw(data, size) },
            // SAFETY: as above
            None => unsafe { pool.put_raw_unsized(data) },
        };
        if self.judge(verdict, expected).is_some() {
            let held = self.held.swap_remove(index);
            self.leave(held.place, data, held.content);
        }
        self.check_others(data);
    }

    /// The right put for whatever it is.
    pub(crate) fn put(&mut self, which: usize) {
        let Some(index) = self.choose(which) else { return };
        if let Hand::Raw(_, size) = self.held[index].hand {
            return self.put_raw(index, Some(size));
        }
        let mut held = self.held.swap_remove(index);
        held.check();
        let data = held.data();
        let Held { hand, place, content } = held;
        drop(hand);
        self.leave(place, data, content);
    }

    /// Counts a buffer put, and remembers what its slot was left with.
    pub(crate) fn leave(&mut self, place: Place, data: NonNull<u8>, mut content: Vec<u8>) {
        match place {
            Place::Slot(number) => {
                let class = &mut self.classes[number];
                class.slots_out -= 1;
                class.idle += 1;
                class.puts += 1;
                if self.setup.zero_on_put {
                    content.fill(0);
                }
                let left = Left { content, may_be_zeros: false };
                self.left.insert(data.as_ptr().addr(), (number, left));
            }
            Place::SystemOverflow(number) => {
                self.classes[number].system_overflow -= 1;
                self.classes[number].puts += 1;
            }
            Place::Oversize => {
                self.oversize -= content.len();
                self.counts.oversize_puts += 1;
            }
        }
        if self.is_closed {
            self.note_closed_idle();
        } else {
            self.note_excess();
        }
    }

    /// What is idle beyond the capacities may have gone: what a class keeps stays, and more only within the slack.
    fn note_excess(&mut self) {
        let stats = self.handles[0].stats();
        for (found, class) in stats.classes.iter().zip(&self.classes) {
            let slack = ((256 << 10) / class.slot_size).max(1).max(class.capacity / 8);
            let most = class.capacity + slack;
            let went = found.idle < class.idle;
            assert!(!went || class.idle > most && found.idle >= class.capacity, "{found:?} of {class:?}");
            let on_shelf = found.idle - found.cached;
            assert!(
                PORTABLE || !self.setup.whole_pages || on_shelf <= most,
                "{found:?} keeps more than {most}"
            );
        }
        self.note_given_up(&stats);
    }

    /// A closed pool keeps no idle slot that can go.
    pub(crate) fn note_closed_idle(&mut self) {
        let stats = self.handles[0].stats();
        self.note_given_up(&stats);
        let can_all_go = !PORTABLE && (self.setup.whole_pages || self.held.is_empty());
        assert!(!can_all_go || self.idle_bytes() == 0, "a closed pool keeps idle slots");
    }

    /// A slot that nobody holds; whether idle or given back, it is not out.
    pub(crate) fn put_idle(&mut self, which: usize, size: usize) {
        let mut addresses: Vec<_> =
            self.left.iter().map(|(&address, (class, _))| (address, *class)).collect();
        addresses.sort_unstable();
        if addresses.is_empty() {
            return;
        }
        let (address, class) = addresses[which % addresses.len()];
        let buffer_size = self.classes[class].buffer_size;
        let data = NonNull::new(std::ptr::without_provenance_mut(address)).unwrap();
        // SAFETY:
        // - refused: the slot is not outstanding
        let verdict = unsafe { self.pool().put_raw(data, size) };
        self.judge(verdict, Some(Misuse::DoublePut { address, buffer_size }));
        self.check_others(data);
    }

    /// Inside a buffer, or nowhere.
    pub(crate) fn put_stray(&mut self, which: usize, offset: usize, size: usize) {
        let mut local = 0u8;
        let data = match self.choose(which).map(|index| &self.held[index]) {
            Some(held) if held.content.len() > 1 => {
                let offset = offset % (held.content.len() - 1) + 1;
                // SAFETY:
                // - inside the buffer
                unsafe { held.data().add(offset) }
            }
            _ => NonNull::from(&mut local),
        };
        let address = data.as_ptr().addr();
        let pool = self.pool();
        // SAFETY:
        // - refused: no buffer starts there
        let verdict = unsafe { pool.put_raw(data, size) };
        self.judge(verdict, Some(Misuse::ForeignPointer { address }));
        // SAFETY: as above
        let verdict = unsafe { PooledBuffer::from_raw(&pool, data, size) };
        self.judge(verdict.map(drop), Some(Misuse::ForeignPointer { address }));
        assert_eq!(pool.usable_size(data), 0);
        self.check_others(data);
    }

    /// After a put, right or wrong, no other buffer changed.
    pub(crate) fn check_others(&mut self, data: NonNull<u8>) {
        for held in self.held.iter_mut().filter(|held| held.data() != data) {
            held.check();
        }
    }

    // ---- change of hands ----

    pub(crate) fn adopt(&mut self, which: usize, size: usize) {
        let Some(index) = self.choose(which) else { return };
        self.held[index].check();
        let held = &self.held[index];
        let expected = self.expect_refusal(held, Some(size));
        // SAFETY:
        // - a raw buffer of the model, which is initialised all over; else the pool refuses it
        let verdict = unsafe { PooledBuffer::from_raw(&self.pool(), held.data(), size) };
        if let Some(buffer) = self.judge(verdict, expected) {
            assert_eq!((buffer.len(), buffer.capacity()), (size, self.held[index].content.len()));
            self.held[index].hand = Hand::Owned(buffer);
        }
        self.held[index].check();
    }

    pub(crate) fn release(&mut self, which: usize) {
        let Some(index) = self.choose(which) else { return };
        let held = self.held.swap_remove(index);
        let before = held.data();
        let Held { hand, place, content } = held;
        let hand = match hand {
            Hand::Owned(buffer) => {
                let len = buffer.len();
                let (data, size) = buffer.into_raw();
                assert_eq!((data, size), (before, len));
                Hand::Raw(data, size)
            }
            raw => raw,
        };
        let mut held = Held { hand, place, content };
        held.check();
        self.held.push(held);
    }

    pub(crate) fn resize(&mut self, which: usize, len: usize) {
        let Some(index) = self.choose(which) else { return };
        let held = &mut self.held[index];
        let Hand::Owned(buffer) = &mut held.hand else { return };
        let (before, capacity) = (buffer.len(), held.content.len());
        let fits = len <= capacity;
        assert_eq!(buffer.resize(len).is_ok(), fits);
        assert_eq!(buffer.len(), if fits { len } else { before });
        held.check();
    }

    pub(crate) fn write(&mut self, which: usize, start: usize, len: usize) {
        let Some(index) = self.choose(which) else { return };
        let value = self.value();
        let held = &mut self.held[index];
        let capacity = held.content.len();
        let start = start % (capacity + 1);
        held.write(start..(start + len).min(capacity), value);
    }

    pub(crate) fn realloc(&mut self, which: usize, size: usize) {
        let Some(index) = self.choose(which) else { return };
        let held = &self.held[index];
        let (data, old_place) = (held.data(), held.place);
        let refusal = self.expect_refusal(held, None);
        let in_place = matches!(old_place, Place::Slot(class) if self.class_of(size) == Some(class));
        // The system resizes it, but where its bytes are to be wiped.
        let resizes =
            old_place == Place::Oversize && self.class_of(size).is_none() && !self.setup.zero_on_put;
        let capacity = held.content.len();
        let predicted = if resizes { self.predict_resize(capacity, size) } else { self.predict(size) };
        // SAFETY:
        // - a raw buffer of the model, which forgets it if it moves; else the pool refuses it
        let outcome = unsafe { self.pool().realloc_raw(data, size) };
        let new = match outcome {
            Err(ReallocError::Misuse(misuse)) => {
                self.judge::<()>(Err(misuse), refusal);
                return;
            }
            Err(ReallocError::Get(error)) => {
                let Hand::Raw(_, old_size) = held.hand else { unreachable!("refused") };
                assert!(refusal.is_none() && (self.is_closed || !in_place && size > old_size));
                self.check_failed(predicted, error);
                return self.held[index].check();
            }
            Err(other) => panic!("a kind of failure that the model does not know: {other:?}"),
            Ok(new) => new,
        };
        assert_eq!(refusal, None);
        let mut old = self.held.swap_remove(index);
        let Hand::Raw(_, old_size) = old.hand else { unreachable!("refused") };
        // A smaller one stays where it is if nothing else can be had, so that it never fails.
        let stays = matches!(predicted, Predicted::Fails(_)) && size <= old_size;
        if in_place || stays {
            assert_eq!(new, data);
            if stays && self.setup.max_bytes > 0 {
                let stats = self.handles[0].stats();
                self.note_given_up(&stats);
            }
            old.hand = Hand::Raw(data, size);
            old.check();
            return self.held.push(old);
        }
        let kept = if resizes { old.content.len().min(self.rounded(size)) } else { old_size.min(size) };
        assert!(read(new, kept) == old.content[..kept], "{kept} bytes were to be kept");
        if resizes {
            assert!(!matches!(predicted, Predicted::Fails(_)), "{predicted:?}, and it succeeded");
            return self.resized(old, new, size);
        }
        // As a get that finds the old bytes copied, and a put of the old buffer.
        let place = match predicted {
            Predicted::Reuses(class) => {
                self.classes[class].idle -= 1;
                Place::Slot(class)
            }
            Predicted::New { place, .. } => place,
            Predicted::Fails(error) => panic!("a reallocation succeeded instead of: {error}"),
        };
        let capacity = self.handles[0].usable_size(new);
        self.enter(place, capacity);
        self.left.remove(&new.as_ptr().addr());
        self.leave(old_place, data, old.content);
        if self.setup.max_bytes > 0 {
            let stats = self.handles[0].stats();
            self.note_given_up(&stats);
        }
        let mut held = Held { hand: Hand::Raw(new, size), place, content: vec![0; capacity] };
        let value = self.value();
        held.write(0..capacity, value);
        self.held.push(held);
    }

    /// Enters an oversize buffer that has another size: no get, and no put.
    fn resized(&mut self, old: Held, data: NonNull<u8>, size: usize) {
        let (before, capacity) = (old.content.len(), self.rounded(size));
        assert_eq!(self.handles[0].usable_size(data), capacity);
        self.oversize = self.oversize - before + capacity;
        if self.setup.max_bytes > 0 {
            let stats = self.handles[0].stats();
            self.note_given_up(&stats);
        }
        let mut held = Held { hand: Hand::Raw(data, size), place: Place::Oversize, content: old.content };
        held.content.resize(capacity, 0);
        let value = self.value();
        if capacity > before && self.setup.zero_on_get {
            held.check();
        }
        held.write(before.min(capacity)..capacity, value);
        held.check();
        self.held.push(held);
    }
}
