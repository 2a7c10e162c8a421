//! Comments of the sources and of the headers are wrapped by hand, at the width that CONTRIBUTING.md says.

use crate::layers::{files, root};
use std::fs;

const WIDTH: usize = 120;

fn too_wide(line: &str) -> bool {
    ["//", "/*", "* "].iter().any(|start| line.trim_start().starts_with(start))
        && line.chars().count() > WIDTH
}

#[test]
fn no_comment_is_wider_than_the_rule() {
    let rules = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    assert!(rules.contains(&format!("comments wrapped by hand at {WIDTH} columns")));
    let mut wide = Vec::new();
    let folders = [
        ("src", "rs"),
        ("include", "h"),
        ("include", "hpp"),
        ("cpp", "cc"),
        ("tests/c", "c"),
        ("tests/cpp", "cpp"),
    ];
    for file in folders.into_iter().flat_map(|(folder, extension)| files(&root().join(folder), extension)) {
        let text = fs::read_to_string(&file).unwrap();
        let numbered = text.lines().enumerate().filter(|(_, line)| too_wide(line));
        wide.extend(numbered.map(|(number, _)| format!("{}:{}", file.display(), number + 1)));
    }
    assert!(wide.is_empty(), "comments wider than {WIDTH} columns:\n{}", wide.join("\n"));
}
