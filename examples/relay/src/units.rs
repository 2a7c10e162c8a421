//! Figures as people read them.

use std::fmt::{self, Formatter};
use std::time::Duration;

/// A number of bytes with three digits or so: `17 bytes`, `1.50 KiB`, `64 KiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            1 => "1 byte".into(),
            0..1024 => format!("{} bytes", self.0),
            _ => scaled(self.0),
        };
        f.pad(&text)
    }
}

fn scaled(bytes: u64) -> String {
    let exponent = (bytes.ilog2() / 10).min(6);
    let unit = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][exponent as usize];
    let value = bytes as f64 / (1u64 << (10 * exponent)) as f64;
    let decimals = match value {
        _ if exponent == 1 && bytes % 1024 == 0 => 0, // as the sizes of buffers are
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// Time, and throughput if it is not that of starting.
pub(crate) struct Rate {
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        if seconds < 1.0 {
            write!(f, "in {:.2} ms", seconds * 1e3)?;
        } else {
            write!(f, "in {seconds:.2} s")?;
        }
        if self.bytes < 1 << 20 {
            return Ok(());
        }
        write!(f, ", {} a second", Bytes((self.bytes as f64 / seconds) as u64))
    }
}

/// `'e'`, `'\n'` or `0xff`.
pub(crate) struct ByteName(pub(crate) u8);

impl fmt::Display for ByteName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            byte @ (b'\t' | b'\n' | b'\r' | b' '..=b'~') => f.pad(&format!("'{}'", byte.escape_ascii())),
            byte => f.pad(&format!("0x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let texts: Vec<String> =
            [0, 1, 512, 1023, 1024, 1500, 18_000, 64 << 10, (1 << 20) - 1, 100 << 20, 1 << 30, u64::MAX]
                .map(|bytes| Bytes(bytes).to_string())
                .to_vec();
        let expected = [
            "0 bytes",
            "1 byte",
            "512 bytes",
            "1023 bytes",
            "1 KiB",
            "1.46 KiB",
            "17.6 KiB",
            "64 KiB",
            "1024 KiB",
            "100 MiB",
            "1.00 GiB",
            "16.0 EiB",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_rate_of_little_is_left_out() {
        let time = Duration::from_millis(500);
        assert_eq!(Rate { bytes: 1 << 20, time }.to_string(), "in 500.00 ms, 2.00 MiB a second");
        assert_eq!(Rate { bytes: (1 << 20) - 1, time }.to_string(), "in 500.00 ms");
    }

    #[test]
    fn byte_names_are_printable() {
        assert_eq!(
            [b'e', b'\n', b'\'', 0xFF].map(|b| ByteName(b).to_string()),
            ["'e'", "'\\n'", "'\\''", "0xff"]
        );
    }
}
