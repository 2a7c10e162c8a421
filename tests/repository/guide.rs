//! The C and C++ code of the guide and the README compiles without a warning, and its programs run. The guide's Rust
//! code is tested by `tests/consumers/rust`, from outside the repository; the README's is the crate's own.

#![cfg(all(unix, feature = "cxx"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::libraries::{Flags, flags_of, library_of};
use crate::support::{Language, WARNINGS, compile, compiler, include_path, link, root, run, scratch, start};

/// A block of code: what its fence says after the backticks, and the lines between.
struct Block {
    line: usize,
    kind: String,
    code: String,
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, text) in text.lines().enumerate() {
        match (text.strip_prefix("```"), open.take()) {
            (Some(kind), None) => {
                open = Some(Block { line: line + 1, kind: kind.to_owned(), code: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.code += text;
                block.code.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block has no end", page.display());
    blocks
}

/// What another library takes that the block uses. `None` if it is not installed, which is said.
fn flags_for(page: &str, block: &Block) -> Option<Flags> {
    let included = block.code.lines().filter_map(|line| line.strip_prefix("#include <")?.strip_suffix('>'));
    match library_of(included) {
        Some(header) => flags_of(header, &format!("{page}.md, line {}", block.line)),
        None => Some(Flags { compile: Vec::new(), link: Vec::new() }),
    }
}

/// Compiles the block alone; runs it if it is a program.
fn check(page: &str, block: &Block, language: Language) {
    let Some(flags) = flags_for(page, block) else { return };
    let (extension, standard) = if language == Language::C { ("c", "c11") } else { ("cpp", "c++17") };
    let folder = scratch(page);
    let source = folder.join(format!("line-{}.{extension}", block.line));
    let object = source.with_extension("o");
    fs::write(&source, &block.code).expect("the scratch folder is writable");
    let mut command = compiler(language);
    command.arg(format!("-std={standard}")).args(WARNINGS).arg("-Wmissing-declarations").arg(include_path());
    command.args(&flags.compile);
    compile(command.arg("-c").arg(&source).arg("-o").arg(&object)).assert_succeeded();
    if block.code.contains("int main(") {
        let program = source.with_extension("");
        let mut linker = compiler(Language::Cpp);
        if !flags.link.is_empty() {
            // Before what needs them.
            linker.arg("-Wl,--no-as-needed").args(&flags.link);
        }
        link(linker, &[object], &program);
        let mut program = start(program);
        if block.code.contains("#include <Python.h>") {
            // An interpreter finds its modules beside the first python3 here: Debian's.
            program.env("PATH", "/usr/bin:/bin");
        }
        run(&mut program, Duration::from_secs(60)).assert_succeeded();
    }
}

#[test]
fn the_guide_s_c_and_cpp_code_works() {
    let folder = fs::read_dir(root().join("docs/guide")).expect("the guide is there");
    let mut pages: Vec<PathBuf> = folder.map(|entry| entry.expect("a readable entry").path()).collect();
    pages.sort();
    let rust_tests = fs::read_to_string(root().join("tests/consumers/rust/src/lib.rs")).expect("it is there");
    let mut checked = [0, 0];
    for page in &pages {
        let name = page.file_stem().expect("a page has a name").to_str().expect("and it is UTF-8");
        for block in blocks(page) {
            match block.kind.as_str() {
                "c" => {
                    check(name, &block, Language::C);
                    checked[0] += 1;
                }
                "cpp" => {
                    check(name, &block, Language::Cpp);
                    checked[1] += 1;
                }
                "rust" => assert!(
                    rust_tests.contains(&format!("\"{name}.md\"")),
                    "{name}.md has Rust code, and tests/consumers/rust does not test it"
                ),
                "c ignore" | "rust,ignore" | "sh" | "cmake" => {}
                other => panic!("{name}.md, line {}: what is a block of \"{other}\"?", block.line),
            }
        }
    }
    assert!(checked.iter().all(|&count| count > 0), "the guide has no code any more: {checked:?}");
}

/// The README's are parts of programs: here each is one, with the headers that it leaves out.
#[test]
fn the_readme_s_c_and_cpp_code_works() {
    let mut checked = 0;
    for block in blocks(&root().join("README.md")) {
        let (language, headers) = match block.kind.as_str() {
            "c" => (Language::C, "#include <string.h>\n"),
            "cpp" => (Language::Cpp, "#include <cstring>\n#include <vector>\n"),
            _ => continue,
        };
        let (includes, body): (Vec<&str>, Vec<&str>) =
            block.code.lines().partition(|line| line.starts_with("#include"));
        let code = format!("{headers}{}\nint main(void) {{\n{}\n}}\n", includes.join("\n"), body.join("\n"));
        check("README", &Block { code, ..block }, language);
        checked += 1;
    }
    assert_eq!(checked, 2);
}

/// Every page is in the index, and every entry of the index is a page.
#[test]
fn the_guide_s_index_is_complete() {
    let folder = root().join("docs/guide");
    let index = fs::read_to_string(folder.join("README.md")).expect("the guide has an index");
    let mut listed: Vec<&str> =
        index.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to).collect();
    listed.sort_unstable();
    let entries = fs::read_dir(&folder).expect("the guide is there");
    let names =
        entries.map(|entry| entry.expect("a readable entry").file_name().into_string().expect("UTF-8"));
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md") && name != "README.md").collect();
    pages.sort_unstable();
    assert_eq!(listed, pages);
}
