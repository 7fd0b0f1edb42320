//! Where a session goes, as people and errors name it, and the one address that was verified.

use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use serde::Serialize;

use super::Side;
use crate::config::Host;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::value::HostPort;

/// One session's whereabouts: side, host, port, database and user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// `publisher`, `subscriber`, or what else this server is to flare.
    pub side: String,
    /// The host of the configuration.
    pub host: String,
    /// The port of the configuration.
    pub port: u16,
    /// The database.
    pub dbname: String,
    /// The role that logs in.
    pub user: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint {
            side,
            host,
            port,
            dbname,
            user,
        } = self;
        write!(
            f,
            "{side} {} (database {dbname:?}, user {user:?})",
            HostPort(host, *port)
        )
    }
}

/// The address behind a host name: all sessions and tools of a run go to the one that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(IpAddr),
    /// A directory with a Unix-domain socket, for a host that starts with a slash.
    Unix(PathBuf),
}

/// Every address the host of the configuration stands for, in the resolver's order.
pub(crate) fn addresses_of(side: Side, host: &Host) -> Result<Vec<Address>> {
    if host.host.starts_with('/') {
        return Ok(vec![Address::Unix(PathBuf::from(&host.host))]);
    }
    if let Some(address) = host.hostaddr {
        return Ok(vec![Address::Tcp(address)]);
    }
    let resolved = (host.host.as_str(), host.port)
        .to_socket_addrs()
        .wrap_err_with(|| format!("look up the {side}'s host {:?}", host.host))
        .hint(|| "check hosts.*.conn.host in the configuration".into())?;
    let mut addresses: Vec<Address> = Vec::new();
    for address in resolved.map(|socket| Address::Tcp(socket.ip())) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Failure::new(format!(
            "look up the {side}'s host {:?}: it has no address",
            host.host
        ))
        .err()
    } else {
        Ok(addresses)
    }
}
