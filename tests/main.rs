//! The program on real servers.

mod attack;
mod exec;
mod extensions;
mod harness;
mod init_config;
mod lag;
mod monitor;
mod pause;
mod prepare;
mod publication;
mod roles;
mod schema;
mod sequences;
mod subscription;
mod support;
mod tls;
mod vacuum;
