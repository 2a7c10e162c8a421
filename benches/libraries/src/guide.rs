//! What the guide shows of `results.json`: a table and a picture. The root package's test of the guide compiles this
//! file too, so it uses nothing but the standard library.

use std::path::Path;
use std::{fs, io};

pub const RESULTS: &str = "benches/libraries/results.json";
pub const PAGE: &str = "docs/guide/adapters.md";
pub const PICTURE: &str = "docs/guide/libraries.svg";

const BEGIN: &str = "<!-- libraries: written by benches/libraries -->\n\n";
const END: &str = "\n<!-- end of libraries -->\n";

/// The text of `results.json`, in which each library has a line.
pub struct Results(String);

impl Results {
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::read_to_string(path).map(Self)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.0.lines().filter(|line| line.contains("\"library\"")).map(Row)
    }

    /// A field of the whole run.
    fn of_run(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(&format!("  \"{name}\": ")));
        line.unwrap_or_else(|| panic!("the results have no {name}")).trim_matches([',', '"'])
    }
}

/// A library's line.
struct Row<'a>(&'a str);

impl<'a> Row<'a> {
    fn field(&self, name: &str) -> &'a str {
        let after =
            self.0.split_once(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("no {name}: {}", self.0)).1;
        match after.strip_prefix('"') {
            Some(text) => text.split('"').next(),
            None => after.split([',', ' ']).next(),
        }
        .expect("a split has a first part")
    }

    fn number(&self, name: &str) -> f64 {
        self.field(name).parse().unwrap_or_else(|_| panic!("{name} is no number: {}", self.0))
    }

    fn time(&self) -> f64 {
        self.number("time")
    }

    fn memory(&self) -> f64 {
        self.number("mapped") / self.number("asked")
    }
}

/// What the guide has between the two comments.
pub fn section(results: &Results) -> String {
    let mut text = "| library | job | malloc, ms | time | asked for, KB | mapped | books, KB |\n".to_owned();
    text += "| --- | --- | --- | --- | --- | --- | --- |\n";
    for row in results.rows() {
        let [library, job] = ["library", "job"].map(|name| row.field(name));
        let kilobytes = |name| row.number(name) / 1000.0;
        text += &format!(
            "| {library} | {job} | {:.1} | {:.2} | {:.0} | {:.2} | {:.0} |\n",
            row.number("malloc_ms"),
            row.time(),
            kilobytes("asked"),
            row.memory(),
            kilobytes("books"),
        );
    }
    let of_all = |mut ratios: Vec<f64>| {
        ratios.sort_by(f64::total_cmp);
        format!("{:.2} in the median and {:.2} at worst", ratios[ratios.len() / 2], ratios[ratios.len() - 1])
    };
    let [rounds, date, cpu, cores] = ["rounds", "date", "cpu", "cores"].map(|name| results.of_run(name));
    text + &format!(
        "\nTime is {}; mapped is {}.\nMedians of {rounds} rounds on {date}; {cpu}, {cores} cores.\n",
        of_all(results.rows().map(|row| row.time()).collect()),
        of_all(results.rows().map(|row| row.memory()).collect())
    )
}

/// The page with its section written anew; `None` if it has no place for it.
pub fn with_section(page: &str, results: &Results) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", section(results)))
}

/// Two bars for each library, from 0 to its ratios, and a line at 1.
pub fn picture(results: &Results) -> String {
    const LEFT: f64 = 130.0;
    const UNIT: f64 = 300.0;
    const BAR: f64 = 11.0;
    // The first of these as well for text: both are read on white as on black.
    const GREY: &str = "#797979";
    const KINDS: [(&str, &str); 2] =
        [("time relative to malloc's", "#3b82c4"), ("mapped relative to asked for", "#b3702a")];
    let text = |x: f64, y: f64, anchor: &str, words: &str| {
        format!(
            "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\" fill=\"{GREY}\">\n{words}\n</text>\n"
        )
    };
    let mut drawn = String::new();
    let mut y = 6.0;
    for (words, colour) in KINDS {
        drawn += &format!("<rect x=\"{LEFT}\" y=\"{y}\" width=\"11\" height=\"{BAR}\" fill=\"{colour}\"/>\n");
        drawn += &text(LEFT + 18.0, y + 10.0, "start", words);
        y += 18.0;
    }
    let top = y;
    for row in results.rows() {
        y += 8.0;
        drawn += &text(LEFT - 8.0, y + 15.0, "end", row.field("library"));
        for (ratio, (_, colour)) in [row.time(), row.memory()].into_iter().zip(KINDS) {
            let width = ratio * UNIT;
            drawn += &format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.0}\" height=\"{BAR}\" fill=\"{colour}\"/>\n"
            );
            drawn += &text(LEFT + width + 5.0, y + 10.0, "start", &format!("{ratio:.2}"));
            y += BAR + 1.0;
        }
    }
    let one = LEFT + UNIT;
    drawn += &format!("<path d=\"M{one} {top}V{y}\" stroke=\"{GREY}\"/>\n");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n{drawn}</svg>\n",
        y + 8.0
    )
}
