//! The program on real servers.

mod extensions;
mod harness;
mod pause;
mod publication;
mod roles;
mod schema;
mod sequences;
mod subscription;
mod support;
