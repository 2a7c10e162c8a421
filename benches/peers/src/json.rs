//! The file that programs read.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::Measured;
use crate::misuse::{TRIALS, Verdict};
use crate::owners;
use crate::targets::Unit;

/// `results` has what was measured, `comparisons` what the table shows.
pub fn write(path: &Path, measured: &Measured) -> std::io::Result<()> {
    let Measured { rounds, suite, rows, missing } = measured;
    let results: Vec<Value> = suite
        .benches
        .iter()
        .map(|bench| {
            json!({
                "case": bench.case,
                "peer": bench.peer,
                "best_ns": rounded(bench.best()),
                "median_ns": rounded(bench.median()),
            })
        })
        .collect();
    let comparisons: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case,
                "against": row.against,
                "value": rounded(row.value),
                "value_of_best": rounded(row.of_best),
                "unit": if row.unit == Unit::Ratio { "ratio" } else { "ns" },
                "target": row.target,
                "met": row.met(),
            })
        })
        .collect();
    let verdicts = |verdicts: &[Verdict]| -> Map<String, Value> {
        let words = verdicts.iter().map(|verdict| verdict.word().into());
        TRIALS.iter().map(|trial| (*trial).to_owned()).zip(words).collect()
    };
    let misuse: Map<String, Value> =
        suite.misuse.iter().map(|(peer, all)| (peer.clone(), verdicts(all).into())).collect();
    let document = json!({
        "date": today(),
        "cpu": cpu_model(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "rounds": rounds,
        "owner_bytes": owners::sizes().map(|(name, bytes)| (name.to_owned(), bytes.into())).into_iter().collect::<Map<String, Value>>(),
        "wrong_puts": misuse,
        "missing": missing.iter().map(|missing| missing.peer).collect::<Vec<_>>(),
        "results": results,
        "comparisons": comparisons,
    });
    fs::write(path, format!("{document:#}\n"))
}

/// To a thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}

/// In UTC, as year-month-day.
pub fn today() -> String {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut days, mut year) = (elapsed.as_secs() / 86_400, 1970u64);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}
