//! Nothing is left behind: what publication and subscription do not carry is known by name.

mod drift;
