//! What the README shows of `results.json`: its table, and the figures of its picture. The root package's test of the
//! README compiles this file too, so it uses nothing but the standard library.

use std::path::Path;
use std::{fs, io};

/// A case of the README: its name in the file, its column's head, and what it is.
pub struct Case {
    pub name: &'static str,
    pub head: &'static str,
    pub words: &'static str,
    /// Which bar of the picture, if any: see `BARS` in picture.rs.
    pub bar: Option<usize>,
}

/// In C, and what the picture shows of them.
pub const IN_C: [Case; 6] = [
    Case { name: "pair of 4096", head: "pair", words: "4 KiB got, touched and put", bar: Some(0) },
    Case {
        name: "three buffers",
        head: "three",
        words: "16 KiB, 4 KiB and 512 bytes out at once",
        bar: Some(1),
    },
    Case {
        name: "three, two threads, CPU",
        head: "two threads",
        words: "the same on two threads",
        bar: None,
    },
    Case { name: "burst of 64 x 4096", head: "burst", words: "64 of 4 KiB got, then put", bar: None },
    Case {
        name: "random 256 x 4096",
        head: "random",
        words: "256 of 4 KiB out, one replaced at random",
        bar: None,
    },
    Case {
        name: "hand-over, CPU",
        head: "hand-over",
        words: "4 KiB got on one thread, put on another",
        bar: Some(2),
    },
];

pub const IN_RUST: [Case; 3] = [
    Case {
        name: "owner in Rust",
        head: "pair",
        words: "an owner of 4 KiB got, touched and dropped",
        bar: Some(0),
    },
    Case { name: "three owners in Rust", head: "three", words: "16 KiB, 4 KiB and 512 bytes", bar: Some(1) },
    Case {
        name: "owner through a channel, CPU",
        head: "channel",
        words: "an owner of 4 KiB sent to another thread and dropped there",
        bar: Some(2),
    },
];

/// What bytepool is compared with.
pub struct Peer {
    pub name: &'static str,
    /// What the README adds to the name.
    pub version: &'static str,
    /// What it finds of a wrong free or put, always on, and who says so.
    pub checks: &'static str,
    pub source: &'static str,
}

const fn peer(name: &'static str, version: &'static str, checks: &'static str, source: &'static str) -> Peer {
    Peer { name, version, checks, source }
}

/// Peers of one kind.
pub struct Group {
    pub head: &'static str,
    pub peers: &'static [Peer],
    pub cases: &'static [Case],
}

pub const GROUPS: [Group; 3] = [
    Group {
        head: "Allocators and pools that check little or nothing",
        cases: &IN_C,
        peers: &[
            peer("tcmalloc", "gperftools 2.10", "nothing on the fast path", "gperftools, `tcmalloc.cc`"),
            peer(
                "Google's tcmalloc",
                "crate 0.1.14",
                "nothing on the fast path; some double frees when a cache flushes",
                "tcmalloc, `central_freelist.cc`",
            ),
            peer("snmalloc", "0.7.6", "nothing; a build with checks exists", "snmalloc, `CMakeLists.txt`"),
            peer("mimalloc 3", "crate 0.1.49", "nothing; its secure mode does", "mimalloc, `free.c`"),
            peer("mimalloc", "2.0.9", "nothing; its secure mode does", "mimalloc, `free.c`"),
            peer("rpmalloc", "crate 0.2.3", "nothing; asserts are off", "rpmalloc, `rpmalloc.c`"),
            peer(
                "jemalloc",
                "5.3.0",
                "nothing; `--enable-opt-safety-checks` does",
                "jemalloc, `safety_check.h`",
            ),
            peer("DPDK", "22.11", "nothing; debug builds do", "DPDK, `rte_mempool.h`"),
            peer(
                "FFmpeg",
                "libavutil 57",
                "nothing; glibc, which frees its references, does",
                "FFmpeg, `buffer.c`",
            ),
            peer("std::pmr", "GCC 12", "nothing", "libstdc++, `memory_resource.cc`"),
        ],
    },
    Group {
        head: "Allocators that check frees",
        cases: &IN_C,
        peers: &[
            peer(
                "glibc",
                "2.36",
                "double frees by words in the freed block, alignment, some sizes",
                "glibc, `malloc.c`",
            ),
            peer(
                "Scudo",
                "crate 0.2.2",
                "double frees, foreign and misaligned pointers, sizes, headers overwritten, by a checksum",
                "LLVM, *Scudo Hardened Allocator*",
            ),
            peer(
                "hardened_malloc",
                "16, crate",
                "double and invalid frees, overflows by canaries, writes after the free",
                "GrapheneOS, `h_malloc.c`",
            ),
        ],
    },
    Group {
        head: "Owners in Rust",
        cases: &IN_RUST,
        peers: &[
            peer("commonware", "runtime 2026.9.0", "Rust's types", "`iobuf`"),
            peer("zeropool", "0.7", "Rust's types", "its documentation"),
            peer("BytesMut", "bytes 1, no pool", "Rust's types", "its documentation"),
        ],
    },
];

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

/// A table of peers that have the same cases; peers that the results do not have are left out.
fn table(results: &Results, cases: &[Case], groups: &[&Group]) -> String {
    let heads: Vec<&str> = cases.iter().map(|case| case.head).collect();
    let mut text =
        format!("| bytepool's time relative to | {} | what finds a wrong put |\n", heads.join(" | "));
    text += &format!("| --- |{} --- |\n", " --- |".repeat(cases.len()));
    for Peer { name, version, checks, source } in groups.iter().flat_map(|group| group.peers) {
        let ratios: Vec<_> = cases.iter().map(|case| results.ratio(case.name, name)).collect();
        if ratios.iter().any(Option::is_some) {
            let cells: Vec<_> = ratios.iter().map(|ratio| ratio.map_or("-".to_owned(), shown)).collect();
            text += &format!("| {name}, {version} | {} | {checks} ({source}) |\n", cells.join(" | "));
        }
    }
    text
}
/// What each column is, one on a line.
fn legend(cases: &[Case]) -> String {
    cases.iter().map(|Case { head, words, .. }| format!("- *{head}*: {words}\n")).collect()
}

/// What the README has between the two comments.
fn section(results: &Results) -> String {
    let [little, checked, owners] = &GROUPS;
    let mut text = format!("{}\n{}", table(results, &IN_C, &[little, checked]), legend(&IN_C));
    if let Some(ratio) = results.ratio("burst of 64, capacity 32", "glibc") {
        text += &format!("\nA burst of which half overflows takes {} of glibc's time.\n", shown(ratio));
    }
    if let Some(ratio) = results.ratio("headers of 256 live", "bytepool, colored") {
        text += &format!(
            "\nPackets: work on the headers of 256 buffers of 4 KiB takes {} times as long without coloring as with it.\n",
            shown(ratio)
        );
    }
    text += &format!("\n{}\n{}", table(results, &IN_RUST, &[owners]), legend(&IN_RUST));
    let [rounds, date, cpu, cores] = ["rounds", "date", "cpu", "cores"].map(|name| results.of_run(name));
    text + &format!("\nMedians of {rounds} rounds on {date}; {cpu}, {cores} cores.\n")
}

/// The README with its section written anew; `None` if it has no place for it.
pub fn with_section(readme: &str, results: &Results) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", section(results)))
}

/// A peer of the picture with its bars, each as its number and the ratio.
pub type Bars = (&'static str, Vec<(usize, f64)>);

/// What the picture draws: groups with their heads, and in each the peers that the results have.
pub fn bars(results: &Results) -> Vec<(&'static str, Vec<Bars>)> {
    let of_group = |group: &Group| {
        let of_peer = |peer: &'static Peer| {
            let bars =
                group.cases.iter().filter_map(|case| Some((case.bar?, results.ratio(case.name, peer.name)?)));
            (peer.name, bars.collect::<Vec<_>>())
        };
        let peers = group.peers.iter().map(of_peer).filter(|(_, bars)| !bars.is_empty()).collect();
        (group.head, peers)
    };
    GROUPS.iter().map(of_group).collect()
}

/// The picture as a link of the crate's documentation, which shows no other files.
pub fn link_with(picture: &str) -> String {
    format!("[speed]: data:image/svg+xml;base64,{}\n", base64(picture.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | three.get(at).map_or(0, |&byte| usize::from(byte)));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            text.push(if is_there { DIGITS[bits >> (18 - 6 * digit) & 63] as char } else { '=' });
        }
    }
    text
}
