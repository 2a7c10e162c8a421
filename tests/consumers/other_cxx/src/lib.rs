//! Uses what bytepool's bridge uses of cxx too: a box, a slice, an error.

#[cxx::bridge(namespace = "other")]
mod ffi {
    extern "Rust" {
        type Sum;

        fn sum(numbers: &[u32]) -> Result<Box<Sum>>;
        fn text(self: &Sum) -> String;
    }
}

pub struct Sum(u32);

fn sum(numbers: &[u32]) -> Result<Box<Sum>, std::num::TryFromIntError> {
    let sum: u64 = numbers.iter().copied().map(u64::from).sum();
    Ok(Box::new(Sum(u32::try_from(sum)?)))
}

impl Sum {
    fn text(&self) -> String {
        format!("the sum is {}", self.0)
    }
}
