//! Figures as a table, for people: at most 100 columns, whatever the figures are.

use std::fmt;

use super::{ClassStats, Stats};

/// A figure in at most 6 columns, rounded down: `99999`, `100k`, `18446P`.
struct Short(u64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut figure, mut units) = (self.0, ["", "k", "M", "G", "T", "P"].into_iter());
        let mut unit = units.next().unwrap_or_default();
        while figure >= 100_000 {
            (figure, unit) = (figure / 1000, units.next().unwrap_or_default());
        }
        let width = f.width().unwrap_or(0).saturating_sub(unit.len());
        write!(f, "{figure:>width$}{unit}")
    }
}

impl From<usize> for Short {
    fn from(figure: usize) -> Self {
        Self(figure as u64)
    }
}

/// The name of a column, and a class's figure in it.
type Column = (&'static str, fn(&ClassStats) -> Short);

const COLUMNS: [Column; 10] = [
    ("buffer_size", |class| class.buffer_size.into()),
    ("capacity", |class| class.capacity.into()),
    ("outstanding", |class| class.outstanding.into()),
    ("overflow", |class| class.overflow.into()),
    ("peak", |class| class.peak.into()),
    ("idle", |class| class.idle.into()),
    ("cached", |class| class.cached.into()),
    ("touched", |class| class.touched.into()),
    ("gets", |class| Short(class.gets)),
    ("puts", |class| Short(class.puts)),
];

/// A line for each class, and the pool's own figures below, each by the name of its field. Figures from 100,000 on are
/// in thousands, millions and so on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(512, 100).size_class(4096, 100).build()?;
/// let _buffer = pool.get(100)?;
/// let table = pool.stats().to_string();
/// assert!(table.starts_with("buffer_size  capacity  outstanding"));
/// assert!(table.lines().all(|line| line.len() <= 100));
/// # Ok(())
/// # }
/// ```
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |f: &mut fmt::Formatter<'_>,
             cell: &dyn Fn(&mut fmt::Formatter<'_>, &Column, usize) -> fmt::Result| {
                for (at, column) in COLUMNS.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { "  " })?;
                    cell(f, column, column.0.len().max(6))?;
                }
                writeln!(f)
            };
        line(f, &|f, (name, _), width| write!(f, "{name:>width$}"))?;
        for class in &self.classes {
            line(f, &|f, (_, figure), width| write!(f, "{:>width$}", figure(class)))?;
        }
        let [mapped, books] = [self.mapped_bytes, self.bookkeeping_bytes].map(Short::from);
        write!(f, "mapped_bytes {mapped}")?;
        if self.max_bytes != 0 {
            write!(f, ", max_bytes {}", Short::from(self.max_bytes))?;
        }
        writeln!(f, ", bookkeeping_bytes {books}")?;
        let [bytes, buffers] = [self.oversize_bytes, self.oversize_buffers].map(Short::from);
        let [gets, puts] = [self.gets, self.puts].map(Short);
        writeln!(f, "gets {gets}, puts {puts}, oversize_buffers {buffers}, oversize_bytes {bytes}")?;
        let [allocations, waits, failures] =
            [self.system_allocations, self.waits, self.limit_failures].map(Short);
        writeln!(f, "system_allocations {allocations}, waits {waits}, limit_failures {failures}")?;
        let [double, size, foreign] =
            [self.double_puts, self.size_mismatches, self.foreign_pointers].map(Short);
        write!(f, "double_puts {double}, size_mismatches {size}, foreign_pointers {foreign}")
    }
}
