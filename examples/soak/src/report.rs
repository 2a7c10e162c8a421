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
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
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
        let totals = self.totals;
        let counts = &totals.counts;
        let sum = |of_pools: &[u64]| Number(of_pools.iter().sum());
        writeln!(f, "soaked for {:.1} s, seed {}", self.time.as_secs_f64(), self.seed)?;
        writeln!(
            f,
            "  pools          {:>15}  in {} rounds; {} closed under way",
            Number(totals.pools),
            Number(totals.rounds),
            Number(totals.closes)
        )?;
        for language in Language::ALL {
            let (threads, operations) = totals.workers(language);
            let name = format!("{} operations", language.name());
            writeln!(f, "  {name:<14} {:>15}  on {} threads", Number(operations), Number(threads))?;
        }
        writeln!(
            f,
            "  gets           {:>15}  and {} resized",
            Number(counts.gets),
            Number(counts.reallocations)
        )?;
        writeln!(
            f,
            "  handed over    {:>15}  to another worker, {} put after every handle was freed",
            Number(counts.taken),
            Number(totals.put_after_free)
        )?;
        writeln!(f, "  marks          {:>15}  bytes written and checked", Number(counts.bytes))?;
        writeln!(
            f,
            "  failed gets    {:>15}  at a limit, {} from closed pools, {} by failed allocations",
            Number(counts.limit_failures),
            Number(counts.closed_failures),
            Number(counts.memory_failures)
        )?;
        writeln!(
            f,
            "  misuse refused {:>15}  double puts, {} wrong sizes, {} foreign pointers, {} bad contexts",
            sum(&counts.double_puts),
            sum(&counts.size_mismatches),
            sum(&counts.foreign_pointers),
            Number(counts.invalid_contexts)
        )?;
        writeln!(
            f,
            "  quiet moments  {:>15}  with every figure as it must be",
            Number(totals.quiet_moments)
        )?;
        writeln!(
            f,
            "nothing lost, nobody in: every buffer was as its owner left it, and every misuse was counted"
        )
    }
}
