//! Whether a process's connection still leads to its server: psql, which waits for a program, does not notice. Linux shows it
//! of TCP; elsewhere nothing is known.

use std::collections::BTreeSet;
use std::fs;

/// TCP_ESTABLISHED and TCP_CLOSE_WAIT, as /proc/net/tcp has them.
const ESTABLISHED: &str = "01";
const CLOSED_BY_THE_OTHER_END: &str = "08";

/// What is seen of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Open,
    Closed,
    /// It is not TCP, not there yet, or gone with a reset.
    Nothing,
}

/// What is seen of the process's TCP connection.
pub(super) fn of(pid: u32) -> Seen {
    let sockets = sockets(pid);
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| {
        let table = fs::read_to_string(table).unwrap_or_default();
        read(&table, &sockets)
    });
    let found = |seen: Seen| tables.contains(&seen).then_some(seen);
    found(Seen::Open)
        .or(found(Seen::Closed))
        .unwrap_or(Seen::Nothing)
}

/// The inodes of the sockets that it has open.
fn sockets(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

/// The state is the fourth column, the inode the tenth.
fn read(table: &str, sockets: &BTreeSet<String>) -> Seen {
    let states = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let state = columns.nth(3)?;
        sockets.contains(columns.nth(5)?).then_some(state)
    });
    let states: Vec<&str> = states.collect();
    if states.contains(&ESTABLISHED) {
        Seen::Open
    } else if states.contains(&CLOSED_BY_THE_OTHER_END) {
        Seen::Closed
    } else {
        Seen::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_the_other_end_has_closed_is_not_open() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:A1B2 0100007F:1538 01 00000000:00000000 02:000005D3 00000000     0        0 4711 2 0 20 4 30 10 -1\n   \
            1: 0100007F:A1B4 0100007F:1538 08 00000000:00000001 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n";
        let seen = |inode: &str| read(table, &BTreeSet::from([inode.to_owned()]));
        assert_eq!(seen("4711"), Seen::Open);
        assert_eq!(seen("4712"), Seen::Closed);
        assert_eq!(seen("4713"), Seen::Nothing);
    }
}
