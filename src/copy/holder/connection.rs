//! Whether a process's connection still leads to its server: psql, which waits for a program, does not notice. Linux shows it
//! of TCP; elsewhere nothing is known.

use std::collections::BTreeSet;
use std::fs;

/// TCP_ESTABLISHED, as /proc/net/tcp has it.
const ESTABLISHED: &str = "01";

/// Whether one of the process's TCP connections is open on both ends.
pub(super) fn is_open(pid: u32) -> bool {
    let sockets = sockets(pid);
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|table| fs::read_to_string(table).is_ok_and(|table| holds_open(&table, &sockets)))
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
fn holds_open(table: &str, sockets: &BTreeSet<String>) -> bool {
    table.lines().any(|line| {
        let mut columns = line.split_whitespace();
        columns.nth(3) == Some(ESTABLISHED)
            && columns.nth(5).is_some_and(|inode| sockets.contains(inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_the_other_end_has_closed_is_not_open() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:A1B2 0100007F:1538 01 00000000:00000000 02:000005D3 00000000     0        0 4711 2 0 20 4 30 10 -1\n   \
            1: 0100007F:A1B4 0100007F:1538 08 00000000:00000001 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n";
        let holds = |inode: &str| holds_open(table, &BTreeSet::from([inode.to_owned()]));
        assert!(holds("4711"));
        assert!(!holds("4712") && !holds("4713"));
    }
}
