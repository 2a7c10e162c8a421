//! The README's speed table and picture show what the comparison with other allocators last wrote.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../benches/peers/src/readme.rs"]
mod speed;

use speed::{Results, bars, link_with, shown, with_section};

const AGAIN: &str = "run `cargo run --release --manifest-path benches/peers/Cargo.toml -- draw`";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn results() -> Results {
    Results::read(&file("benches/peers/results.json")).unwrap()
}

#[test]
fn the_speed_table_is_the_last_comparison() {
    let readme = fs::read_to_string(file("README.md")).unwrap();
    let anew = with_section(&readme, &results()).expect("the README has a place for the speed table");
    assert!(readme == anew, "the README's speed table is not of results.json: {AGAIN}");
    // What was compared is a table with figures.
    let figures = results().ratio("pair of 4096", "glibc").map(shown).expect("glibc is never missing");
    let row = readme.lines().find(|line| line.starts_with("| glibc,")).unwrap();
    assert!(row.contains(&format!("| {figures} |")), "{row} without {figures}");
}

#[test]
fn the_picture_has_the_figures_of_the_last_comparison() {
    let picture = fs::read_to_string(file("benches/peers/speed.svg")).unwrap();
    let readme = fs::read_to_string(file("README.md")).unwrap();
    assert!(
        readme.contains("][speed]") && readme.contains("\n[speed]: benches/peers/speed.svg\n"),
        "the README does not show the picture"
    );
    let link = fs::read_to_string(file("docs/speed.md")).unwrap();
    assert!(link == link_with(&picture), "the documentation shows another picture: {AGAIN}");
    // A text of the picture stands on a line of its own. The peers and their bars come last.
    let mut expected = Vec::new();
    for (head, peers) in bars(&results()).into_iter().filter(|(_, peers)| !peers.is_empty()) {
        expected.push(head.to_owned());
        for (peer, bars) in peers {
            expected.push(peer.to_owned());
            expected.extend(bars.into_iter().map(|(_, ratio)| shown(ratio)));
        }
    }
    let texts = picture.lines().filter(|line| !line.starts_with('<'));
    let texts: Vec<String> = texts.map(|text| text.replace("&apos;", "'")).collect();
    let first = texts.len().checked_sub(expected.len()).expect("the picture has all bars");
    assert_eq!(texts[first..], expected, "the picture is not of results.json: {AGAIN}");
}
