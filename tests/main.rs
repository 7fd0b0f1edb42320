//! The program on real servers.

mod harness;
mod publication;
mod sequences;
mod subscription;
mod support;
