//! What keeps the application from writing to a database, as its server has it: privileges, settings, the fence.

use serde::{Deserialize, Serialize};

use crate::error::{Result, WrapErr};
use crate::server::{Param, Session, params};
use crate::value::{Literal, TableName, parse_bool};

/// Who may write in a database of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SideState {
    /// The application may.
    Open,
    /// Nobody but replication: the fence stands on every replicated table, and new sessions are read-only.
    Closed,
    /// Nobody may connect.
    Shut,
    /// Between open and closed: a part of what closes it is missing.
    PartlyClosed,
}

impl SideState {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            SideState::Open => "open",
            SideState::Closed => "closed",
            SideState::Shut => "shut",
            SideState::PartlyClosed => "partly closed",
        }
    }
}

/// What the server says, asked in the database itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SideFacts {
    /// `default_transaction_read_only` of the database, as its setting has it.
    pub(crate) setting: Option<String>,
    /// Whether PUBLIC or the database's owner has CONNECT.
    pub(crate) connectable: bool,
    /// Whether the fence's function is there and refuses.
    pub(crate) fence_closed: bool,
    /// How many tables replication writes or reads.
    pub(crate) replicated: i64,
    /// Of these tables and their relatives, those without the fence's trigger.
    pub(crate) unfenced: Vec<TableName>,
    pub(crate) fenced: i64,
    /// Whether the role that is to own the database is there.
    pub(crate) has_owner: bool,
    /// What flare has on record where it closed the database: the comment of the fence's function.
    pub(crate) record: Option<String>,
    /// Login roles that are no superusers and whose own setting lets their sessions write.
    pub(crate) overriding: Vec<String>,
}

/// Of the tables in `wanted` and all above and below them in an inheritance, `fence`: which have the fence's trigger.
const FENCE: &str = ",
         above AS (SELECT oid FROM wanted UNION SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid),
         below AS (SELECT oid FROM wanted UNION SELECT i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid),
         family AS (SELECT oid FROM above UNION SELECT oid FROM below),
         fence AS (SELECT f.oid, n.nspname, c.relname,
                          EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'flare_fence'
                                     AND t.tgenabled IN ('O', 'A')) AS stands
                     FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'flare')";

const FACTS: &str = ",
         settings AS (SELECT s.setrole, substr(c, strpos(c, '=') + 1) AS value
                        FROM pg_db_role_setting s, pg_database d, unnest(s.setconfig) c
                       WHERE d.datname = current_database() AND s.setdatabase IN (0, d.oid)
                         AND split_part(c, '=', 1) = 'default_transaction_read_only'
                         AND NOT (s.setrole = 0 AND s.setdatabase = 0))
    SELECT jsonb_build_object(
        'setting', (SELECT value FROM settings WHERE setrole = 0),
        'connectable', (SELECT EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                                        WHERE a.privilege_type = 'CONNECT' AND a.grantee IN (0, d.datdba))
                          FROM pg_database d WHERE d.datname = current_database()),
        'fence_closed', EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                                 WHERE n.nspname = 'flare' AND p.proname = 'fence' AND p.prosrc LIKE '%RAISE EXCEPTION%'),
        'record', (SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = 'flare' AND p.proname = 'fence' LIMIT 1),
        'has_owner', EXISTS (SELECT FROM pg_roles WHERE rolname = {owner}),
        'replicated', (SELECT count(*) FROM wanted),
        'fenced', (SELECT count(*) FROM fence WHERE stands),
        'unfenced', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', nspname, 'table', relname)
                                               ORDER BY nspname, relname), '[]') FROM fence WHERE NOT stands),
        'overriding', (SELECT coalesce(jsonb_agg(DISTINCT r.rolname), '[]') FROM settings s JOIN pg_roles r ON r.oid = s.setrole
                        WHERE NOT s.value::boolean AND r.rolcanlogin AND NOT r.rolsuper))";

/// The tables that a fence has to stand on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Replicated<'a> {
    Named(&'a [TableName]),
    /// What a publication sends.
    Published(&'a str),
    /// What any subscription or publication of the database has; before there is one, what a copy has closed.
    Any,
}

impl Replicated<'_> {
    /// The common table expressions up to `fence`, with their parameter.
    pub(crate) fn fence(self) -> Result<(String, Vec<Param>)> {
        let (wanted, params) = match self {
            Replicated::Named(names) => {
                let names =
                    serde_json::to_value(names).wrap_err("list the tables for the fence")?;
                let named =
                    "SELECT c.oid FROM jsonb_to_recordset($1) AS w(\"schema\" text, \"table\" text)
                   JOIN pg_namespace n ON n.nspname = w.\"schema\"
                   JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.\"table\"";
                (named, params![names])
            }
            Replicated::Published(pubname) => {
                let published =
                    "SELECT c.oid FROM pg_publication p, pg_get_publication_tables(p.pubname) t
                   JOIN pg_class c ON c.oid = t.relid
                  WHERE p.pubname = $1 AND c.relname <> 'flare_replication_status'";
                (published, params![pubname])
            }
            Replicated::Any => {
                let any = "SELECT c.oid FROM pg_class c
                  WHERE c.oid IN (SELECT srrelid FROM pg_subscription_rel
                                  UNION SELECT t.relid FROM pg_publication p, pg_get_publication_tables(p.pubname) t
                                  UNION SELECT t.tgrelid FROM pg_trigger t
                                         WHERE t.tgname = 'flare_fence'
                                           AND EXISTS (SELECT FROM pg_class r JOIN pg_namespace s ON s.oid = r.relnamespace
                                                        WHERE s.nspname = 'flare' AND r.relname = 'copy_run'))
                    AND c.relname <> 'flare_replication_status'";
                (any, params![])
            }
        };
        Ok((
            format!("WITH RECURSIVE wanted AS ({wanted}){FENCE}"),
            params,
        ))
    }
}

/// What a database says of who may write there, and of the role that is to own it.
pub(crate) fn facts(
    session: &Session,
    replicated: Replicated<'_>,
    owner: &str,
) -> Result<SideFacts> {
    let (fence, params) = replicated.fence()?;
    let facts = FACTS.replace("{owner}", &Literal(owner).to_string());
    let found: Option<SideFacts> = session
        .first(&format!("{fence}{facts}"), params)
        .wrap_err("read who may write")?;
    Ok(found.unwrap_or(SideFacts {
        setting: None,
        connectable: true,
        fence_closed: false,
        replicated: 0,
        unfenced: Vec::new(),
        fenced: 0,
        has_owner: false,
        record: None,
        overriding: Vec::new(),
    }))
}

impl SideFacts {
    fn read_only(&self) -> bool {
        self.setting.as_deref().and_then(parse_bool) == Some(true)
    }

    /// The state that this amounts to.
    pub(crate) fn state(&self) -> SideState {
        let fence = self.fence_closed && self.fenced > 0;
        if !self.connectable {
            SideState::Shut
        } else if fence && self.unfenced.is_empty() && self.read_only() {
            SideState::Closed
        } else if fence || self.read_only() {
            SideState::PartlyClosed
        } else {
            SideState::Open
        }
    }

    /// What is missing where the database is to be closed, in words.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if !self.fence_closed || self.fenced == 0 {
            gaps.push("it has no closed fence".to_owned());
        } else if !self.unfenced.is_empty() {
            let names = crate::catalog::tables::listed(&self.unfenced);
            gaps.push(format!("no fence stands on {names}"));
        }
        if !self.read_only() {
            gaps.push("default_transaction_read_only of the database is not on".to_owned());
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> SideFacts {
        SideFacts {
            setting: Some("on".into()),
            connectable: true,
            fence_closed: true,
            replicated: 2,
            unfenced: vec![],
            fenced: 2,
            has_owner: true,
            record: None,
            overriding: vec![],
        }
    }

    #[test]
    fn a_side_is_closed_only_when_nothing_of_it_is_missing() {
        assert_eq!(closed().state(), SideState::Closed);
        assert!(closed().gaps().is_empty());
        let state = |change: fn(&mut SideFacts)| {
            let mut facts = closed();
            change(&mut facts);
            (facts.state(), facts.gaps().len())
        };
        let partly = SideState::PartlyClosed;
        assert_eq!(state(|it| it.setting = None), (partly, 1));
        assert_eq!(state(|it| it.fence_closed = false), (partly, 1));
        assert_eq!(
            state(|it| it.unfenced = vec![TableName::new("public", "a")]),
            (partly, 1)
        );
        assert_eq!(state(|it| it.connectable = false).0, SideState::Shut);
        let open = state(|it| (it.setting, it.fence_closed) = (Some("off".into()), false));
        assert_eq!(open, (SideState::Open, 2));
    }
}
