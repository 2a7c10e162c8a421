//! Giving idle memory back, in *windows*: as many slots as start and end on a page boundary together. A window's idle
//! and fresh slots are reserved, so that nobody gets one meanwhile; whole pages of theirs go back to the system; the
//! slots whose every page went are fresh again, and the others are put back.

use std::ops::Range;

use super::Class;
use super::index::GRANULE;
use super::shelf::{GROUP_SLOTS, GROUPS_SEEN, MAX_RESERVED_GROUPS, Reservation};
use crate::os::bits::has_run;
use crate::os::region::{Region, page_size};

impl Class {
    /// Slots per window: as many as start and end on a page boundary together, whatever the slot size (a
    /// multiple of [`GRANULE`]).
    fn window_slots() -> u32 {
        (page_size() / GRANULE) as u32
    }

    /// Gives back the whole pages of up to `max_slots` idle slots; how many slots became fresh.
    pub(crate) fn discard_idle(&self, region: &Region, max_slots: usize) -> usize {
        let windows = self.span.capacity.div_ceil(Self::window_slots());
        let mut discarded = 0;
        for window in 0..windows {
            if discarded >= max_slots || self.shelf.idle() == 0 {
                break;
            }
            discarded += self.discard_window(region, window, max_slots - discarded);
        }
        discarded
    }

    /// Gives back the whole pages of idle slots in the window of `slot`; how many slots became fresh.
    pub(crate) fn discard_around(&self, region: &Region, slot: u32) -> usize {
        self.discard_window(region, slot / Self::window_slots(), usize::MAX)
    }

    /// Makes all idle slots fresh although their pages were not given back: the region goes as a whole. How
    /// many.
    pub(crate) fn forget_idle(&self) -> usize {
        let mut forgotten = 0;
        for first_group in (0..self.shelf.group_count()).step_by(MAX_RESERVED_GROUPS as usize) {
            let groups = MAX_RESERVED_GROUPS.min(self.shelf.group_count() - first_group);
            let Some(mut reservation) = self.shelf.reserve(first_group, groups, u32::MAX) else { continue };
            for slot in reservation.first_slot()..reservation.end_slot() {
                if reservation.is_idle(slot) {
                    reservation.make_fresh(slot);
                    forgotten += 1;
                }
            }
            self.shelf.give_back(reservation);
        }
        forgotten
    }

    fn discard_window(&self, region: &Region, window: u32, max_slots: usize) -> usize {
        let groups = Self::window_slots() / GROUP_SLOTS;
        if groups > MAX_RESERVED_GROUPS {
            return 0; // pages above 64 KiB: not on any target this is built for
        }
        let first_group = window * groups;
        let groups = groups.min(self.shelf.group_count() - first_group);
        // A look costs less than a reservation, and of small slots few windows have a whole page to give. (The last
        // window may have a page that is not full.)
        let slots_of_page = page_size().div_ceil(self.span.slot_size);
        let is_last = first_group + groups == self.shelf.group_count();
        if !is_last && groups == GROUPS_SEEN && !has_run(self.shelf.held_slots(first_group), slots_of_page) {
            return 0;
        }
        let max_idle = u32::try_from(max_slots).unwrap_or(u32::MAX);
        let Some(mut reservation) = self.shelf.reserve(first_group, groups, max_idle) else { return 0 };

        let mut discarded = 0;
        let mut slot = reservation.first_slot();
        while let Some(run) = next_run(&reservation, slot) {
            slot = run.end;
            discarded += self.discard_run(region, &mut reservation, run);
        }
        self.shelf.give_back(reservation);
        discarded
    }

    /// Discards the whole pages inside a run of reserved slots, from its first idle slot to its last.
    fn discard_run(&self, region: &Region, reservation: &mut Reservation, run: Range<u32>) -> usize {
        let Some(first_idle) = run.clone().find(|&slot| reservation.is_idle(slot)) else { return 0 };
        let last_idle = run.clone().rev().find(|&slot| reservation.is_idle(slot)).unwrap_or(first_idle);
        let page = page_size();
        // The last slot of the class shares its last page with nothing.
        let run_end = if run.end >= self.span.capacity {
            self.offset_of(self.span.capacity).next_multiple_of(page)
        } else {
            self.offset_of(run.end)
        };
        let start =
            self.offset_of(run.start).next_multiple_of(page).max(self.offset_of(first_idle) / page * page);
        let end = (run_end / page * page).min(self.offset_of(last_idle + 1).next_multiple_of(page));
        // SAFETY:
        // - all of these pages belong to slots of the reservation, which nobody holds and nobody can get
        // - what idle buffers hold may be lost
        if start >= end || !unsafe { region.discard(start, end - start) } {
            return 0;
        }
        let whole =
            |slot: &u32| self.offset_of(*slot) >= start && self.offset_of(*slot) + self.slot_size() <= end;
        let mut discarded = 0;
        for slot in (first_idle..=last_idle).filter(whole) {
            if reservation.is_idle(slot) {
                reservation.make_fresh(slot);
                discarded += 1;
            }
        }
        discarded
    }
}

/// The first run of slots from `from` on that a reservation holds, one after another.
fn next_run(reservation: &Reservation, from: u32) -> Option<Range<u32>> {
    let start = (from..reservation.end_slot()).find(|&slot| reservation.holds(slot))?;
    let end = (start..reservation.end_slot())
        .find(|&slot| !reservation.holds(slot))
        .unwrap_or(reservation.end_slot());
    Some(start..end)
}
