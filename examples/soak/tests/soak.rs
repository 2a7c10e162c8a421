//! A short soak, and the command line. CI runs a longer one.

use soak_example::cli;

fn run(arguments: &[&str]) -> Result<String, String> {
    let mut out = Vec::new();
    cli::run(arguments.iter().map(ToString::to_string).collect(), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_short_soak_loses_nothing_and_says_so() {
    let text = run(&["--seconds", "2", "--seed", "7"]).unwrap();
    let report = ["bytepool 0.", "target ", "compiler ", "system ", "cores ", "page size "];
    for part in report {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = text.lines().map(words).find(|line| line.starts_with(part));
        assert!(line.is_some_and(|line| !line.ends_with("not told")), "no {part:?} in\n{text}");
    }
    for part in ["--seed 7 ", "Rust operations", "C operations", "C++ operations", "No buffer was lost"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn wrong_arguments_are_told() {
    for (arguments, part) in [
        (&["--seconds"][..], "needs a number"),
        (&["--seed", "x"], "needs a number"),
        (&["--threads", "0"], "1 to 64"),
        (&["--what", "1"], "no option --what"),
    ] {
        let error = run(arguments).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert!(run(&["--help"]).unwrap().contains("usage: "));
}
