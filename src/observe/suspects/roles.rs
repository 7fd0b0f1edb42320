//! Who sends and who writes: whether they can log in and may do it, and whether there is room for them.

use serde::Deserialize;

use super::{Stopped, Suspect, SuspectKind, briefly, suspect};
use crate::error::Result;
use crate::server::{Session, Side, params};
use crate::value::{Ident, Lsn};

/// The subscription, by what everybody may read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Subscription {
    pub(super) owner: String,
    pub(super) subslotname: Option<String>,
    pub(super) subpublications: Vec<String>,
    /// Whether rows are written as its owner: always before 16.
    pub(super) runs_as_owner: bool,
    /// Up to here the publisher's transactions are applied; none where the role may not see it.
    #[serde(skip)]
    pub(super) applied: Option<Lsn>,
}

pub(super) fn major(session: &Session) -> Result<i32> {
    session.value(
        "SELECT current_setting('server_version_num')::int / 10000",
        params![],
    )
}

pub(super) fn subscription(to: &Session, subname: &str) -> Result<Option<Subscription>> {
    let runs_as_owner = match major(to)? {
        16.. => "s.subrunasowner",
        _ => "true",
    };
    let mine = "s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let sql = format!(
        "SELECT jsonb_build_object('owner', pg_get_userbyid(s.subowner), 'subslotname', s.subslotname,
                  'subpublications', s.subpublications, 'runs_as_owner', {runs_as_owner})
           FROM pg_subscription s WHERE {mine}"
    );
    let found: Option<Subscription> = to.first(&sql, params![subname])?;
    let Some(mut found) = found else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT pg_replication_origin_progress('pg_' || s.oid, false)::text FROM pg_subscription s WHERE {mine}"
    );
    let applied = briefly(to, |to| to.value::<Option<String>>(&sql, params![subname]));
    found.applied = applied.ok().flatten().and_then(|text| text.parse().ok());
    Ok(Some(found))
}

/// How the role in the subscription's connection stands on the publisher, and what is left for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Sender {
    exists: bool,
    can_login: bool,
    replicates: bool,
    expired: bool,
    connects: bool,
    /// `rolconnlimit` and `datconnlimit` where they are reached.
    role_limit: Option<i32>,
    database_limit: Option<i32>,
    /// Limits of the server that are reached.
    full: Vec<String>,
    /// Timeouts of the role in this database that are not off.
    timeouts: Vec<String>,
}

const SENDER: &str = "
    SELECT jsonb_build_object('exists', r.oid IS NOT NULL, 'can_login', coalesce(r.rolcanlogin, false),
        'replicates', coalesce(r.rolreplication OR r.rolsuper OR EXISTS (
             SELECT FROM pg_roles x WHERE x.rolname = 'rds_replication' AND pg_has_role(r.oid, x.oid, 'MEMBER')), false),
        'expired', coalesce(r.rolvaliduntil < clock_timestamp(), false),
        'connects', coalesce(has_database_privilege(r.oid, current_database(), 'CONNECT'), false),
        'role_limit', CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper AND r.rolconnlimit <= (
             SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.backend_type = 'client backend') THEN r.rolconnlimit END,
        'database_limit', (SELECT d.datconnlimit FROM pg_database d WHERE d.datname = current_database() AND d.datconnlimit >= 0 AND NOT r.rolsuper
             AND d.datconnlimit <= (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)),
        'full', (SELECT coalesce(jsonb_agg(f.name || ' = ' || f.setting), '[]') FROM (
             SELECT s.name, s.setting FROM pg_settings s WHERE s.name = 'max_wal_senders'
                AND s.setting::int <= (SELECT count(*) FROM pg_stat_get_wal_senders())
             UNION ALL
             SELECT s.name, s.setting FROM pg_settings s WHERE $2 AND s.name = 'max_replication_slots'
                AND s.setting::int <= (SELECT count(*) FROM pg_replication_slots)) f),
        'timeouts', (SELECT coalesce(jsonb_agg(t.name || ' = ' || t.value ORDER BY t.name), '[]') FROM (
             SELECT DISTINCT ON (name) name, value FROM (
                 SELECT lower(split_part(c, '=', 1)) AS name, substr(c, strpos(c, '=') + 1) AS value,
                        CASE WHEN g.setrole <> 0 AND g.setdatabase <> 0 THEN 1 WHEN g.setrole <> 0 THEN 2 WHEN g.setdatabase <> 0 THEN 3 ELSE 4 END AS rank
                   FROM pg_db_role_setting g, unnest(g.setconfig) c
                  WHERE g.setrole IN (0, r.oid) AND g.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                 UNION ALL
                 SELECT name, setting, 5 FROM pg_settings WHERE source = 'configuration file') s
              WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout')
              ORDER BY name, rank) t
             WHERE t.value !~ '^0+[a-z]*$'))
      FROM (SELECT 1) one LEFT JOIN pg_roles r ON r.rolname = $1";

/// The same of the subscription's owner on the subscriber.
const RECEIVER: &str = "
    SELECT jsonb_build_object('connects', has_database_privilege(r.oid, current_database(), 'CONNECT'),
        'full', (SELECT coalesce(jsonb_agg(s.name || ' = ' || s.setting), '[]') FROM pg_settings s
                  WHERE s.name = 'max_logical_replication_workers' AND s.setting::int <= (SELECT count(pid) FROM pg_stat_subscription)))
      FROM pg_roles r WHERE r.rolname = $1";

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Receiver {
    connects: bool,
    full: Vec<String>,
}

/// What is wrong with the two; `copies` where rows are still being copied, which takes more.
pub(super) fn look(
    stopped: &Stopped<'_>,
    subscription: &Subscription,
    copies: bool,
) -> Result<Vec<Suspect>> {
    let (from, to) = stopped.sides;
    let dbname = &stopped.from.endpoint().dbname;
    let sender: Option<Sender> = briefly(stopped.from, |it| {
        it.first(SENDER, params![stopped.repl, copies])
    })?;
    let receiver: Option<Receiver> = briefly(stopped.to, |it| {
        it.first(RECEIVER, params![subscription.owner.as_str()])
    })?;
    let mut found = of_sender(
        &sender.unwrap_or_default(),
        stopped.repl,
        dbname,
        from,
        copies,
    );
    found.extend(of_receiver(
        &receiver.unwrap_or_default(),
        &subscription.owner,
        dbname,
        to,
    ));
    Ok(found)
}

fn of_sender(sender: &Sender, repl: &str, dbname: &str, from: Side, copies: bool) -> Vec<Suspect> {
    let role = Ident::new(repl);
    let on = format!("on the {from}");
    let login = |message: String, statement: String| {
        suspect(SuspectKind::Login, message, format!("{statement} {on}"))
    };
    if !sender.exists {
        let message = format!("the {from} has no role {repl:?}, which the subscription logs in as");
        return vec![suspect(SuspectKind::Login, message, None)];
    }
    let mut found = Vec::new();
    if !sender.can_login {
        found.push(login(
            format!("{repl:?} may not log in on the {from}"),
            format!("ALTER ROLE {role} LOGIN"),
        ));
    }
    if sender.expired {
        found.push(login(
            format!("the password of {repl:?} has expired on the {from}"),
            format!("ALTER ROLE {role} VALID UNTIL 'infinity'"),
        ));
    }
    if !sender.replicates {
        found.push(login(
            format!("{repl:?} has no REPLICATION attribute on the {from}"),
            format!("ALTER ROLE {role} REPLICATION"),
        ));
    }
    if !sender.connects {
        found.push(login(
            format!("{repl:?} may not connect to {dbname:?} on the {from}"),
            format!("GRANT CONNECT ON DATABASE {} TO {role}", Ident::new(dbname)),
        ));
    }
    if let Some(limit) = sender.role_limit {
        found.push(login(
            format!("the connection limit of role {repl:?} on the {from}, {limit}, is reached"),
            format!("ALTER ROLE {role} CONNECTION LIMIT -1"),
        ));
    }
    if let Some(limit) = sender.database_limit {
        found.push(login(
            format!(
                "the connection limit of database {dbname:?} on the {from}, {limit}, is reached"
            ),
            format!("ALTER DATABASE {} CONNECTION LIMIT -1", Ident::new(dbname)),
        ));
    }
    for setting in &sender.full {
        let message = format!("{setting} of the {from} is used up");
        found.push(suspect(SuspectKind::Login, message, None));
    }
    if copies && !sender.timeouts.is_empty() {
        let name = sender.timeouts[0].split(' ').next().unwrap_or_default();
        found.push(suspect(
            SuspectKind::Timeout,
            format!(
                "{repl:?} gets {} on the {from}, which ends a longer copy",
                sender.timeouts.join(", ")
            ),
            format!(
                "ALTER ROLE {role} IN DATABASE {} SET {name} = 0 {on}",
                Ident::new(dbname)
            ),
        ));
    }
    found
}

fn of_receiver(receiver: &Receiver, owner: &str, dbname: &str, to: Side) -> Vec<Suspect> {
    let mut found = Vec::new();
    if !receiver.connects {
        found.push(suspect(
            SuspectKind::Login,
            format!(
                "{owner:?}, whose the subscription is, may not connect to {dbname:?} on the {to}"
            ),
            format!(
                "GRANT CONNECT ON DATABASE {} TO {} on the {to}",
                Ident::new(dbname),
                Ident::new(owner)
            ),
        ));
    }
    for setting in &receiver.full {
        let message = format!("{setting} of the {to} is used up");
        found.push(suspect(SuspectKind::Login, message, None));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> Sender {
        Sender {
            exists: true,
            can_login: true,
            replicates: true,
            connects: true,
            ..Sender::default()
        }
    }

    fn words(sender: &Sender, copies: bool) -> Vec<String> {
        let found = of_sender(sender, "re'pl", "d", Side::Publisher, copies);
        found.iter().map(Suspect::to_string).collect()
    }

    #[test]
    fn each_lack_of_a_sender_has_its_sentence_and_a_whole_one_has_none() {
        assert!(words(&sender(), true).is_empty());
        let lacking = Sender {
            can_login: false,
            replicates: false,
            expired: true,
            connects: false,
            role_limit: Some(3),
            database_limit: Some(0),
            full: vec!["max_wal_senders = 10".into()],
            ..sender()
        };
        assert_eq!(words(&lacking, false).len(), 7);
        assert!(words(&Sender::default(), false)[0].contains("no role"));
        let hurried = Sender {
            timeouts: vec!["statement_timeout = 5s".into()],
            ..sender()
        };
        assert!(words(&hurried, false).is_empty());
        assert!(
            words(&hurried, true)[0]
                .contains(r#"ALTER ROLE "re'pl" IN DATABASE "d" SET statement_timeout = 0"#)
        );
    }

    #[test]
    fn an_owner_without_connect_is_named() {
        let found = of_receiver(&Receiver::default(), "adm", "d", Side::Subscriber);
        assert!(found[0].message.contains("may not connect"), "{found:?}");
    }
}
