//! A pool of Rust in C++ through this project's own bridge, and an error of C++ through it to Rust.

use bytepool::Pool;

#[cxx::bridge(namespace = "consumer")]
mod ffi {
    unsafe extern "C++" {
        include!("bytepool-cxx-consumer/src/reverse.h");

        #[namespace = "bytepool"]
        type Pool = bytepool::Pool;

        /// The text reversed, by way of a buffer of the pool; an error for an empty one.
        fn reverse(pool: &Pool, text: &str) -> Result<String>;
    }
}

fn main() {
    let pool = Pool::builder().size_class(64, 4).build().unwrap();
    assert_eq!(ffi::reverse(&pool, "bytepool").unwrap(), "loopetyb");
    let error = ffi::reverse(&pool, "").unwrap_err().to_string();
    assert!(error.contains("nothing to reverse"), "{error}");
    pool.close();
    let error = ffi::reverse(&pool, "bytepool").unwrap_err().to_string();
    assert!(error.contains("closed"), "{error}");

    let stats = pool.stats();
    // An argument makes this wrong on purpose, which shows that it can fail.
    let expected = if std::env::args().len() > 1 { 2 } else { 1 };
    assert_eq!((stats.gets, stats.puts), (expected, expected));
    println!("ok");
}
