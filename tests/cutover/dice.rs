//! Moments that nobody chose.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Deals numbers; the same ones again with `SEED`.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("SEED is a number"),
            Err(_) => RandomState::new().hash_one("flare") | 1,
        };
        println!("SEED={seed}");
        Self(seed)
    }

    /// Xorshift: any sequence will do, as long as it is the same again.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("a place in the list")]
    }
}
