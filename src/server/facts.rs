//! What a server says of itself when a session opens: identity, version, TLS.

use super::{Endpoint, Session, params};
use crate::error::{Failure, Result};

/// The versions flare knows (`server_version_num` / 10000).
pub(crate) const KNOWN_MAJORS: std::ops::RangeInclusive<i32> = 10..=18;

/// What a server says of itself when a session opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `server_version_num`, such as 150018.
    pub(crate) version_num: i32,
    /// `server_version`, as people write it.
    pub(crate) version: String,
    /// Whether the role of this session is a superuser.
    pub(crate) superuser: bool,
    pub(crate) in_recovery: bool,
    /// The TLS version in use, none in clear.
    pub(crate) tls: Option<String>,
    /// Whether the options of the connection are the session's: a pooler keeps them back.
    pub(super) has_options: bool,
    /// This session's process.
    pub(crate) pid: i32,
    /// When that process started, in microseconds since 1970: with the pid it names the session for good.
    pub(crate) backend_start: i64,
}

/// Identity and version, the settings that only some versions have, and those that change once the login is over, in one
/// round trip. The function behind pg_stat_activity and pg_stat_ssl: the views cost a new session more than all the rest.
/// Without jit: to compile a question to the catalogs of thousands of tables takes longer than its answer.
const INTRODUCE: &str = "
    SELECT (SELECT system_identifier::text FROM pg_control_system()),
           current_setting('server_version_num')::int,
           current_setting('server_version'),
           current_setting('is_superuser') = 'on',
           pg_is_in_recovery(),
           sslversion,
           pid,
           (extract(epoch FROM backend_start) * 1000000)::bigint,
           current_setting('search_path') = 'pg_catalog' OR current_setting('extra_float_digits') = '3',
           CASE WHEN current_setting('idle_session_timeout', true) IS NOT NULL
                THEN set_config('idle_session_timeout', '0', false) END,
           CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
                THEN set_config('transaction_timeout', '0', false) END,
           CASE WHEN current_setting('client_connection_check_interval', true) IS NOT NULL
                THEN set_config('client_connection_check_interval', '0', false) END,
           CASE WHEN current_setting('jit', true) IS NOT NULL THEN set_config('jit', 'off', false) END,
           set_config('default_transaction_read_only', 'off', false)
      FROM pg_stat_get_activity(pg_backend_pid())";

impl Facts {
    /// The identity of the session's server, and the rest.
    pub(super) fn ask(session: &Session) -> Result<(String, Facts)> {
        let rows = session.rows(INTRODUCE, params![])?;
        let row = rows
            .first()
            .ok_or_else(|| Failure::new("the server said nothing of itself"))?;
        let facts = Facts {
            version_num: row.get(1),
            version: row.get(2),
            superuser: row.get(3),
            in_recovery: row.get(4),
            tls: row.get(5),
            pid: row.get(6),
            backend_start: row.get::<_, Option<i64>>(7).unwrap_or_default(),
            has_options: row.get(8),
        };
        Ok((row.get(0), facts))
    }

    /// The major version: 10 to 18. What is newer, and allowed, is treated as the newest known.
    pub(super) fn major(&self) -> i32 {
        self.release().min(*KNOWN_MAJORS.end())
    }

    /// The major version as it is, which the client programs go by.
    pub(super) fn release(&self) -> i32 {
        self.version_num / 10_000
    }

    /// A pooler that takes the options of a connection and keeps them to itself gives a statement of this session to one
    /// process of the server and the next to another.
    pub(super) fn refuse_pooler(&self, endpoint: &Endpoint) -> Result<()> {
        if self.has_options {
            return Ok(());
        }
        Failure::new(format!(
            "use the {endpoint}: the settings of this session have not arrived, as where a connection pooler answers in the server's place; nothing was changed"
        ))
        .hint(pooler_hint(endpoint))
        .err()
    }

    /// Older servers have no logical replication of their own; of newer ones flare knows nothing yet, and takes those that
    /// the configuration allows.
    pub(super) fn refuse_unknown_version(
        &self,
        endpoint: &Endpoint,
        allow_untested: &[i32],
    ) -> Result<()> {
        let major = self.release();
        let newer = major > *KNOWN_MAJORS.end();
        if KNOWN_MAJORS.contains(&major) || newer && allow_untested.contains(&major) {
            return Ok(());
        }
        let refused = Failure::new(format!(
            "use the {endpoint}: it runs PostgreSQL {}, and flare knows {} to {}",
            self.version,
            KNOWN_MAJORS.start(),
            KNOWN_MAJORS.end()
        ));
        let known = "use a flare that knows this version, or a server that this flare knows";
        if newer {
            refused.hint(format!(
                "{known}; allow_untested: [{major}] in the configuration treats it as {}",
                KNOWN_MAJORS.end()
            ))
        } else {
            refused.hint(known)
        }
        .err()
    }
}

/// What to do where a pooler answers.
pub(super) fn pooler_hint(endpoint: &Endpoint) -> String {
    format!(
        "hosts.{0}.conn needs the host and port of the server itself; a PgBouncer in front of it goes into cutover.poolers",
        endpoint.side
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_not_known_are_refused_by_name() {
        let endpoint = Endpoint {
            side: "publisher".into(),
            host: "old.example".into(),
            port: 5432,
            dbname: "postgres".into(),
            user: "adm".into(),
        };
        let of = |version_num: i32, version: &str| Facts {
            version_num,
            version: version.into(),
            superuser: true,
            in_recovery: false,
            tls: None,
            has_options: true,
            pid: 1,
            backend_start: 0,
        };
        for (known, words) in [(100_023, "10.23"), (180_004, "18.4")] {
            assert!(
                of(known, words)
                    .refuse_unknown_version(&endpoint, &[])
                    .is_ok()
            );
        }
        for (unknown, words) in [(90_624, "9.6.24"), (190_000, "19beta1")] {
            let report = of(unknown, words)
                .refuse_unknown_version(&endpoint, &[9, 20])
                .unwrap_err();
            let message = report.to_string();
            assert!(
                message.contains(words) && message.contains("old.example:5432"),
                "{message}"
            );
        }
        let allowed = of(190_002, "19.2");
        assert!(allowed.refuse_unknown_version(&endpoint, &[19]).is_ok());
        assert_eq!(allowed.major(), 18);
    }
}
