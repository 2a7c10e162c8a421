//! The guide's Rust code, tested as documentation of a project outside the repository.

macro_rules! pages {
    ($($name:ident: $path:literal),*) => {
        $(#[doc = include_str!(concat!("../../bytepool/docs/guide/", $path))]
        pub mod $name {})*
    };
}

pages! {
    from_cgobytepool: "from-cgobytepool.md",
    size_classes: "size-classes.md",
    languages: "languages.md",
    rust: "rust.md"
}
