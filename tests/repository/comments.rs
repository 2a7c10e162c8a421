//! Comments of the sources are wrapped by hand, at the width that CONTRIBUTING.md says.

use crate::layers::{root, sources};
use std::fs;

const WIDTH: usize = 120;

fn too_wide(line: &str) -> bool {
    line.trim_start().starts_with("//") && line.chars().count() > WIDTH
}

#[test]
fn no_comment_is_wider_than_the_rule() {
    let rules = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    assert!(rules.contains(&format!("comments wrapped by hand at {WIDTH} columns")));
    let mut wide = Vec::new();
    for file in sources(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let numbered = text.lines().enumerate().filter(|(_, line)| too_wide(line));
        wide.extend(numbered.map(|(number, _)| format!("{}:{}", file.display(), number + 1)));
    }
    assert!(wide.is_empty(), "comments wider than {WIDTH} columns:\n{}", wide.join("\n"));
}
