//! The program on real servers.

mod attack;
mod exec;
mod extensions;
mod fixtures;
mod harness;
mod identity;
mod init_config;
mod library;
mod monitor;
mod pause;
mod publication;
mod rds;
mod readme;
mod roles;
mod schema;
mod secrets;
mod sequences;
mod subscription;
mod support;
mod tls;
mod vacuum;
mod walk;
