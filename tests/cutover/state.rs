//! What is on both servers, to be compared with what is there afterwards.

use crate::support::application::Side;
use crate::support::{Cluster, Pair};

pub type Rows = Vec<Vec<Option<String>>>;

/// Who may do what with the database, as a set.
pub fn privileges(server: &Cluster, db: &str) -> Rows {
    let of = format!(
        "SELECT a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
           FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
          WHERE d.datname = '{db}' ORDER BY 1, 2, 3, 4"
    );
    server.rows("postgres", &of)
}

/// What replication has on one server, and the triggers of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    pub slots: Rows,
    pub publications: Rows,
    pub subscriptions: Rows,
    pub triggers: Rows,
    settings: Rows,
}

impl Objects {
    pub fn of(server: &Cluster, db: &str) -> Self {
        let rows = |sql: &str| server.rows(db, sql);
        Self {
            slots: rows(
                "SELECT slot_name, plugin FROM pg_replication_slots
                  WHERE database = current_database() ORDER BY 1",
            ),
            publications: rows(
                "SELECT pubname, string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename)
                   FROM pg_publication LEFT JOIN pg_publication_tables USING (pubname) GROUP BY 1 ORDER BY 1",
            ),
            subscriptions: rows(
                "SELECT subname, subenabled, subslotname, subpublications FROM pg_subscription
                  WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
            ),
            triggers: rows(
                "SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
            ),
            settings: rows(
                "SELECT setrole::regrole, setconfig FROM pg_db_role_setting
                  WHERE setdatabase IN (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
            ),
        }
    }

    /// Names and whether each is enabled.
    pub fn subscriptions_enabled(&self) -> Vec<(String, bool)> {
        let rows = self.subscriptions.iter();
        rows.map(|row| (text(&row[0]), row[1].as_deref() == Some("t")))
            .collect()
    }

    pub fn slot_names(&self) -> Vec<String> {
        self.slots.iter().map(|row| text(&row[0])).collect()
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

/// Both servers, to the letter, and flare's own schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Everything([(Rows, Objects, Rows); 2]);

impl Everything {
    pub fn of(pair: &Pair, db: &str) -> Self {
        let flare = "SELECT c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = 'flare'
                      UNION ALL SELECT proname, 'f' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                      WHERE n.nspname = 'flare' ORDER BY 1, 2";
        let of = |server: &Cluster| {
            let mut own = server.rows("postgres", flare);
            own.extend(server.rows(db, flare));
            (privileges(server, db), Objects::of(server, db), own)
        };
        Self([of(pair.publisher()), of(pair.subscriber())])
    }
}

/// What an undo has to give back: all of *from*, and what replication has on *to*, whose door stays shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    privileges: Rows,
    /// To the letter.
    objects: [Objects; 2],
}

impl Before {
    pub fn privileges(&self) -> Rows {
        self.privileges.clone()
    }

    pub fn of(pair: &Pair, from: Side) -> Self {
        let db = pair.db();
        Self {
            privileges: privileges(from.of(pair), db),
            objects: [from, from.other()].map(|side| Objects::of(side.of(pair), db)),
        }
    }

    /// But for triggers that could not be taken off tables of *from* again.
    pub fn without_triggers(mut self) -> Self {
        self.objects[0].triggers.clear();
        self
    }
}
