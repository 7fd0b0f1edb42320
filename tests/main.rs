//! The program on real servers.

mod attack;
mod exec;
mod extensions;
mod harness;
mod init_config;
mod install;
mod monitor;
mod pause;
mod publication;
mod roles;
mod schema;
mod sequences;
mod subscription;
mod support;
mod tls;
mod vacuum;
