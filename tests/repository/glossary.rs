//! DESIGN.md's table of words names every concept of get and put, few enough to hold in mind, and the sources use them.

use crate::layers::{root, sources};
use std::fs;

/// The most rows that it may have.
const MOST_ROWS: usize = 40;

/// The rows of the table of the section *Words*: the words of the first column, and what the second says.
fn rows(design: &str) -> Vec<(Vec<&str>, &str)> {
    let section = design.split_once("\n## Words\n").expect("DESIGN.md has a section Words").1;
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
    let cells = rows.filter_map(|row| row.strip_suffix(" |")?.split_once(" | "));
    cells
        .filter(|(words, _)| *words != "---")
        .map(|(words, says)| (words.split(" / ").collect(), says))
        .collect()
}

/// The words that an explanation explains besides, in bold.
fn explained(says: &str) -> impl Iterator<Item = &str> {
    says.split("**").skip(1).step_by(2)
}

/// Whether code or comments have a word, as `size class`, `size_class` or `SizeClass`.
fn uses(source: &str, word: &str) -> bool {
    let word = word.to_lowercase();
    ["_", " ", ""].iter().any(|space| source.contains(&word.replace(' ', space)))
}

fn source() -> String {
    let read = |file| fs::read_to_string(file).unwrap();
    let lines = sources(&root().join("src")).into_iter().map(read).collect::<String>();
    // A comment may break the line between two words.
    lines
        .lines()
        .map(|line| line.trim_start().trim_start_matches('/'))
        .collect::<Vec<_>>()
        .join("")
        .to_lowercase()
}

#[test]
fn the_glossary_has_few_words_and_each_is_used() {
    let design = fs::read_to_string(root().join("DESIGN.md")).unwrap();
    let (rows, source) = (rows(&design), source());
    assert!((20..=MOST_ROWS).contains(&rows.len()), "{} rows, and at most {MOST_ROWS} may be", rows.len());
    let words = rows.iter().flat_map(|(words, says)| words.iter().copied().chain(explained(says)));
    let unused: Vec<&str> = words.filter(|word| !uses(&source, word)).collect();
    assert!(unused.is_empty(), "words that src/ does not use: {unused:?}");
}

#[test]
fn a_table_is_read_whole() {
    let design = "# D\n\n## Words\n\n| word | meaning |\n| --- | --- |\n| get / put | take **one** / give |\n| a b | c **d e** |\n\n## Next\n| x | y |\n";
    let read = rows(design);
    assert_eq!(
        read.iter().map(|(words, _)| words.clone()).collect::<Vec<_>>(),
        [vec!["get", "put"], vec!["a b"]]
    );
    assert_eq!(read.iter().flat_map(|(_, says)| explained(says)).collect::<Vec<_>>(), ["one", "d e"]);
    assert!(uses("struct sizeclass", "size class") && uses("a size_class", "Size class"));
    assert!(!uses("size of a class", "size class"));
}
