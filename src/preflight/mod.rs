//! What would go wrong: one file per family of pitfalls.

pub mod connectivity;
pub mod way;
