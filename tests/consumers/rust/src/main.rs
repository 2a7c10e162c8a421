//! bytepool from outside its repository: a pool shared by threads, every byte checked.

use bytepool::Pool;

fn main() {
    let pool = Pool::builder().size_class(512, 100).size_class(4096, 100).build().unwrap();
    let threads: Vec<_> = (1..=4u8)
        .map(|mark| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                for size in 1..5000 {
                    let mut buffer = pool.get(size).unwrap();
                    buffer.fill(mark);
                    assert!(buffer.iter().all(|&byte| byte == mark));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = pool.stats();
    // An argument makes this wrong on purpose, which shows that it can fail.
    let threads = if std::env::args().len() > 1 { 5 } else { 4 };
    assert_eq!((stats.gets, stats.puts), (threads * 4999, threads * 4999));
    println!("ok");
}
