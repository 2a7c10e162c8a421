//! The README's speed table is what the comparison with other allocators last wrote.

use std::fs;
use std::path::Path;

/// The ratio of medians for a case and a peer, from the file's text: one comparison is one object, its fields
/// in alphabetical order.
fn ratio(results: &str, case: &str, peer: &str) -> f64 {
    let (against, case) = (format!("\"against\": \"{peer}\""), format!("\"case\": \"{case}\""));
    let comparison = results.split('{').find(|object| object.contains(&against) && object.contains(&case));
    let comparison = comparison.unwrap_or_else(|| panic!("no comparison of {case} against {peer}"));
    let value =
        comparison.split("\"value\":").nth(1).and_then(|rest| rest.split([',', '\n']).next()).unwrap();
    value.trim().parse().unwrap()
}

#[test]
fn the_speed_table_is_the_last_comparison() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let results = fs::read_to_string(root.join("benches/peers/results.json")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = readme.lines().skip_while(|line| !line.starts_with("| time relative to")).map(cells);
    let peers = lines.next().expect("the README has a speed table");
    let cases = ["pair of 4096", "three buffers", "random 256 x 4096"];
    for (case, row) in cases.iter().zip(lines.skip(1)) {
        assert_eq!(row.len(), peers.len(), "{row:?}");
        for (peer, cell) in peers.iter().zip(row).skip(1) {
            assert_eq!(cell, format!("{:.2}", ratio(&results, case, peer)), "{case} against {peer}");
        }
    }
}
