//! A map from addresses, in one array with linear probing.
//!
//! The standard library's map points only to the middle of its array, which leak checkers call possibly lost. So this
//! map is our own. Addresses are kept inverted: a checker that found a pointer to a lost buffer here would not report
//! it.

use super::memory::OutOfMemory;

/// Spreads addresses, whose low bits are zero, over all bits.
pub(crate) fn hash(address: usize) -> u64 {
    let mixed = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 32
}

struct Entry<T> {
    /// Inverted.
    address: usize,
    value: T,
}

/// From address to `T`. At most three quarters of its places are taken.
pub(crate) struct AddressMap<T> {
    /// None, or a power of two.
    places: Vec<Option<Entry<T>>>,
    len: usize,
}

impl<T> Default for AddressMap<T> {
    fn default() -> Self {
        Self { places: Vec::new(), len: 0 }
    }
}

const FEWEST_PLACES: usize = 16;

impl<T> AddressMap<T> {
    fn mask(&self) -> usize {
        self.places.len() - 1
    }

    /// Where the search for an address starts.
    fn first_place(&self, address: usize) -> usize {
        hash(address) as usize & self.mask()
    }

    fn place_of(&self, address: usize) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut place = self.first_place(address);
        while let Some(entry) = &self.places[place] {
            if entry.address == !address {
                return Some(place);
            }
            place = (place + 1) & self.mask();
        }
        None
    }

    pub(crate) fn get(&self, address: usize) -> Option<&T> {
        self.places[self.place_of(address)?].as_ref().map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, address: usize) -> Option<&mut T> {
        let place = self.place_of(address)?;
        self.places[place].as_mut().map(|entry| &mut entry.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// In no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|entry| &entry.value)
    }

    /// Makes room for one more.
    pub(crate) fn try_reserve(&mut self) -> Result<(), OutOfMemory> {
        self.try_reserve_for(1)
    }

    /// Makes room for so many more.
    pub(crate) fn try_reserve_for(&mut self, more: usize) -> Result<(), OutOfMemory> {
        let enough = |count: usize| (self.len + more) * 4 <= count * 3;
        if enough(self.places.len()) {
            return Ok(());
        }
        let mut count = (self.places.len() * 2).max(FEWEST_PLACES);
        while !enough(count) {
            count *= 2;
        }
        self.move_to(count)
    }

    /// Gives memory back if less than an eighth of it is used.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 {
            self.places = Vec::new();
        } else if self.len * 8 < self.places.len() {
            // Without memory for a smaller one the large one stays.
            _ = self.move_to((self.len * 2).next_power_of_two().max(FEWEST_PLACES));
        }
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Option<Entry<T>>>()
    }

    /// Moves all entries to an array of so many places, a power of two that has room for them.
    fn move_to(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let mut places = Vec::new();
        let bytes = count.saturating_mul(size_of::<Option<Entry<T>>>());
        places.try_reserve_exact(count).map_err(|_| OutOfMemory { bytes })?;
        places.resize_with(count, || None);
        for entry in std::mem::replace(&mut self.places, places).into_iter().flatten() {
            self.take_place(entry);
        }
        Ok(())
    }

    /// Enters or replaces a value. There is room: see [`try_reserve`](Self::try_reserve).
    pub(crate) fn insert(&mut self, address: usize, value: T) {
        match self.get_mut(address) {
            Some(old) => *old = value,
            None => {
                debug_assert!((self.len + 1) * 4 <= self.places.len() * 3, "nobody made room");
                self.len += 1;
                self.take_place(Entry { address: !address, value });
            }
        }
    }

    fn take_place(&mut self, entry: Entry<T>) {
        let mut place = self.first_place(!entry.address);
        while self.places[place].is_some() {
            place = (place + 1) & self.mask();
        }
        self.places[place] = Some(entry);
    }

    pub(crate) fn remove(&mut self, address: usize) -> Option<T> {
        let mut hole = self.place_of(address)?;
        let removed = self.places[hole].take();
        self.len -= 1;
        // An entry that a search would no longer reach across the hole moves into it.
        let mut place = (hole + 1) & self.mask();
        while let Some(entry) = &self.places[place] {
            let first = self.first_place(!entry.address);
            if place.wrapping_sub(first) & self.mask() >= place.wrapping_sub(hole) & self.mask() {
                self.places.swap(hole, place);
                hole = place;
            }
            place = (place + 1) & self.mask();
        }
        removed.map(|entry| entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn does_what_the_standard_map_does() {
        let mut map = AddressMap::default();
        let mut model = HashMap::new();
        let mut random = 1_u64;
        for step in 0..200_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few addresses, so that they meet; more of them as time goes on.
            let address = (random >> 33) as usize % (1 + step as usize / 50) * 16;
            match random >> 62 {
                0 => assert_eq!(map.remove(address), model.remove(&address)),
                1 => assert_eq!(map.get(address), model.get(&address)),
                _ => {
                    map.try_reserve().unwrap();
                    map.insert(address, step);
                    model.insert(address, step);
                }
            }
            assert_eq!(map.len, model.len());
        }
        assert!(model.len() > 1000);
        assert!(model.iter().all(|(&address, value)| map.get(address) == Some(value)));
        let mut values: Vec<u64> = map.values().copied().collect();
        let mut expected: Vec<u64> = model.values().copied().collect();
        values.sort_unstable();
        expected.sort_unstable();
        assert!(values == expected && map.len() == values.len());
    }

    #[test]
    fn room_is_made_for_all_that_were_asked_for() {
        for more in [1, 12, 13, 24, 25, 4096] {
            let mut map = AddressMap::default();
            map.try_reserve_for(more).unwrap();
            for address in 1..=more {
                assert!((map.len() + 1) * 4 <= map.places.len() * 3, "{more}");
                map.insert(address * 64, ());
            }
        }
    }
}
