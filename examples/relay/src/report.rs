//! What the program prints: figures for people.

use std::fmt::{self, Formatter};
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytepool::{ClassStats, Stats};

use crate::files::Output;
use crate::relay::CHUNK;
use crate::sink::Summary;
use crate::units::{ByteName, Bytes, Rate};

/// Everything there is to say about a run; its `Display` is the text.
pub(crate) struct Report<'r> {
    pub(crate) input: &'r Path,
    pub(crate) output: &'r Output,
    pub(crate) summary: Summary,
    pub(crate) relay_time: Duration,
    /// Bytes.
    pub(crate) verified: u64,
    pub(crate) verify_time: Duration,
    pub(crate) stats: Stats,
    /// After one was made on purpose; `stats` are from before.
    pub(crate) double_puts_at_end: u64,
    /// Bytes; `None` where the system does not say.
    pub(crate) peak_resident: Option<u64>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.path_of_the_data(f)?;
        writeln!(f)?;
        self.figures(f)?;
        self.memory(f)?;
        self.misuse(f)?;
        writeln!(f)?;
        table(f, &self.stats)
    }
}

/// The most frequent bytes that are shown.
const TOP: usize = 5;

impl Report<'_> {
    fn path_of_the_data(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Summary { bytes, chunks, .. } = self.summary;
        let plural = if chunks == 1 { "" } else { "s" };
        let chunks = format!("in {chunks} chunk{plural} of up to {}", Bytes(CHUNK as u64));
        let steps = [
            ("Rust", "read", bytes, chunks.as_str()),
            ("C", "coded", bytes, "delta coding and CRC-32, into a second buffer; put Rust's buffer"),
            ("C++", "wrote", bytes, "on another thread: CRC-32 checked, bytes counted; put C's buffer"),
            (
                "Rust",
                "verified",
                self.verified,
                "the output, with the coding undone: equal to the input, byte for byte",
            ),
        ];
        writeln!(f, "{}: from Rust to C to C++ in the buffers of one pool\n", self.input.display())?;
        for (language, what, bytes, how) in steps {
            writeln!(f, "  {language:<5} {what:<9} {:>10}  {how}", Bytes(bytes))?;
        }
        match self.output {
            Output::Named(path) => writeln!(f, "\n  The delta-coded file is {}", path.display()),
            Output::Temporary(_) => Ok(()),
        }
    }

    fn figures(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = self.summary.bytes;
        writeln!(f, "  relayed    {}", Rate { bytes, time: self.relay_time })?;
        writeln!(f, "  verified   {}", Rate { bytes: self.verified, time: self.verify_time })?;
        writeln!(f, "  CRC-32     {:08x}", self.summary.crc32)?;
        for (rank, (byte, count)) in top_bytes(&self.summary.histogram).into_iter().enumerate() {
            let title = if rank == 0 { "top bytes" } else { "" };
            let percent = count as f64 / bytes as f64 * 100.0;
            let bar = "#".repeat(((percent / 2.0) as usize).max(1));
            writeln!(f, "  {title:<10} {:<6} {percent:5.1} %  {bar}", ByteName(byte))?;
        }
        Ok(())
    }

    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Stats { mapped_bytes, max_bytes, gets, system_allocations, .. } = self.stats;
        let (mapped, limit) = (Bytes(mapped_bytes as u64), Bytes(max_bytes as u64));
        writeln!(f, "  memory     the pool took {mapped} from the system; its limit is {limit}")?;
        if let Some(peak) = self.peak_resident {
            writeln!(f, "             the whole process had {} resident at most", Bytes(peak))?;
        }
        writeln!(f, "  gets       {gets}, of which {system_allocations} needed the system's allocator")
    }

    fn misuse(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Stats { double_puts, size_mismatches, foreign_pointers, .. } = self.stats;
        let after = self.double_puts_at_end;
        writeln!(
            f,
            "  misuse     {double_puts} double puts, {size_mismatches} wrong sizes, {foreign_pointers} foreign pointers"
        )?;
        writeln!(
            f,
            "             then C put one buffer twice, on purpose: refused and counted, double puts are {after} now"
        )
    }
}

/// One line per class, and one for what fits none.
fn table(f: &mut Formatter<'_>, stats: &Stats) -> fmt::Result {
    let mut row = |cells: [&dyn fmt::Display; 8]| {
        let [title, numbers @ ..] = cells.map(|cell| cell.to_string());
        write!(f, "  {title:<12}")?;
        numbers.iter().try_for_each(|number| write!(f, "{number:>12}"))?;
        writeln!(f)
    };
    row([&"size class", &"capacity", &"touched", &"outstanding", &"idle", &"overflow", &"gets", &"puts"])?;
    for class in &stats.classes {
        let ClassStats { capacity, touched, outstanding, idle, overflow, gets, puts, .. } = class;
        row([&Bytes(class.buffer_size as u64), capacity, touched, outstanding, idle, overflow, gets, puts])?;
    }
    let oversize = stats.oversize_buffers;
    let class_gets: u64 = stats.classes.iter().map(|class| class.gets).sum();
    let class_puts: u64 = stats.classes.iter().map(|class| class.puts).sum();
    let (gets, puts) = (stats.gets - class_gets, stats.puts - class_puts);
    row([&"oversize", &"-", &"-", &oversize, &"-", &"-", &gets, &puts])?;
    writeln!(
        f,
        "  In buffers, at the end. Touched: handed out at least once. Outstanding: not put back. Idle: kept"
    )?;
    writeln!(f, "  for the next get. Overflow: outstanding beyond the class's capacity.")
}

/// The most frequent first; of equally frequent ones, the smaller.
fn top_bytes(histogram: &[u64; 256]) -> Vec<(u8, u64)> {
    let mut counts: Vec<(u8, u64)> = (0..=255).zip(histogram.iter().copied()).collect();
    counts.retain(|&(_, count)| count > 0);
    counts.sort_by_key(|&(byte, count)| (std::cmp::Reverse(count), byte));
    counts.truncate(TOP);
    counts
}

/// The most memory this process ever had resident, in bytes, where the system says so (Linux).
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_bytes_are_ordered_and_absent_ones_left_out() {
        let mut histogram = [0; 256];
        (histogram[7], histogram[9], histogram[3]) = (1, 5, 1);
        assert_eq!(top_bytes(&histogram), [(9, 5), (3, 1), (7, 1)]);
    }
}
