//! What a run did, as a person wants to read it.

use std::fmt::{self, Formatter};
use std::time::Duration;

use crate::counts::Counts;
use crate::language::Language;

#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) rounds: u64,
    pub(crate) pools: u64,
    pub(crate) closes: u64,
    pub(crate) quiet_moments: u64,
    pub(crate) put_after_free: u64,
    pub(crate) counts: Counts,
    /// Threads and operations of each language.
    workers: [(u64, u64); 3],
}

impl Totals {
    pub(crate) fn note_worker(&mut self, language: Language, operations: u64) {
        let (threads, sum) = &mut self.workers[language as usize];
        *threads += 1;
        *sum += operations;
    }

    pub(crate) fn workers(&self, language: Language) -> (u64, u64) {
        self.workers[language as usize]
    }
}

/// `1234567` as `1,234,567`.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) totals: &'a Totals,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        writeln!(f, "soaked for {seconds:.1} s; --seed {} makes the same random choices\n", self.seed)?;
        self.work(f)?;
        self.refusals(f)?;
        writeln!(f, "\nNo buffer was lost or written by anybody but its owner, and every misuse was counted.")
    }
}

fn row(f: &mut Formatter<'_>, name: &str, number: u64, what: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<15}{:>17}  {what}", Number(number))
}

impl Report<'_> {
    fn work(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Totals { rounds, pools, closes, quiet_moments, put_after_free, ref counts, .. } = *self.totals;
        let (rounds, closes) = (Number(rounds), Number(closes));
        row(f, "pools", pools, format_args!("in {rounds} rounds; {closes} closed while in use"))?;
        for language in Language::ALL {
            let (threads, operations) = self.totals.workers(language);
            let name = format!("{} operations", language.name());
            row(f, &name, operations, format_args!("on {} threads", Number(threads)))?;
        }
        let resized = Number(counts.reallocations);
        row(f, "gets", counts.gets, format_args!("and {resized} buffers resized"))?;
        let orphans = Number(put_after_free);
        row(
            f,
            "hand-overs",
            counts.taken,
            format_args!("between threads; {orphans} buffers put after their pool's last handle was freed"),
        )?;
        row(f, "bytes", counts.bytes, format_args!("written by a buffer's owner, or found as written"))?;
        row(
            f,
            "quiet moments",
            quiet_moments,
            format_args!("when every figure of the pools was as it must be"),
        )
    }

    fn refusals(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let counts = &self.totals.counts;
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let gets = [counts.limit_failures, counts.closed_failures, counts.memory_failures];
        let [limit, closed, memory] = gets.map(Number);
        row(
            f,
            "gets refused",
            sum(&gets),
            format_args!(
                "{limit} at a limit, {closed} by a closed pool, {memory} as an allocation was made to fail"
            ),
        )?;
        let misuse = [
            sum(&counts.double_puts),
            sum(&counts.size_mismatches),
            sum(&counts.foreign_pointers),
            counts.invalid_contexts,
        ];
        let [double, sizes, foreign, contexts] = misuse.map(Number);
        row(
            f,
            "misuse refused",
            sum(&misuse),
            format_args!(
                "{double} double puts, {sizes} wrong sizes, {foreign} foreign pointers, {contexts} bad contexts"
            ),
        )
    }
}
