//! The families of checks: each a file with its questions, its judgements and its entries of the registry.

pub(super) mod capacity;
pub(super) mod databases;
pub(super) mod identity;
pub(super) mod subscription;
