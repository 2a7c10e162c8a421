//! Every public type and every public method of Rust has an example, and its documentation stands alone.

use crate::layers::{root, sources};
use std::fs;
use std::path::Path;

/// Plain accessors: they return what is there, and the example of their type shows it. Constants need none.
const ACCESSORS: [&str; 11] = [
    "Misuse::buffer_size",
    "Outstanding::thread_name",
    "Pool::alignment",
    "Pool::builder",
    "Pool::is_closed",
    "PooledBuffer::capacity",
    "PooledBuffer::is_empty",
    "PooledBuffer::len",
    "PooledBytes::is_empty",
    "PooledBytes::len",
    "Status::message",
];

/// What sends a reader elsewhere.
const HOPS: [&str; 4] = ["/// As [`", "/// - as [`", "Those of [`", "See the header"];

/// A public item that needs documentation of its own.
struct Item {
    name: String,
    docs: Vec<String>,
}

impl Item {
    fn has_example(&self) -> bool {
        self.docs.iter().any(|line| line == "/// ```")
    }

    /// The C functions: their module has an example for all, and the header others.
    fn is_of_c(&self) -> bool {
        self.name.starts_with("bytepool_")
    }
}

/// The public types, functions and methods of a file. Fields and variants are documented within their type.
fn items(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let (mut docs, mut owner) = (Vec::new(), String::new());
    for line in text.lines() {
        let code = line.trim_start();
        if code == "mod tests {" {
            break;
        }
        if let Some(named) = line.strip_prefix("impl") {
            let named =
                if named.starts_with('<') { named.split_once("> ").map_or("", |of| of.1) } else { named };
            owner = name_in(named.split(" for ").last().unwrap_or_default().trim_start());
        }
        if code.starts_with("///") {
            docs.push(code.to_owned());
        } else if let Some(declared) = declaration(code) {
            let is_method = line.starts_with(' ');
            let name = name_in(declared);
            let name = if is_method { format!("{owner}::{name}") } else { name };
            items.push(Item { name, docs: std::mem::take(&mut docs) });
        } else if !code.starts_with("#[") && !code.starts_with("//") {
            docs.clear();
        }
    }
    items
}

/// What follows `pub fn`, `pub struct` and so on.
fn declaration(code: &str) -> Option<&str> {
    let mut words = code.strip_prefix("pub ")?;
    for qualifier in ["unsafe ", "extern \"C\" "] {
        words = words.strip_prefix(qualifier).unwrap_or(words);
    }
    ["fn ", "struct ", "enum ", "type "].iter().find_map(|kind| words.strip_prefix(kind))
}

fn name_in(text: &str) -> String {
    text.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect()
}

/// The items that users see.
fn public_items() -> Vec<Item> {
    let src = root().join("src");
    let mut files = vec![src.join("error.rs"), src.join("debug/tracking.rs")];
    files.extend(["core/stats.rs", "core/pinned.rs"].map(|file| src.join(file)));
    files.extend(["pool", "ffi"].iter().flat_map(|folder| sources(&src.join(folder))));
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    files.iter().flat_map(|file| items(&read(file))).collect()
}

#[test]
fn every_public_item_has_an_example() {
    let items = public_items();
    assert!(items.len() > 100, "only {} public items were found", items.len());
    let without = items.iter().filter(|item| !item.has_example() && !item.is_of_c());
    let mut without: Vec<&str> = without.map(|item| item.name.as_str()).collect();
    without.sort_unstable();
    assert_eq!(without, ACCESSORS, "of {} public items", items.len());
}

#[test]
fn the_documentation_of_a_public_item_stands_alone() {
    let hops = |item: &Item| HOPS.iter().any(|hop| item.docs.iter().any(|line| line.contains(hop)));
    let sent = public_items().into_iter().filter(hops).map(|item| item.name).collect::<Vec<_>>();
    assert!(sent.is_empty(), "{} items send a reader elsewhere: {sent:?}", sent.len());
}

#[test]
fn items_and_their_examples_are_found() {
    let found = items(
        "/// A.\n///\n/// ```\n/// ```\n#[derive(Clone)]\npub struct A<'a> {\n    /// B.\n    pub b: u8,\n}\n\
         impl<'a> A<'a> {\n    /// C.\n    pub unsafe fn c(&self) {}\n    fn private() {}\n}\n\
         impl Drop for Other {\n    pub(crate) fn d() {}\n}\nmod tests {\n    pub fn e() {}\n}\n",
    );
    let found: Vec<_> = found.iter().map(|item| (item.name.as_str(), item.has_example())).collect();
    assert_eq!(found, [("A", true), ("A::c", false)]);
}
