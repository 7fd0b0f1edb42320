//! The program on real servers.

mod harness;
mod support;
