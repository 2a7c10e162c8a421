//! How far bytepool is to reach: each goal, the comparisons that it is about, and what the run says of them.

use std::fs;
use std::path::Path;

use crate::classes;
use crate::targets::Row;

/// Something bytepool is to reach in each comparison that fits.
pub struct Goal {
    pub words: &'static str,
    /// Of the ratio of medians, or of the difference in nanoseconds.
    pub most: f64,
    fits: fn(case: &str, against: &str) -> bool,
}

const fn goal(words: &'static str, most: f64, fits: fn(&str, &str) -> bool) -> Goal {
    Goal { words, most, fits }
}

fn pair(case: &str) -> bool {
    ["pair of 512", "pair of 4096", "pair of 16384"].contains(&case)
}

fn three(case: &str) -> bool {
    ["three buffers", "three, one thread, CPU", "three, two threads, CPU"].contains(&case)
}

fn burst(case: &str) -> bool {
    case.starts_with("burst of 64 x")
}

fn random(case: &str) -> bool {
    case.starts_with("random 256 x")
}

static GOALS: [Goal; 37] = [
    goal("C pair of 512 B, 4 KiB, 16 KiB against tcmalloc", 1.0, |case, peer| {
        pair(case) && peer == "tcmalloc"
    }),
    goal("the same against snmalloc", 1.0, |case, peer| pair(case) && peer == "snmalloc"),
    goal("three buffers, one and two threads, tcmalloc", 1.15, |case, peer| {
        three(case) && peer == "tcmalloc"
    }),
    goal("the same against snmalloc", 1.15, |case, peer| three(case) && peer == "snmalloc"),
    goal("bursts of 64 against tcmalloc", 0.9, |case, peer| burst(case) && peer == "tcmalloc"),
    goal("the same against snmalloc", 0.9, |case, peer| burst(case) && peer == "snmalloc"),
    goal("random 256 against tcmalloc", 0.95, |case, peer| random(case) && peer == "tcmalloc"),
    goal("the same against snmalloc", 0.95, |case, peer| random(case) && peer == "snmalloc"),
    goal("each case against Scudo", 0.3, |case, peer| !on_live(case) && peer == "Scudo"),
    goal("each case against hardened_malloc", 0.1, |case, peer| !on_live(case) && peer == "hardened_malloc"),
    goal("Rust owner against commonware: pair", 0.9, |case, peer| {
        case == "owner in Rust" && peer == "commonware"
    }),
    goal("the same, three owners", 0.9, |case, peer| case == "three owners in Rust" && peer == "commonware"),
    goal("the same, each moved into an array", 0.9, |case, peer| {
        case == "three owners, moved" && peer == "commonware"
    }),
    goal("the same, through a channel", 0.9, |case, peer| {
        case == "owner through a channel, CPU" && peer == "commonware"
    }),
    goal("Rust owner against zeropool", 0.5, |case, peer| case == "owner in Rust" && peer == "zeropool"),
    goal("Rust owner against the bare list", 2.0, |case, peer| {
        case == "owner in Rust" && peer == "bare list"
    }),
    goal("each class of a set against it alone", 1.1, |_, against| against == classes::ALONE),
    goal("C++ owner against C", 1.15, |case, _| case == "owner in C++"),
    goal("C++ memory_resource against C", 1.4, |case, _| case == "memory_resource in C++"),
    goal("put without size against the pair", 1.05, |case, _| case == "put without size"),
    goal("put with another size of the class", 1.1, |case, _| case == "put with other size"),
    goal("9 pools in turn against 1", 1.3, |case, _| case == "9 pools in turn"),
    goal("100 pools in turn against 1", 2.0, |case, _| case == "100 pools in turn"),
    goal("32 in one call against DPDK's", 1.5, |case, peer| case.contains("in one call") && peer == "DPDK"),
    goal("hand-over against DPDK, CPU", 1.5, |case, peer| case == "hand-over, CPU" && peer == "DPDK"),
    goal("the same by the clock on the wall", 1.0, |case, peer| case == "hand-over" && peer == "DPDK"),
    goal("hand-over against tcmalloc, wall", 0.25, |case, peer| case == "hand-over" && peer == "tcmalloc"),
    goal("mixed threads relative to the bare list's", 1.3, |case, against| {
        case == "burst of 64, two threads mixed, CPU" && scaled(against)
    }),
    goal("two threads relative to the bare list's", 1.15, |case, against| {
        case == "pair, two threads, CPU" && scaled(against)
    }),
    goal("beyond a capacity of 1,000, to 400,000 out, likewise", 1.3, |case, against| {
        case.ends_with(" out") && scaled(against)
    }),
    goal("4 to 64 threads, 1000 and more slots, likewise", 1.3, |_, against| scaled(against)),
    goal("4 KiB and 16 KiB against glibc, jemalloc, mimalloc", 0.5, |case, peer| {
        let general = ["glibc", "jemalloc", "mimalloc"].contains(&peer);
        general && (pair(case) || burst(case) || random(case)) && case != "pair of 512"
    }),
    goal("half beyond the capacity against glibc", 1.2, |case, peer| {
        ["burst of 64, capacity 32", "1024 live, capacity 512"].contains(&case) && peer == "glibc"
    }),
    goal("short thread above an empty one, ns", 3000.0, |case, peer| {
        case == "short thread, CPU" && peer == "empty thread"
    }),
    goal("a frame of 3 MiB against glibc", 1.0, |case, peer| case == "frame of 3 MiB" && peer == "glibc"),
    goal("the same, where glibc maps anew", 0.25, |case, peer| {
        case == "frame of 3 MiB" && peer == "glibc, mapped anew"
    }),
    goal("32 of 512 B in one call against single calls", 0.7, |case, peer| {
        case == "32 of 512 in one call, per buffer" && peer == "single calls"
    }),
];

/// Whether a comparison is of two ratios: see `targets::scaling_row`.
fn scaled(against: &str) -> bool {
    against.contains("; bare list: ")
}

/// Whether a case is about where buffers lie, not about gets and puts.
fn on_live(case: &str) -> bool {
    case.contains(" live")
}

/// The goal of a comparison.
pub fn of(case: &str, against: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| (goal.fits)(case, against))
}

/// What a run says of a goal.
pub struct Reached<'a> {
    pub goal: &'static Goal,
    /// The comparison that is farthest off.
    pub worst: &'a Row,
    pub met: usize,
    pub all: usize,
}

/// Of each goal that the run has a comparison for.
pub fn reached(rows: &[Row]) -> Vec<Reached<'_>> {
    let of_goal = |goal: &'static Goal| {
        let about = || {
            rows.iter()
                .filter(|row| of(&row.case, &row.against).is_some_and(|found| std::ptr::eq(found, goal)))
        };
        Some(Reached {
            goal,
            worst: about().max_by(|a, b| a.value.total_cmp(&b.value))?,
            met: about().filter(|row| row.value <= goal.most).count(),
            all: about().count(),
        })
    };
    GOALS.iter().filter_map(of_goal).collect()
}

/// The instructions of a pair in C, as `benches/instructions` last counted them.
pub fn instructions() -> Option<f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../instructions/expected.txt");
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("pair in C, 4096 bytes: "))?;
    line.rsplit(' ').next()?.parse().ok()
}

pub const MOST_INSTRUCTIONS: f64 = 83.0;
