//! The program on real servers.

mod harness;
mod pause;
mod publication;
mod sequences;
mod subscription;
mod support;
