//! The comparisons, as ratios of medians. `reach.rs` has what they are to reach.

use crate::measure::Suite;
use crate::plan::{COLORED, OURS};
use crate::reach;

/// A comparison of two measurements of one run.
pub struct Row {
    pub case: String,
    pub against: String,
    /// Best and median, in nanoseconds per operation.
    pub ours: (f64, f64),
    pub theirs: (f64, f64),
    /// Of the medians; for a difference, in nanoseconds.
    pub value: f64,
    /// The same of the bests.
    pub of_best: f64,
    pub unit: Unit,
    pub target: Option<f64>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Ratio,
    Nanoseconds,
}

impl Row {
    pub fn met(&self) -> Option<bool> {
        self.target.map(|target| self.value <= target)
    }

    /// Whether the bests tell otherwise than the medians.
    pub fn doubtful(&self) -> bool {
        self.target.is_some_and(|target| (self.value <= target) != (self.of_best <= target))
    }
}

/// Bytepool's own cases: what, and against what.
const AMONG_OURS: [(&str, &str); 4] = [
    ("put without size", "pair of 4096"),
    ("put with other size", "pair of 4096"),
    ("9 pools in turn", "1 pool in turn"),
    ("100 pools in turn", "1 pool in turn"),
];

/// Bytepool's own cases of scale relative to a smaller one, relative to the same of the bare list: which, which smaller,
/// and its name in the table.
const SCALING: [(&str, &str, &str); 10] = [
    ("random, 1000 slots", "random, 10 slots", "10 slots"),
    ("random, 1000000 slots", "random, 10 slots", "10 slots"),
    ("random, 2500 out", "random, 500 out", "500 out"),
    ("random, 20000 out", "random, 500 out", "500 out"),
    ("random, 400000 out", "random, 500 out", "500 out"),
    ("pair, two threads, CPU", "pair, one thread, CPU", "one thread"),
    ("burst of 64, two threads mixed, CPU", "burst of 64, one thread, CPU", "one thread"),
    ("pair, 4 threads, CPU", "pair, one thread, CPU", "one thread"),
    ("pair, 16 threads, CPU", "pair, one thread, CPU", "one thread"),
    ("pair, 64 threads, CPU", "pair, one thread, CPU", "one thread"),
];

const LIST: &str = "bare list";
const SHORT_THREAD: &str = "short thread, CPU";

/// All comparisons, in the order of the cases.
pub fn rows(suite: &Suite) -> Vec<Row> {
    let mut rows = Vec::new();
    for ours in suite.benches.iter().filter(|bench| bench.peer == OURS) {
        let case = ours.case.as_str();
        if case != SHORT_THREAD {
            rows.extend(against_peers(suite, case, OURS));
        }
        let among = AMONG_OURS.iter().filter(|(name, _)| *name == case);
        rows.extend(among.filter_map(|&(_, base)| {
            let row = compare(suite, (case, OURS), (base, OURS))?;
            Some(Row { against: format!("bytepool, {base}"), ..row })
        }));
        let scaling = SCALING.iter().filter(|(name, ..)| *name == case);
        rows.extend(scaling.filter_map(|&(_, base, name)| {
            let row = scaling_row(suite, case, base)?;
            Some(Row { against: format!("{name}; bare list: {}", row.against), ..row })
        }));
        rows.extend(against_peers(suite, case, COLORED).into_iter().filter(|row| row.against != OURS));
    }
    for peer in suite.benches.iter().filter(|bench| bench.case == SHORT_THREAD) {
        rows.extend(above_empty_thread(suite, &peer.peer));
    }
    for row in &mut rows {
        row.target = reach::of(&row.case, &row.against).map(|goal| goal.most);
    }
    rows
}

/// One of our pools in a case against all others. The case of the colored one has a name of its own.
fn against_peers(suite: &Suite, case: &str, ours: &str) -> Vec<Row> {
    let others = suite.benches.iter().filter(|bench| bench.case == case && bench.peer != ours);
    let rows = others.filter_map(|bench| compare(suite, (case, ours), (case, &bench.peer)));
    let name = if ours == OURS { case.to_owned() } else { format!("{case}, colored") };
    rows.map(|row| Row { case: name.clone(), ..row }).collect()
}

fn compare(suite: &Suite, ours: (&str, &str), theirs: (&str, &str)) -> Option<Row> {
    let (a, b) = (suite.find(ours.0, ours.1)?, suite.find(theirs.0, theirs.1)?);
    Some(Row {
        case: ours.0.to_owned(),
        against: theirs.1.to_owned(),
        ours: (a.best(), a.median()),
        theirs: (b.best(), b.median()),
        value: a.median() / b.median(),
        of_best: a.best() / b.best(),
        unit: Unit::Ratio,
        target: None,
    })
}

/// Its `against` is the bare list's own ratio.
fn scaling_row(suite: &Suite, case: &str, base: &str) -> Option<Row> {
    let ours = compare(suite, (case, OURS), (base, OURS))?;
    let list = compare(suite, (case, LIST), (base, LIST))?;
    Some(Row {
        against: format!("{:.2}", list.value),
        value: ours.value / list.value,
        of_best: ours.of_best / list.of_best,
        ..ours
    })
}

/// How much longer a thread lasts that gets and puts once.
fn above_empty_thread(suite: &Suite, peer: &str) -> Option<Row> {
    const EMPTY: &str = "empty thread";
    if peer == EMPTY {
        return None;
    }
    let row = compare(suite, (SHORT_THREAD, peer), (SHORT_THREAD, EMPTY))?;
    let case = if peer == OURS { row.case.clone() } else { format!("short thread of {peer}, CPU") };
    let (value, of_best) = (row.ours.1 - row.theirs.1, row.ours.0 - row.theirs.0);
    Some(Row { case, value, of_best, unit: Unit::Nanoseconds, ..row })
}
