//! What a program of C calls is made of. proptest and the fuzzer make random ones.

/// One call, and the thread it is made on.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) struct Step {
    pub(crate) on_other_thread: bool,
    pub(crate) call: Call,
}

/// The function, and its arguments.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Call {
    New(Setup),
    Clone(Handle),
    Close(Handle),
    Free(Handle),
    Get(Handle, Size),
    GetAligned { context: Handle, alignment: Alignment, size: Size },
    GetMany { context: Handle, size: Size, count: u8 },
    Calloc { context: Handle, count: Size, size: Size },
    Copy { context: Handle, size: Size },
    Realloc(Handle, Pointer, Size),
    Put(Handle, Pointer, PutSize),
    PutChecked(Handle, Pointer, PutSize),
    PutUnsized(Handle, Pointer),
    PutMany { context: Handle, data: Vec<Pointer>, size: PutSize },
    UsableSize(Handle, Pointer),
    Trim(Handle, Size),
    ReadStats { context: Handle, struct_size: u8 },
    ReadClassStats { context: Handle, index: u8, struct_size: u8 },
    EndOtherThread,
    GetTimeout { context: Handle, size: Size, nanoseconds: u16 },
}

/// The pool to make, and how its config is told.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) struct Setup {
    /// Sizes and capacities, which are taken modulo something bearable.
    pub(crate) classes: Vec<(u32, u16)>,
    /// One that may be beyond all limits.
    pub(crate) odd_class: Option<(u64, u64)>,
    pub(crate) alignment: Alignment,
    pub(crate) max_bytes: Option<u32>,
    pub(crate) round: Rounding,
    /// From 128 on as 0: most pools have thread caches.
    pub(crate) flags: u8,
    /// Bytes of a newer caller's config, and the value of the last.
    pub(crate) newer: (u8, u8),
}

impl Setup {
    pub(crate) fn flags(&self) -> u32 {
        if self.flags < 128 { self.flags.into() } else { 0 }
    }
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Rounding {
    Nothing,
    Original,
    /// To whole pages.
    Pages,
    /// Below its argument, which is to be ignored.
    Half,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Alignment {
    Default,
    /// A power of two, by its exponent.
    Power(u8),
    Any(u16),
}

/// A context.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Handle {
    /// One that a call made, freed or not.
    Known(u8),
    /// One with one bit changed.
    Changed(u8, u8),
    Any(u64),
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Pointer {
    /// An outstanding buffer of any pool.
    Held(u16),
    /// An outstanding buffer of the context's pool.
    Own(u16),
    /// As `Own`, and some bytes behind its start.
    Inside(u16, u16),
    /// One that was put.
    Put(u16),
    Any(u64),
    Null,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Size {
    Small(u16),
    Large(u32),
    /// Near a class's buffer size.
    Bound(u8, i8),
    Any(u64),
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum PutSize {
    /// The one asked for, if there is a buffer.
    Right,
    Other(Size),
}
