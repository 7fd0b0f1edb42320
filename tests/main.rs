//! The program on real servers.

mod extensions;
mod harness;
mod roles;
mod schema;
mod publication;
mod sequences;
mod subscription;
mod support;
