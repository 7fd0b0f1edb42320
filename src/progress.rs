//! What long work reports to. The library prints nothing itself: it tells whoever listens.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of data.
    Bytes,
    /// Tables.
    Tables,
    /// Anything else that is counted one by one.
    Items,
}

/// Hears what a run is about to touch, which step it is at, and how far long work has come.
pub trait Progress: Send + Sync {
    /// Said before the first change: what is about to be touched, and where.
    fn announce(&self, line: &str);
    /// A step has been taken, in words for a person.
    fn step(&self, line: &str);
    /// Long work is at `done` of `total`; repeated as often as the worker likes, the last time with `done == total`.
    fn advance(&self, what: &str, done: u64, total: u64, unit: Unit);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn announce(&self, _: &str) {}
    fn step(&self, _: &str) {}
    fn advance(&self, _: &str, _: u64, _: u64, _: Unit) {}
}
