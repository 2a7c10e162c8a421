//! What the README shows of `results.json`: its table, and the figures of its picture. The root package's test of the
//! README compiles this file too, so it uses nothing but the standard library.

use std::path::Path;
use std::{fs, io};

/// A case of the README: its name in the file, what it is, and whether the picture has it.
pub struct Case {
    pub name: &'static str,
    pub words: &'static str,
    pub in_picture: bool,
}

pub const CASES: [Case; 8] = [
    Case { name: "pair of 4096", words: "4 KiB got, touched and put, in C", in_picture: true },
    Case { name: "three buffers", words: "16 KiB, 4 KiB and 512 bytes out at once, in C", in_picture: true },
    Case { name: "three, two threads, CPU", words: "the same on two threads", in_picture: false },
    Case { name: "burst of 64 x 4096", words: "64 of 4 KiB got, then put", in_picture: true },
    Case { name: "burst of 64, capacity 32", words: "the same, half of them overflow", in_picture: false },
    Case { name: "random 256 x 4096", words: "256 of 4 KiB out, one replaced at random", in_picture: false },
    Case { name: "hand-over, CPU", words: "4 KiB got on one thread, put on another", in_picture: true },
    Case { name: "owner in Rust", words: "4 KiB with an owner, in Rust", in_picture: true },
];

pub const PEERS: [&str; 8] =
    ["tcmalloc", "jemalloc", "mimalloc", "glibc", "DPDK", "FFmpeg", "std::pmr", "zeropool"];

const BEGIN: &str = "<!-- speed: written by benches/peers -->\n\n";
const END: &str = "\n<!-- end of speed -->\n";

/// The text of `results.json`, in which each object has its fields in alphabetical order, one on a line.
pub struct Results(String);

impl Results {
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::read_to_string(path).map(Self)
    }

    /// bytepool's time by the peer's, of medians; `None` if the peer was missing or does not have the case.
    pub fn ratio(&self, case: &str, peer: &str) -> Option<f64> {
        let fields = [format!("\"against\": \"{peer}\","), format!("\"case\": \"{case}\",")];
        let comparison =
            self.0.split('{').find(|object| fields.iter().all(|field| object.contains(field)))?;
        let value = comparison.split("\"value\": ").nth(1)?;
        Some(value.split(',').next()?.parse().expect("a ratio is a number"))
    }

    /// A field of the whole run.
    fn of_run(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(&format!("  \"{name}\": ")));
        line.unwrap_or_else(|| panic!("the results have no {name}")).trim_matches([',', '"'])
    }
}

/// A ratio as the table and the picture show it.
pub fn shown(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// What the README has between the two comments.
fn section(results: &Results) -> String {
    let mut text = format!("| bytepool's time relative to | {} |\n", PEERS.join(" | "));
    text += &format!("| --- |{}\n", " --- |".repeat(PEERS.len()));
    for Case { name, words, .. } in CASES {
        let cell = |peer| results.ratio(name, peer).map_or("-".to_owned(), shown);
        text += &format!("| {words} | {} |\n", PEERS.map(cell).join(" | "));
    }
    let [rounds, date, cpu, cores] = ["rounds", "date", "cpu", "cores"].map(|name| results.of_run(name));
    text + &format!("\nMedians of {rounds} rounds on {date}; {cpu}, {cores} cores.\n")
}

/// The README with its section written anew; `None` if it has no place for it.
pub fn with_section(readme: &str, results: &Results) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", section(results)))
}

/// What the picture draws: for each peer its bars, as the number of the case and the ratio.
pub fn bars(results: &Results) -> Vec<(&'static str, Vec<(usize, f64)>)> {
    let of_peer = |peer| {
        let cases = CASES.iter().enumerate().filter(|(_, case)| case.in_picture);
        let bars = cases.filter_map(|(number, case)| Some((number, results.ratio(case.name, peer)?)));
        (peer, bars.collect())
    };
    PEERS.into_iter().map(of_peer).collect()
}
