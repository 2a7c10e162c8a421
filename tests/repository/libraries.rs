//! The guide's table and picture of other libraries show what `benches/libraries` last wrote.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../benches/libraries/src/guide.rs"]
mod shown;

use shown::{PAGE, PICTURE, RESULTS, Results, picture, with_section};

const AGAIN: &str = "run `cargo run --release --manifest-path benches/libraries/Cargo.toml -- draw`";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_guide_shows_the_last_results() {
    let results = Results::read(&file(RESULTS)).unwrap();
    let page = fs::read_to_string(file(PAGE)).unwrap();
    let anew = with_section(&page, &results).expect("the guide has a place for the table");
    assert!(page == anew, "the guide's table is not of {RESULTS}: {AGAIN}");
    // What is compared is a table with figures, and the picture is seen.
    assert!(page.lines().any(|line| line.starts_with("| zlib |") && line.matches('|').count() == 8));
    assert!(page.contains("](libraries.svg)") && PICTURE.ends_with("/libraries.svg"));
    let drawn = fs::read_to_string(file(PICTURE)).unwrap();
    assert!(drawn == picture(&results), "the picture is not of {RESULTS}: {AGAIN}");
}
