//! The table that a person reads.

use std::fmt::Write;

use crate::misuse::{TRIALS, Verdict};
use crate::owners;
use crate::plan::Missing;
use crate::reach::{self, Reached};
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
    let _ = writeln!(
        text,
        "nanoseconds of CPU time (hand-over: of the wall) for each buffer, or three for \"three\"; ratio of medians, bytepool to peer"
    );
    let _ = writeln!(
        text,
        "?: by the best of all rounds it is the other way, so the machine was too busy to tell"
    );
    for Missing { peer, source, why } in missing {
        let _ = writeln!(text, "missing: {peer}; {source} brings it ({why})");
    }
    let owners = owners::sizes().map(|(name, bytes)| format!("{name} {bytes}"));
    let _ = writeln!(text, "bytes of an owner in Rust, which move with it: {}", owners.join(", "));
    text
}

/// What peers make of wrong puts, each tried in a process of its own.
pub fn render_misuse(misuse: &[(String, [Verdict; TRIALS.len()])]) -> String {
    let mut text = format!("{:<20}", "wrong puts, as tried");
    TRIALS.iter().for_each(|trial| text += &format!("{trial:>20}"));
    let _ = writeln!(text, "\n{}", "-".repeat(126));
    for (peer, verdicts) in misuse {
        let _ = write!(text, "{peer:<20}");
        verdicts.iter().for_each(|verdict| text += &format!("{:>20}", verdict.word()));
        text.push('\n');
    }
    text
}

/// One line for each goal: what is farthest off, and how many of its comparisons reach it.
pub fn render_targets(rows: &[Row]) -> String {
    let mut text = String::new();
    let rule = "-".repeat(126);
    let heads = ["targets", "at most", "farthest", "of best", "which"];
    let _ = writeln!(
        text,
        "{:<50}{:>8}{:>10}{:>9}  {:<48} met",
        heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    let _ = writeln!(text, "{rule}");
    let (mut met_of_all, mut all_of_all) = (0, 0);
    for Reached { goal, worst, met, all } in reach::reached(rows) {
        let which = format!("{}: {}", worst.case, worst.against);
        let (words, most) = (goal.words, goal.most);
        let (value, of_best) = (worst.value, worst.of_best);
        let _ = writeln!(text, "{words:<50}{most:>8}{value:>10.2}{of_best:>9.2}  {which:<48} {met} of {all}");
        met_of_all += met;
        all_of_all += all;
    }
    if let Some(count) = reach::instructions() {
        let (words, most) = ("instructions of the C pair, as last counted", reach::MOST_INSTRUCTIONS);
        let met = usize::from(count <= most);
        let _ = writeln!(
            text,
            "{words:<50}{most:>8}{count:>10}{:>9}  {:<48} {met} of 1",
            "", "benches/instructions"
        );
        met_of_all += met;
        all_of_all += 1;
    }
    let _ = writeln!(text, "{rule}\n{met_of_all} of {all_of_all} targets met");
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
