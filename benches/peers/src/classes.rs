//! Sets of size classes against a pool of one of them alone: which class a size is of is to cost nothing.

use crate::cases;
use crate::measure::Suite;
use crate::ours::Functions;
use crate::peers::CAPACITY;
use crate::plan::OURS;

/// What a class is compared with.
pub const ALONE: &str = "this class alone";

const SETS: [&[usize]; 3] =
    [&[16, 32, 48, 64], &[64 << 10, 80 << 10, 96 << 10, 112 << 10, 128 << 10], &[1500, 1518]];

pub fn cases(suite: &mut Suite, bytepool: Functions) {
    for set in SETS {
        let classes: Vec<(usize, usize)> = set.iter().map(|&size| (size, capacity(size))).collect();
        let all = bytepool.pool(&classes);
        for &size in set {
            let case = name(set, size);
            suite.add(&case, OURS, cases::pair(all, size));
            suite.add(&case, ALONE, cases::pair(bytepool.pool(&[(size, capacity(size))]), size));
        }
    }
}

fn name(set: &[usize], size: usize) -> String {
    format!("pair of {size} of {} classes", set.len())
}

/// So that no class is larger than those of the other cases.
fn capacity(size: usize) -> usize {
    CAPACITY.min((16 << 20) / size)
}
