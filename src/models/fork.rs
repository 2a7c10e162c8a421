//! What stands in for `fork.rs` in a model, whose process does not fork: sections that keep nobody from it.

use crate::memory::OutOfMemory;

pub(crate) struct Section;

pub(crate) fn section() -> Section {
    Section
}

pub(crate) fn outside<R>(run: impl FnOnce() -> R) -> R {
    run()
}

pub(crate) fn is_inside() -> bool {
    true
}

pub(crate) fn change_block(set_block: impl FnOnce()) {
    set_block();
}

pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    Ok(())
}
