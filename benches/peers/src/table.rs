//! The table that a person reads.

use std::fmt::Write;

use crate::plan::Missing;
use crate::targets::{Row, Unit};

/// One line for each comparison; a case's name stands on its first line.
pub fn render(rows: &[Row], missing: &[Missing]) -> String {
    let mut text = String::new();
    let mut last = "";
    let rule = "-".repeat(126);
    line(
        &mut text,
        ["case", "ours best", "median", "against", "best", "median", "ratio", "of best", "target", ""],
    );
    for row in rows {
        if row.case != last {
            let _ = writeln!(text, "{rule}");
        }
        let first = row.case != last;
        last = &row.case;
        let (ours_best, ours) = (nanoseconds(row.ours.0), nanoseconds(row.ours.1));
        let (best, median) = (nanoseconds(row.theirs.0), nanoseconds(row.theirs.1));
        let value = match row.unit {
            Unit::Ratio => format!("{:.2}", row.value),
            Unit::Nanoseconds => format!("{:+.0}", row.value),
        };
        let of_best = match row.unit {
            Unit::Ratio => format!("{:.2}", row.of_best),
            Unit::Nanoseconds => format!("{:+.0}", row.of_best),
        };
        let target = row.target.map(|target| format!("<= {target}")).unwrap_or_default();
        let met = match (row.met(), row.doubtful()) {
            (None, _) => "",
            (Some(true), false) => "met",
            (Some(true), true) => "met ?",
            (Some(false), false) => "NOT MET",
            (Some(false), true) => "NOT MET ?",
        };
        let shown = |text: &str| if first { text.to_owned() } else { String::new() };
        line(
            &mut text,
            [
                &shown(&row.case),
                &shown(&ours_best),
                &shown(&ours),
                &row.against,
                &best,
                &median,
                &value,
                &of_best,
                &target,
                met,
            ],
        );
    }
    let _ = writeln!(text, "{rule}");
    let judged = rows.iter().filter_map(Row::met);
    let (met, all) = judged.fold((0, 0), |(met, all), this| (met + usize::from(this), all + 1));
    let _ = writeln!(
        text,
        "nanoseconds of CPU time (hand-over: of the wall) for each buffer, or three for \"three\"; ratio of medians, bytepool to peer; {met} of {all} targets met"
    );
    let _ = writeln!(
        text,
        "?: by the best of all rounds it is the other way, so the machine was too busy to tell"
    );
    for Missing { peer, package, why } in missing {
        let _ = writeln!(text, "missing: {peer}; Debian package {package} brings it ({why})");
    }
    text
}

fn nanoseconds(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn line(text: &mut String, cells: [&str; 10]) {
    let [case, ours_best, ours, against, best, median, ratio, of_best, target, met] = cells;
    let whole = format!(
        "{case:<36}{ours_best:>9} {ours:>8}  {against:<27} {best:>8} {median:>8} {ratio:>7} {of_best:>8} {target:>8} {met}"
    );
    let _ = writeln!(text, "{}", whole.trim_end());
}
