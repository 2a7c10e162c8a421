//! Giving idle memory back, in *windows*: a window is as many slots as start and end on a page boundary together. Its
//! idle and fresh slots are reserved, so that nobody gets one meanwhile. Their whole pages go back to the system. A
//! slot whose every page went is fresh again; the others are put back.

use std::ops::Range;

use super::Class;
use super::books::Books;
use super::ledger::Ledger;
use super::shelf::{GROUP_SLOTS, GROUPS_SEEN, MAX_RESERVED_GROUPS, Reservation};
use crate::os::bits::has_run;
use crate::os::region::{HUGE_PAGE, Region, page_size};

/// So many groups of small slots are reserved at a time, if a window has no more.
const MOST_AT_ONCE: u32 = 64;

impl Class {
    /// The slot groups of a window. If slots are multiples of a granule, any `page size / granule` of them together are
    /// whole pages. Where slots are multiples of more than 64 bytes, 64 serves as well: most classes then have windows
    /// of 4 groups, which one word previews. With huge pages a window starts and ends with a huge page, if that takes
    /// not too many slots.
    pub(super) fn window_groups(&self) -> u32 {
        let alike = |page: usize, granule: usize| (page / granule) as u32 / GROUP_SLOTS;
        let granule = 1 << self.span.slot_size.trailing_zeros().min(HUGE_PAGE.trailing_zeros());
        let least = alike(page_size(), granule.min(64));
        if !self.has_huge_pages() {
            return least;
        }
        alike(HUGE_PAGE, granule).min(MAX_RESERVED_GROUPS).max(least)
    }

    fn window_slots(&self) -> u32 {
        self.window_groups() * GROUP_SLOTS
    }

    /// Gives back the whole pages of up to `max_slots` idle slots. Returns how many slots became fresh. The highest
    /// addresses go first, so that what stays is dense.
    pub(crate) fn discard_idle(&self, region: &Region, max_slots: usize) -> usize {
        // This look comes first: a thread that sees an idle slot also sees that its group was used.
        if self.shelf.idle() == 0 {
            return 0;
        }
        let mut end = (self.shelf.used_groups() * GROUP_SLOTS).div_ceil(self.window_slots());
        let mut discarded = 0;
        while end > 0 && discarded < max_slots && self.shelf.idle() > 0 {
            let mut first = end - 1;
            if self.may_discard(first) {
                // Windows of small slots are small: several go with one system call.
                while first > 0 && end - first < self.most_windows() && self.may_discard(first - 1) {
                    first -= 1;
                }
                discarded += self.discard_windows(region, first..end, max_slots - discarded);
            }
            end = first;
        }
        discarded
    }

    /// Whether the shelf has more idle slots than are kept, so that [`discard_excess`](Self::discard_excess) pays.
    #[inline]
    pub(crate) fn has_excess(&self) -> bool {
        self.excess.is_too_much(self.shelf.idle())
    }

    /// Gives back the whole pages of idle slots beyond the capacity. Returns how many slots became fresh.
    pub(crate) fn discard_excess(&self, region: &Region, books: &Books) -> usize {
        let idle = self.shelf.idle();
        let discarded = self.discard_idle(region, self.excess.of(idle) as usize);
        // What others put meanwhile is left out, because nobody tried to give it back, and so is what they took.
        let left = (idle - discarded as u32).min(self.shelf.idle());
        self.excess.is_left(left, self.shelf.used_groups() * GROUP_SLOTS);
        if discarded > 0 {
            self.discard_books(books);
        }
        discarded
    }

    /// Gives the pages of the ledger back whose slots are all fresh.
    pub(crate) fn discard_books(&self, books: &Books) {
        let groups = (Ledger::marks_per_page() as u32) / GROUP_SLOTS;
        for page in self.ledger.used_pages() {
            let first = page as u32 * groups;
            let end = (first + groups).min(self.shelf.group_count());
            self.shelf.while_all_are_fresh(first..end, || {
                // SAFETY:
                // - fresh slots have no holder, so their entries are zero
                // - nobody gets one meanwhile, and puts of them are refused without a write
                unsafe { self.ledger.discard_page(books, page) };
            });
        }
    }

    /// Gives back the whole pages of idle slots in the window of `slot`. Returns how many slots became fresh.
    pub(crate) fn discard_around(&self, region: &Region, slot: u32) -> usize {
        let window = slot / self.window_slots();
        self.discard_windows(region, window..window + 1, usize::MAX)
    }

    /// Makes all idle slots fresh without giving back their pages: the region goes as a whole. Returns how many.
    pub(crate) fn forget_idle(&self) -> usize {
        let mut forgotten = 0;
        let used = self.shelf.used_groups();
        for first_group in (0..used).step_by(MAX_RESERVED_GROUPS as usize) {
            let groups = MAX_RESERVED_GROUPS.min(used - first_group);
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

    /// How many windows are reserved at a time: one where a slot is a page or more, or where a window has many groups.
    fn most_windows(&self) -> u32 {
        if self.span.slot_size < page_size() { (MOST_AT_ONCE / self.window_groups()).max(1) } else { 1 }
    }

    /// Whether a window seems to have a page to give. This look costs less than a reservation.
    fn may_discard(&self, window: u32) -> bool {
        let first_group = window * self.window_groups();
        let end_group = first_group + self.window_groups();
        if end_group >= self.shelf.group_count() {
            return true; // the last window may have a page that is not full
        }
        if self.window_groups() == GROUPS_SEEN {
            let slots_of_page = page_size().div_ceil(self.span.slot_size);
            return has_run(self.shelf.held_slots(first_group), slots_of_page);
        }
        // Wherever a page starts, so many whole groups lie in it.
        let group = GROUP_SLOTS as usize;
        let groups_of_page = (page_size() / self.span.slot_size).saturating_sub(group - 1) / group;
        self.shelf.has_held_groups(first_group..end_group, groups_of_page)
    }

    fn discard_windows(&self, region: &Region, windows: Range<u32>, max_slots: usize) -> usize {
        let first_group = windows.start * self.window_groups();
        let groups = (windows.end * self.window_groups()).min(self.shelf.group_count()) - first_group;
        if groups > MAX_RESERVED_GROUPS {
            return 0; // small slots and pages above 64 KiB: not on any target this is built for
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
        let run_end = if run.end >= self.span.slots {
            self.offset_of(self.span.slots).next_multiple_of(page)
        } else {
            self.offset_of(run.end)
        };
        let start =
            self.offset_of(run.start).next_multiple_of(page).max(self.offset_of(first_idle) / page * page);
        let end = (run_end / page * page).min(self.offset_of(last_idle + 1).next_multiple_of(page));
        let (start, end) = self.without_parts_of_huge_pages(start, end);
        // SAFETY:
        // - all of these pages belong to slots of the reservation, which nobody holds and nobody can get; while it is
        //   held, the region is not unmapped: close would miss these slots
        // - what idle buffers hold may be lost
        if start >= end || !unsafe { region.discard(start, end - start) } {
            return 0;
        }
        self.are_small_again(region, start, end);
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
