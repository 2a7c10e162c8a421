//! The committed figures: a text file with a case and its instructions on each line.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;

/// More or fewer instructions than this are a change that somebody must look at.
const TOLERANCE: f64 = 0.03;

/// Instructions of one turn, by case.
pub struct Figures {
    pub cases: BTreeMap<String, f64>,
}

pub struct Verdict {
    pub table: String,
    pub good: bool,
}

impl Figures {
    pub fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let figure = |line: &str| {
            let (case, figure) = line.rsplit_once(": ").ok_or_else(|| format!("not a figure: {line}"))?;
            Ok((case.to_owned(), figure.trim().parse()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(Self { cases: lines.map(figure).collect::<Result<_, Box<dyn Error>>>()? })
    }

    /// Both figures of each case, and whether each is within the tolerance and has a partner.
    pub fn compare(&self, counted: &Self) -> Verdict {
        let mut table = line("instructions of one turn", "committed", "counted", "");
        let mut good = true;
        let mut names: Vec<_> = self.cases.keys().chain(counted.cases.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (old, new) = (self.cases.get(name), counted.cases.get(name));
            let change = old.zip(new).map_or(f64::INFINITY, |(old, new)| new / old - 1.0);
            let within = change.abs() <= TOLERANCE;
            good &= within;
            let shown =
                |figure: Option<&f64>| figure.map_or("none".to_owned(), |value| format!("{value:.1}"));
            let remark = format!("{:+.1} %{}", change * 100.0, if within { "" } else { "  OFF" });
            table += &line(name, &shown(old), &shown(new), &remark);
        }
        if !good {
            table +=
                "More than 3 % off. If that is meant, run this again with --update, and commit the file.\n";
        }
        Verdict { table, good }
    }
}

fn line(case: &str, committed: &str, counted: &str, remark: &str) -> String {
    format!("{case:<32}{committed:>12}{counted:>12}  {remark}").trim_end().to_owned() + "\n"
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let rustc = env!("RUSTC_VERSION");
        writeln!(formatter, "# Instructions of one turn, on x86-64 Linux, by {rustc}. Written by --update.")?;
        self.cases.iter().try_for_each(|(case, figure)| writeln!(formatter, "{case}: {figure:.1}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cases: &[(&str, f64)]) -> Figures {
        Figures { cases: cases.iter().map(|&(case, figure)| (case.to_owned(), figure)).collect() }
    }

    #[test]
    fn more_or_less_than_the_tolerance_is_off() {
        let committed = figures(&[("pair", 100.0)]);
        for (counted, good) in [(100.0, true), (102.9, true), (97.1, true), (103.1, false), (96.9, false)] {
            let verdict = committed.compare(&figures(&[("pair", counted)]));
            assert_eq!(verdict.good, good, "{}", verdict.table);
            assert!(verdict.table.contains("100.0") && verdict.table.contains(&format!("{counted:.1}")));
        }
    }

    #[test]
    fn a_figure_without_a_partner_is_off() {
        let (one, two) = (figures(&[("pair", 100.0)]), figures(&[("pair", 100.0), ("hand-over", 50.0)]));
        assert!(!one.compare(&two).good && !two.compare(&one).good && two.compare(&two).good);
    }
}
