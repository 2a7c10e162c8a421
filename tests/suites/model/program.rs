//! What a program is made of, and how random ones come about.

use proptest::prelude::*;

/// The pool of a program.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) classes: Vec<(usize, usize)>,
    /// Every slot is whole pages, so that every idle one can go.
    pub(crate) whole_pages: bool,
    pub(crate) alignment: usize,
    pub(crate) round: bool,
    pub(crate) zero_on_get: bool,
    pub(crate) zero_on_put: bool,
    /// 0 for none.
    pub(crate) max_bytes: usize,
}

/// One step. Numbers choose among what is there, modulo how much there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Get { kind: GetKind, size: usize },
    Put { which: usize },
    PutSized { which: usize, size: usize },
    PutUnsized { which: usize },
    PutIdle { which: usize, size: usize },
    PutStray { which: usize, offset: usize, size: usize },
    Adopt { which: usize, size: usize },
    Release { which: usize },
    Resize { which: usize, len: usize },
    Write { which: usize, start: usize, len: usize },
    Realloc { which: usize, size: usize },
    Trim { keep: usize },
    CloneHandle,
    DropHandle { which: usize },
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GetKind {
    Owned,
    Zeroed,
    Copied,
    Raw,
}

pub(crate) const UNIT: usize = 64 << 10;

/// Sizes that mean something for some setup, and others.
pub(crate) fn size() -> impl Strategy<Value = usize> {
    let bounds = vec![0, 1, 99, 100, 101, 352, 353, 999, 1000, 1001, 5000, 5001, UNIT, UNIT + 1, 2 * UNIT];
    prop_oneof![
        4 => prop::sample::select(bounds),
        4 => 0..6000usize,
        2 => 0..3 * UNIT,
        1 => Just(1usize << 40),
        1 => Just(usize::MAX),
    ]
}

/// Small sizes more often than the system can bear.
pub(crate) fn requested() -> impl Strategy<Value = usize> {
    size().prop_filter("nobody has that much memory", |&size| size <= 3 * UNIT || size == usize::MAX)
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let which = 0..1000usize;
    let kind = prop::sample::select(vec![GetKind::Owned, GetKind::Zeroed, GetKind::Copied, GetKind::Raw]);
    prop_oneof![
        14 => (kind, requested()).prop_map(|(kind, size)| Step::Get { kind, size }),
        8 => which.clone().prop_map(|which| Step::Put { which }),
        4 => (which.clone(), size()).prop_map(|(which, size)| Step::PutSized { which, size }),
        2 => which.clone().prop_map(|which| Step::PutUnsized { which }),
        2 => (which.clone(), size()).prop_map(|(which, size)| Step::PutIdle { which, size }),
        1 => (which.clone(), 0..9000usize, size())
            .prop_map(|(which, offset, size)| Step::PutStray { which, offset, size }),
        3 => (which.clone(), size()).prop_map(|(which, size)| Step::Adopt { which, size }),
        3 => which.clone().prop_map(|which| Step::Release { which }),
        3 => (which.clone(), size()).prop_map(|(which, len)| Step::Resize { which, len }),
        4 => (which.clone(), 0..6000usize, 0..6000usize)
            .prop_map(|(which, start, len)| Step::Write { which, start, len }),
        5 => (which.clone(), requested()).prop_map(|(which, size)| Step::Realloc { which, size }),
        2 => prop_oneof![Just(0usize), 0..10_000usize, 0..6 * UNIT].prop_map(|keep| Step::Trim { keep }),
        1 => Just(Step::CloneHandle),
        1 => which.prop_map(|which| Step::DropHandle { which }),
    ]
}

/// Steps, and at the end perhaps a close and a few more.
pub(crate) fn program() -> impl Strategy<Value = Vec<Step>> {
    let steps = || prop::collection::vec(step(), 0..70);
    (steps(), prop::option::of(prop::collection::vec(step(), 0..20))).prop_map(|(mut steps, after_close)| {
        if let Some(after_close) = after_close {
            steps.push(Step::Close);
            steps.extend(after_close);
        }
        steps
    })
}

pub(crate) fn small_slots() -> impl Strategy<Value = Setup> {
    let classes = vec![
        vec![],
        vec![(100, 3)],
        vec![(1000, 2), (100, 3)],
        vec![(5000, 2), (100, 40), (1000, 3)],
        vec![(1, 1), (64, 2), (72, 3), (4096, 2), (6000, 1)],
    ];
    let alignments = vec![0, 1, 64, 256, 4096];
    (prop::sample::select(classes), prop::sample::select(alignments), any::<[bool; 3]>()).prop_map(
        |(classes, alignment, [round, zero_on_get, zero_on_put])| Setup {
            classes,
            whole_pages: false,
            alignment,
            round,
            zero_on_get,
            zero_on_put,
            max_bytes: 0,
        },
    )
}

/// Little is kept, so that what is idle beyond the capacities goes back to the system.
pub(crate) fn unlimited() -> impl Strategy<Value = Setup> {
    let classes = vec![vec![(UNIT, 1)], vec![(UNIT, 2), (2 * UNIT, 1)]];
    (prop::sample::select(classes), any::<[bool; 3]>()).prop_map(
        |(classes, [round, zero_on_get, zero_on_put])| Setup {
            classes,
            whole_pages: true,
            alignment: UNIT,
            round,
            zero_on_get,
            zero_on_put,
            max_bytes: 0,
        },
    )
}

pub(crate) fn limited() -> impl Strategy<Value = Setup> {
    // Where only little is no oversize, reallocations meet the limit.
    let classes = vec![
        vec![(100, 2)],
        vec![(UNIT, 3)],
        vec![(UNIT, 4), (2 * UNIT, 2)],
        vec![(100, 2), (UNIT, 3), (2 * UNIT, 1)],
    ];
    (prop::sample::select(classes), 1..8 * UNIT, any::<[bool; 2]>()).prop_map(
        |(classes, max_bytes, [zero_on_get, zero_on_put])| Setup {
            classes,
            whole_pages: true,
            alignment: UNIT,
            round: false,
            zero_on_get,
            zero_on_put,
            max_bytes,
        },
    )
}
