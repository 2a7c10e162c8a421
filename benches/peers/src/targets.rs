//! The comparisons, and the targets that bytepool has set itself, as ratios of medians.

use crate::measure::Suite;
use crate::plan::OURS;

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

/// The most that bytepool may take of a peer's time in a case that both run.
fn target(case: &str, peer: &str) -> Option<f64> {
    let general = ["glibc", "mimalloc", "jemalloc"].contains(&peer);
    let page_or_more = case.ends_with("4096") || case.ends_with("16384");
    match (case, peer) {
        ("three buffers" | "three, two threads, CPU", "tcmalloc") => Some(1.0),
        ("hand-over", "tcmalloc") => Some(0.25),
        ("hand-over", "DPDK") => Some(1.0),
        ("owner in Rust", "bare list") => Some(2.0),
        ("owner in Rust", "zeropool") => Some(0.6),
        ("owner in C++", "C get and put") => Some(1.0),
        ("32 of 512 in one call, per buffer", "single calls") => Some(0.7),
        ("frame of 3 MiB", "glibc, mapped anew") => Some(0.25),
        ("frame of 3 MiB", "glibc") => Some(1.0),
        ("burst of 64, capacity 32" | "1024 live, capacity 512", "glibc") => Some(1.2),
        (pair, "tcmalloc") if pair.starts_with("pair of") => Some(1.0),
        (many, "tcmalloc") if many.starts_with("burst of 64 x") || many.starts_with("random") => Some(1.2),
        _ if general && page_or_more => Some(0.5),
        _ => None,
    }
}

/// Bytepool's own cases: what, against what, and the most it may be.
const AMONG_OURS: [(&str, &str, f64); 4] = [
    ("put without size", "pair of 4096", 1.1),
    ("put with other size", "pair of 4096", 1.1),
    ("9 pools in turn", "1 pool in turn", 1.3),
    ("100 pools in turn", "1 pool in turn", 2.0),
];

/// Bytepool's own cases of scale relative to a smaller one, relative to the same of the bare list: which, which smaller,
/// its name in the table, and the most it may be.
const SCALING: [(&str, &str, &str, f64); 7] = [
    ("random, 1000 slots", "random, 10 slots", "10 slots", 1.3),
    ("random, 1000000 slots", "random, 10 slots", "10 slots", 1.3),
    ("pair, two threads, CPU", "pair, one thread, CPU", "one thread", 1.15),
    ("burst of 64, two threads mixed, CPU", "burst of 64, one thread, CPU", "one thread", 1.5),
    ("pair, 4 threads, CPU", "pair, one thread, CPU", "one thread", 1.3),
    ("pair, 16 threads, CPU", "pair, one thread, CPU", "one thread", 1.3),
    ("pair, 64 threads, CPU", "pair, one thread, CPU", "one thread", 1.3),
];

const LIST: &str = "bare list";

/// All comparisons, in the order of the cases.
pub fn rows(suite: &Suite) -> Vec<Row> {
    let mut rows = Vec::new();
    for ours in suite.benches.iter().filter(|bench| bench.peer == OURS) {
        let case = ours.case.as_str();
        if case != "short thread, CPU" {
            rows.extend(against_peers(suite, case));
        }
        let among = AMONG_OURS.iter().filter(|(name, _, _)| *name == case);
        rows.extend(among.filter_map(|&(_, base, target)| {
            let mut row = compare(suite, (case, OURS), (base, OURS), Some(target))?;
            row.against = format!("bytepool, {base}");
            Some(row)
        }));
        let scaling = SCALING.iter().filter(|(name, ..)| *name == case);
        rows.extend(scaling.filter_map(|&(_, base, name, target)| {
            let row = scaling_row(suite, case, base, target)?;
            Some(Row { against: format!("{name}; bare list: {}", row.against), ..row })
        }));
    }
    for peer in suite.benches.iter().filter(|bench| bench.case == "short thread, CPU") {
        rows.extend(above_empty_thread(suite, &peer.peer));
    }
    rows
}

fn against_peers(suite: &Suite, case: &str) -> Vec<Row> {
    let others = suite.benches.iter().filter(|bench| bench.case == case && bench.peer != OURS);
    let row = |peer: &str| compare(suite, (case, OURS), (case, peer), target(case, peer));
    others.filter_map(|bench| row(&bench.peer)).collect()
}

fn compare(suite: &Suite, ours: (&str, &str), theirs: (&str, &str), target: Option<f64>) -> Option<Row> {
    let (a, b) = (suite.find(ours.0, ours.1)?, suite.find(theirs.0, theirs.1)?);
    Some(Row {
        case: ours.0.to_owned(),
        against: theirs.1.to_owned(),
        ours: (a.best(), a.median()),
        theirs: (b.best(), b.median()),
        value: a.median() / b.median(),
        of_best: a.best() / b.best(),
        unit: Unit::Ratio,
        target,
    })
}

/// Its `against` is the bare list's own ratio.
fn scaling_row(suite: &Suite, case: &str, base: &str, target: f64) -> Option<Row> {
    let ours = compare(suite, (case, OURS), (base, OURS), None)?;
    let list = compare(suite, (case, LIST), (base, LIST), None)?;
    Some(Row {
        against: format!("{:.2}", list.value),
        value: ours.value / list.value,
        of_best: ours.of_best / list.of_best,
        target: Some(target),
        ..ours
    })
}

/// How much longer a thread lasts that gets and puts once; the target is bytepool's.
fn above_empty_thread(suite: &Suite, peer: &str) -> Option<Row> {
    const EMPTY: &str = "empty thread";
    if peer == EMPTY {
        return None;
    }
    let row = compare(suite, ("short thread, CPU", peer), ("short thread, CPU", EMPTY), None)?;
    let case = if peer == OURS { row.case.clone() } else { format!("short thread of {peer}, CPU") };
    let target = (peer == OURS).then_some(3000.0);
    let (value, of_best) = (row.ours.1 - row.theirs.1, row.ours.0 - row.theirs.0);
    Some(Row { case, value, of_best, unit: Unit::Nanoseconds, target, ..row })
}
