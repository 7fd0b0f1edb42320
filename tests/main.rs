//! The program on real servers.

mod answers;
mod attack;
mod commands;
mod exec;
mod extensions;
mod frozen;
mod halfway;
mod harness;
mod identity;
mod init_config;
mod locks;
mod monitor;
mod names;
mod one_server;
mod pause;
mod publication;
mod repeat;
mod roles;
mod schema;
mod secrets;
mod sequences;
mod subscription;
mod support;
mod tls;
mod trouble;
mod vacuum;
