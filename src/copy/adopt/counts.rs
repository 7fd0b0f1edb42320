//! When the counts of tables hold what sessions have written.

use std::time::Duration;

/// Other sessions of clients in this database, and whether such a session reports what it has counted while it is idle: from 15
/// on, within ten seconds; before, with its next transaction or its end.
pub(super) const SESSIONS: &str = "
    SELECT EXISTS (SELECT FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                      AND coalesce(backend_type, 'client backend') = 'client backend' AND application_name NOT LIKE 'flare/%'),
           current_setting('server_version_num')::int >= 150000";

/// What to say where a session may have written rows that are not counted yet.
pub(super) const UNCOUNTED: &str = "clients are connected to the clone: what they wrote last is not counted before they disconnect, and was not looked for";

/// How long to wait: a session that has ended has reported, and the collector (before 15) writes that down within half a second.
pub(super) fn wait(clients: bool, report_idle: bool) -> Duration {
    if clients && report_idle {
        Duration::from_millis(10_600)
    } else {
        Duration::from_millis(600)
    }
}
