//! What keeps the application from writing to a database, as its server has it: privileges, settings, the fence.

use serde::{Deserialize, Serialize};

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{TableName, parse_bool};

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
    /// Of the tables asked for and their relatives, those without the fence's trigger.
    pub(crate) unfenced: Vec<TableName>,
    pub(crate) fenced: i64,
    /// What flare has on record where it closed the database: the comment of the fence's function.
    pub(crate) record: Option<String>,
    /// Login roles that are no superusers and whose own setting lets their sessions write.
    pub(crate) overriding: Vec<String>,
}

/// Of these tables ($1) and all above and below them in an inheritance, `fence`: which have the fence's trigger.
pub(crate) const FENCE: &str = "
    WITH RECURSIVE wanted AS (
           SELECT c.oid FROM jsonb_to_recordset($1) AS w(\"schema\" text, \"table\" text)
             JOIN pg_namespace n ON n.nspname = w.\"schema\" JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.\"table\"),
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
        'fenced', (SELECT count(*) FROM fence WHERE stands),
        'unfenced', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', nspname, 'table', relname)
                                               ORDER BY nspname, relname), '[]') FROM fence WHERE NOT stands),
        'overriding', (SELECT coalesce(jsonb_agg(DISTINCT r.rolname), '[]') FROM settings s JOIN pg_roles r ON r.oid = s.setrole
                        WHERE NOT s.value::boolean AND r.rolcanlogin AND NOT r.rolsuper))";

/// What a database says of who may write there; `tables` are those that replication writes or reads.
pub(crate) fn facts(session: &Session, tables: &[TableName]) -> Result<SideFacts> {
    let wanted = serde_json::to_value(tables).wrap_err("list the tables of the fence")?;
    let found: Option<SideFacts> = session
        .first(&format!("{FENCE}{FACTS}"), params![wanted])
        .wrap_err("read who may write")?;
    Ok(found.unwrap_or(SideFacts {
        setting: None,
        connectable: true,
        fence_closed: false,
        unfenced: Vec::new(),
        fenced: 0,
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
            unfenced: vec![],
            fenced: 2,
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
