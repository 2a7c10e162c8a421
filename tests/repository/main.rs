//! Suites that read what the packaged crate leaves out: `benches` and `tests/consumers`.

#[cfg(all(unix, feature = "cxx"))]
#[path = "../support/mod.rs"]
mod support;

mod comments;
mod examples;
mod glossary;
mod guide;
mod layers;
mod libraries;
mod readme;
