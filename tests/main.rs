//! The program on real servers.

mod attack;
mod exec;
mod harness;
mod init_config;
mod monitor;
mod support;
mod vacuum;
