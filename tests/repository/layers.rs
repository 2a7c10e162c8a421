//! The layers of `src/`: each file names only its own layer and those below it, as DESIGN.md lists them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The most of all lines that one layer may have, in percent.
const MOST_PERCENT: usize = 35;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names of the modules of each layer, top first: the first words of the lines of DESIGN.md's list.
fn layers(design: &str) -> Vec<Vec<String>> {
    let section = design.split_once("\n## Layers\n").expect("DESIGN.md has a section Layers").1;
    let list = section.split("```").nth(1).expect("its list is a code block");
    let names =
        |line: &str| line.split("  ").next().map(|names| names.split(", ").map(String::from).collect());
    list.lines().skip(1).filter(|line| line.starts_with(char::is_alphabetic)).filter_map(names).collect()
}

/// All Rust files below a folder.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    files(folder, "rs")
}

/// All files below a folder whose names end so.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The path of modules that a file of `src/` is.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut names: Vec<String> = relative.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    names
}

/// The text with spaces in place of comments and of what stands between quotes.
fn without_comments_and_strings(text: &str) -> String {
    let mut left = text;
    let mut code = String::new();
    while let Some(next) = left.chars().next() {
        let skipped = match next {
            '/' if left.starts_with("//") => left.find('\n').unwrap_or(left.len()),
            '"' => {
                let mut end = 1;
                while !left[end..].starts_with('"') {
                    end += if left[end..].starts_with('\\') { 2 } else { 1 };
                    while !left.is_char_boundary(end) {
                        end += 1;
                    }
                }
                end + 1
            }
            '\'' if left.starts_with("'\"'") => 3,
            '\'' if left.starts_with("'\\") => 4,
            _ => 0,
        };
        if skipped > 0 {
            code.extend(left[..skipped].chars().filter(|&c| c == '\n'));
            code.push(' ');
            left = &left[skipped..];
        } else {
            code.push(next);
            left = &left[next.len_utf8()..];
        }
    }
    code
}

/// The words and signs of code, `::` as one.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut left = code.trim_start();
    while let Some(first) = left.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = if is_word(first) {
            left.find(|c| !is_word(c)).unwrap_or(left.len())
        } else if left.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&left[..len]);
        left = left[len..].trim_start();
    }
    tokens
}

/// The top module of every `crate::` and `super::` path of a file. `super` from a top module is the crate.
fn named_by(module: &[String], code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut inside: Vec<Option<&str>> = Vec::new();
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at] {
            // A module in the file is one `super` deeper.
            "{" => {
                let is_module = at >= 2 && tokens[at - 2] == "mod";
                inside.push(is_module.then(|| tokens[at - 1]));
            }
            "}" => _ = inside.pop(),
            word @ ("crate" | "super") if tokens.get(at + 1) == Some(&"::") => {
                let mut path: Vec<String> = match word {
                    "crate" => Vec::new(),
                    _ => {
                        module.iter().cloned().chain(inside.iter().flatten().map(|&m| m.to_owned())).collect()
                    }
                };
                let mut end = at;
                while tokens[end] == "super" && tokens[end + 1] == "::" {
                    assert!(path.pop().is_some(), "super:: leaves the crate in {module:?}");
                    end += 2;
                }
                if word == "crate" {
                    end += 2;
                }
                if let Some(top) = path.first() {
                    named.push(top.clone());
                } else if tokens[end] == "{" {
                    // A group: what stands at its first level.
                    let mut depth = 0;
                    for next in end..tokens.len() {
                        match tokens[next] {
                            "{" => depth += 1,
                            "}" => depth -= 1,
                            name if depth == 1 && matches!(tokens[next - 1], "{" | ",") => {
                                named.push(name.to_owned())
                            }
                            _ => {}
                        }
                        if depth == 0 {
                            break;
                        }
                    }
                } else {
                    named.push(tokens[end].to_owned());
                }
            }
            _ => {}
        }
        at += 1;
    }
    named
}

/// The layers' numbers by the names of their modules; the top one is 0.
fn numbers(layers: &[Vec<String>]) -> BTreeMap<&str, usize> {
    let of_layer = |(number, names): (usize, &'_ Vec<String>)| {
        names.iter().map(move |name| (name.clone(), number)).collect::<Vec<_>>()
    };
    let all: Vec<(String, usize)> = layers.iter().enumerate().flat_map(of_layer).collect();
    all.into_iter().map(|(name, number)| (&*name.leak(), number)).collect()
}

/// Each arrow that climbs, as a line.
fn climbing(numbers: &BTreeMap<&str, usize>, module: &[String], code: &str) -> Vec<String> {
    let own = numbers[module[0].as_str()];
    let climbs = |name: &String| numbers.get(name.as_str()).is_none_or(|&named| named < own);
    let named = named_by(module, &without_comments_and_strings(code));
    named.into_iter().filter(climbs).map(|name| format!("{} names {name}", module.join("::"))).collect()
}

#[test]
fn every_arrow_goes_down() {
    let layers = layers(&fs::read_to_string(root().join("DESIGN.md")).unwrap());
    let numbers = numbers(&layers);
    assert!(layers.len() >= 7, "{layers:?}");
    let mut lines = vec![0; layers.len()];
    let mut arrows = Vec::new();
    let src = root().join("src");
    for file in sources(&src).iter().filter(|file| **file != src.join("lib.rs")) {
        let (module, text) = (module_of(file), fs::read_to_string(file).unwrap());
        let Some(&number) = numbers.get(module[0].as_str()) else {
            panic!("{} is in no layer of DESIGN.md", file.display())
        };
        lines[number] += text.lines().count();
        arrows.extend(climbing(&numbers, &module, &text));
    }
    assert!(arrows.is_empty(), "arrows that climb:\n{}", arrows.join("\n"));
    let all: usize = lines.iter().sum();
    for (names, lines) in layers.iter().zip(&lines) {
        assert!(lines * 100 <= all * MOST_PERCENT, "{names:?} has {lines} of {all} lines");
    }
}

#[test]
fn an_arrow_that_climbs_is_seen_wherever_it_stands() {
    let layers = [["top"], ["middle"], ["bottom"]].map(|names| names.map(String::from).to_vec());
    let numbers = numbers(&layers);
    let module = ["middle", "file"].map(String::from);
    let seen = |code: &str| !climbing(&numbers, &module, code).is_empty();
    assert!(seen("use crate::top::Thing;"));
    assert!(seen("use crate::{bottom::Thing, top};"));
    assert!(seen("use crate::unknown::Thing;"));
    assert!(seen("fn f() { crate::top::call(\"crate::bottom\") }"));
    assert!(seen("fn f() { super::super::top::call() }"));
    assert!(seen("mod tests { use super::super::super::top; }"));
    assert!(seen("#[cfg(test)] mod tests { fn f() -> char { '\"' } use crate::top::Thing; }"));
    assert!(!seen("use crate::bottom::{self, top}; use super::top; use crate::middle::top;"));
    assert!(!seen("mod tests { use super::super::top; } fn f() { super::g() }"));
    assert!(!seen("// crate::top\nfn f(_: &str) { f(\"crate::top \\\" super::super::top\") }"));
}
