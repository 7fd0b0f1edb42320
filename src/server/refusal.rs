//! Why a connection could not be opened, and what to do next.

use postgres::error::SqlState;

use super::facts::pooler_hint;
use super::{Endpoint, Side};
use crate::error::{Advise, Failure, Report};
use crate::value::{HostPort, Ident, ShellWord};

/// Password wrong, or no such role: a token from a command may have expired.
pub(crate) fn login_rejected(report: &Report) -> bool {
    let sqlstate = super::sqlstate_of(report);
    matches!(sqlstate, Some(state) if *state == SqlState::INVALID_PASSWORD || *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Only the publisher has to have it beforehand.
fn missing_database(endpoint: &Endpoint) -> String {
    let dbname = &endpoint.dbname;
    if dbname == "postgres" {
        "flare keeps its journal in the database postgres, which initdb makes and somebody has dropped: CREATE DATABASE postgres there, by way of template1".to_owned()
    } else if endpoint.side == Side::Subscriber.to_string() {
        format!(
            "flare prepare makes the database {dbname:?} there (flare replicate_schema {} by itself), or correct its name in the configuration",
            ShellWord(dbname)
        )
    } else {
        format!("correct the name of the database {dbname:?} in the configuration")
    }
}

/// Which of three limits is reached, by the function of the server that says so: all have one SQLSTATE, and the words are
/// in the server's language. A pooler names no function.
fn too_many(routine: Option<&str>, endpoint: &Endpoint) -> String {
    match routine {
        Some("InitializeSessionUserId") => format!(
            "the role's own limit is reached: ALTER ROLE {} CONNECTION LIMIT -1, or end some of its sessions",
            Ident::new(&endpoint.user)
        ),
        Some("CheckMyDatabase") => format!(
            "the database's own limit is reached: ALTER DATABASE {} CONNECTION LIMIT -1, or end some sessions there",
            Ident::new(&endpoint.dbname)
        ),
        Some(_) => "end some sessions there, or raise max_connections (a restart)".to_owned(),
        None => "end some sessions there, or raise max_connections (a restart) where the connection limit of neither role nor database is what is reached".to_owned(),
    }
}

/// PgBouncer and RDS Proxy refuse the options of a connection, in these words and in no other language.
fn is_of_pooler(words: &str) -> bool {
    words.contains("unsupported startup parameter") || words.contains("RDS Proxy")
}

/// What to do next about a connection that failed.
pub(super) fn advise(report: Report, endpoint: &Endpoint) -> Report {
    let state = super::sqlstate_of(&report);
    let hint = if report.downcast_ref::<Failure>().is_some() {
        return report;
    } else if login_rejected(&report) {
        format!(
            "check the password of {:?} in the configuration and pg_hba.conf of the server",
            endpoint.user
        )
    } else if state == Some(&SqlState::INVALID_CATALOG_NAME) {
        missing_database(endpoint)
    } else if state == Some(&SqlState::TOO_MANY_CONNECTIONS) {
        too_many(super::failure::routine_of(&report), endpoint)
    } else if state == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        format!(
            "{:?} may not connect there: during a pause, and on a server that a cutover left, nobody may (flare status); else GRANT it CONNECT ON DATABASE",
            endpoint.user
        )
    } else if crate::error::message_of(&report).contains("TLS") {
        "the server and this side do not agree on TLS: compare sslmode, sslrootcert, sslcert and host in the configuration with the server's ssl settings and certificate".to_owned()
    } else if is_of_pooler(&crate::error::message_of(&report)) {
        pooler_hint(endpoint)
    } else if state.is_some() {
        "mend what the server says, and run the command again".to_owned()
    } else {
        format!(
            "check that the server runs and that {} can be reached from here (firewall, security group, tunnel, TLS)",
            HostPort(&endpoint.host, endpoint.port)
        )
    };
    Err::<(), _>(report).hint(|| hint).unwrap_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(side: &str, dbname: &str) -> Endpoint {
        Endpoint {
            side: side.into(),
            host: "h".into(),
            port: 5432,
            dbname: dbname.into(),
            user: "o\"o".into(),
        }
    }

    #[test]
    fn a_database_that_is_missing_is_made_by_whoever_makes_it() {
        let hint = |side, dbname| missing_database(&endpoint(side, dbname));
        assert!(hint("subscriber", "d").contains("flare prepare"));
        assert!(hint("publisher", "d").contains("correct the name"));
        for side in ["subscriber", "publisher"] {
            assert!(hint(side, "postgres").contains("CREATE DATABASE postgres"));
        }
    }

    #[test]
    fn the_limit_that_is_reached_is_the_one_to_raise() {
        let endpoint = endpoint("publisher", "d");
        let hint = |routine| too_many(Some(routine), &endpoint);
        assert!(hint("InitializeSessionUserId").contains(r#"ALTER ROLE "o""o""#));
        assert!(hint("CheckMyDatabase").contains("ALTER DATABASE"));
        assert!(hint("InitProcess").contains("max_connections"));
        assert!(too_many(None, &endpoint).contains("neither role nor database"));
    }
}
