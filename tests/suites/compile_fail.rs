//! What must not compile in C++. Each file of `tests/ui` has one offending line, under `#ifdef MISUSE`, and a
//! right one in its place: with the right one it compiles without a warning; with the other one every
//! compiler refuses that very line, in words that the file's first line expects (`|` between alternatives).

#![cfg(all(unix, feature = "cxx"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Language, Outcome, WARNINGS, compile, compilers, include_path, root};

fn compile_case(compiler: &str, case: &Path, misuse: bool) -> Outcome {
    let mut command = Command::new(compiler);
    command.args(["-std=c++17", "-fsyntax-only"]).args(WARNINGS).arg(include_path());
    // Messages in plain English, one line each.
    command.env("LC_ALL", "C").arg(case);
    if misuse {
        command.arg("-DMISUSE");
    }
    compile(&mut command)
}

fn check_case(compiler: &str, case: &Path) -> Result<(), String> {
    let right = compile_case(compiler, case, false);
    if !right.succeeded() {
        return Err(format!("the twin that must compile does not: {}", right.describe()));
    }
    let text = fs::read_to_string(case).map_err(|error| error.to_string())?;
    let expected = text.lines().next().and_then(|line| line.strip_prefix("// error: "));
    let expected = expected.ok_or("the first line is not \"// error: words\"")?;
    let above = text.lines().position(|line| line == "#ifdef MISUSE").ok_or("no #ifdef MISUSE")?;
    // Counted from 1, and the line after it.
    let place = format!("{}:{}:", case.display(), above + 2);

    let wrong = compile_case(compiler, case, true);
    let errors: Vec<&str> = wrong.stderr.lines().filter(|line| line.contains("error: ")).collect();
    let is_expected =
        |line: &&str| line.starts_with(&place) && expected.split('|').any(|words| line.contains(words));
    match errors[..] {
        [] => Err(format!("{place} compiles with {compiler}")),
        [line] if is_expected(&line) => Ok(()),
        _ => Err(format!("expected one error, \"{expected}\", at {place}\n{}", wrong.describe())),
    }
}

fn failures(compiler: &str, cases: &[PathBuf]) -> Vec<String> {
    let failure = |case: &PathBuf| {
        let error = check_case(compiler, case).err()?;
        Some(format!("{} with {compiler}: {error}", case.display()))
    };
    cases.iter().filter_map(failure).collect()
}

#[test]
fn misuse_does_not_compile() {
    let folder = root().join("tests/ui");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("tests/ui is there")
        .map(|entry| entry.expect("a readable directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "only {} cases in {}", cases.len(), folder.display());
    let cases = cases.as_slice();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let compilers = compilers(Language::Cpp).into_iter();
        let running: Vec<_> =
            compilers.map(|compiler| scope.spawn(move || failures(compiler, cases))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
