//! Triggers that fire where they should not, or with a search_path that they do not expect.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::published::TABLES;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::SideView;
use crate::server::Side;
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "apply_triggers",
        title: "no trigger fires on apply",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[TRIGGERS.on_both(), TABLES.on_publisher()],
        judge: |view| {
            let Some(publisher) = view.publisher else {
                return Ok(Vec::new());
            };
            let mut triggers = publisher.rows(&TRIGGERS)?;
            if let Some(subscriber) = view.subscriber {
                let there = subscriber.rows(&TRIGGERS)?;
                triggers.extend(
                    there
                        .into_iter()
                        .filter(|it| !triggers.contains(it))
                        .collect::<Vec<_>>(),
                );
            }
            let tables = publisher.rows(&TABLES)?;
            let names: BTreeSet<&str> = tables.iter().map(|it| it.name.table.as_str()).collect();
            Ok(on_apply(&triggers, &names))
        },
    },
    Check {
        id: "event_triggers",
        title: "no event trigger stands in the way of flare's own statements",
        before: Before::Setup,
        place: Place::Database,
        asks: &[EVENT_TRIGGERS.on_both()],
        judge: |view| {
            let mut found = Vec::new();
            for side in [view.publisher, view.subscriber].into_iter().flatten() {
                found.extend(events(side, &side.rows(&EVENT_TRIGGERS)?));
            }
            Ok(found)
        },
    },
    Check {
        id: "login_triggers",
        title: "no trigger writes at a login",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[EVENT_TRIGGERS.on_both()],
        judge: |view| {
            let mut found = Vec::new();
            for side in [view.publisher, view.subscriber].into_iter().flatten() {
                found.extend(at_logins(side, &side.rows(&EVENT_TRIGGERS)?));
            }
            Ok(found)
        },
    },
];

/// A user's trigger that replication fires.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Trigger {
    #[serde(flatten)]
    table: TableName,
    tgname: String,
    /// A or R: ENABLE ALWAYS or REPLICA.
    tgenabled: char,
    /// Its function, as a statement names it.
    function: String,
    /// Whether the function sets its own search_path.
    pinned: bool,
    body: String,
}

/// Before 15 the clone that a partition has of its parent's trigger is called internal.
const TRIGGERS: Question<Trigger> = Question::database(
    "triggers",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'tgname', t.tgname, 'tgenabled', t.tgenabled,
              'function', p.oid::regprocedure, 'body', p.prosrc,
              'pinned', coalesce(EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%'), false))
       FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
      WHERE (NOT t.tgisinternal OR t.tgconstraint = 0) AND t.tgenabled IN ('A', 'R') AND f.nspname <> 'flare'
      ORDER BY n.nspname, c.relname, t.tgname",
);

/// A user's event trigger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct EventTrigger {
    evtname: String,
    evtevent: String,
    evtenabled: char,
    /// Of its function, and of those that are called in it by name.
    body: String,
}

impl EventTrigger {
    /// Whether its function writes, as far as its text tells.
    fn writes(&self) -> bool {
        const WRITING: [&str; 6] = ["insert", "update", "delete", "merge", "truncate", "nextval"];
        self.has_a_word_of(&WRITING)
    }

    /// Whether it may end the statement, or leave a row where replication brings one too.
    fn disturbs(&self) -> bool {
        self.writes() || self.has_a_word_of(&["exception"])
    }

    /// Whether its text asks for it before it writes.
    fn minds_read_only(&self) -> bool {
        self.has_a_word_of(&["transaction_read_only"])
    }

    fn has_a_word_of(&self, words: &[&str]) -> bool {
        let mut found = self.body.split(|c: char| !c.is_alphanumeric() && c != '_');
        found.any(|word| words.iter().any(|it| word.eq_ignore_ascii_case(it)))
    }
}

const EVENT_TRIGGERS: Question<EventTrigger> = Question::database(
    "event_triggers",
    r#"WITH RECURSIVE bodies(oid, name, body) AS (
         SELECT p.oid, p.proname::text, CASE p.prosrc WHEN '' THEN pg_get_functiondef(p.oid) ELSE p.prosrc END
           FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
          WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal') AND EXISTS (SELECT FROM pg_event_trigger)),
     called(trigger, function, body) AS (
         SELECT e.oid, b.oid, b.body FROM pg_event_trigger e JOIN bodies b ON b.oid = e.evtfoid
         UNION
         SELECT c.trigger, b.oid, b.body FROM called c JOIN bodies b
             ON strpos(lower(c.body), lower(b.name)) > 0 AND c.body ~* ('\m' || regexp_replace(b.name, '(\W)', '\\\1', 'g') || '"?\s*\('))
     SELECT jsonb_build_object('evtname', e.evtname, 'evtevent', e.evtevent, 'evtenabled', e.evtenabled,
              'body', coalesce((SELECT string_agg(c.body, chr(10)) FROM called c WHERE c.trigger = e.oid), p.prosrc))
       FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE e.evtenabled <> 'D' AND n.nspname <> 'flare'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')
      ORDER BY e.evtname"#,
);

/// A table's name that stands in a body where a statement names a table, without its schema: apply runs with an empty
/// search_path and does not find it.
fn unqualified<'b>(body: &'b str, tables: &BTreeSet<&str>) -> Option<&'b str> {
    const BEFORE_A_TABLE: [&str; 6] = ["from", "into", "update", "join", "table", "only"];
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '"';
    let words: Vec<&str> = body
        .split(|c| !word(c))
        .filter(|it| !it.is_empty())
        .collect();
    words
        .windows(2)
        .filter(|pair| BEFORE_A_TABLE.contains(&pair[0].to_lowercase().as_str()))
        .map(|pair| pair[1])
        .find(|name| {
            let bare = name.trim_matches('"');
            let folded = if name.starts_with('"') {
                bare.to_owned()
            } else {
                bare.to_lowercase()
            };
            tables.contains(folded.as_str())
        })
}

fn on_apply(triggers: &[Trigger], tables: &BTreeSet<&str>) -> Vec<Finding> {
    let mut found = Vec::new();
    let described = |it: &&Trigger| format!("{} on {}", it.tgname, it.table.plain());
    let stops = |it: &&Trigger| !it.pinned && unqualified(&it.body, tables).is_some();
    let (stopping, others): (Vec<&Trigger>, Vec<&Trigger>) = triggers.iter().partition(stops);
    if let Some(first) = stopping.first() {
        found.push(
            Finding::blocker("triggers fire on apply and name tables without their schema: apply has an empty search_path, so the first row stops the subscription")
                .objects(stopping.iter().map(described))
                .fix(format!("ALTER FUNCTION {} SET search_path = {}", first.function, first.table.schema)),
        );
    }
    if let Some(first) = others.first() {
        found.push(
            Finding::warning("triggers are ENABLE ALWAYS or REPLICA: they fire on apply as well, with an empty search_path, and what they write into published tables arrives twice")
                .objects(others.iter().map(described))
                .fix(format!(
                    "ALTER TABLE {} ENABLE TRIGGER {}, unless it is meant to fire there",
                    first.table,
                    Ident::new(&first.tgname)
                )),
        );
    }
    found
}

fn at_logins(side: &SideView, triggers: &[EventTrigger]) -> Vec<Finding> {
    let described = |it: &&EventTrigger| format!("{} (login, on the {})", it.evtname, side.side);
    let logins = triggers.iter().filter(|it| it.evtevent == "login");
    let (writing, others): (Vec<&EventTrigger>, Vec<&EventTrigger>) =
        logins.partition(|it| it.writes() && !it.minds_read_only());
    let (raising, harmless): (Vec<&EventTrigger>, Vec<&EventTrigger>) = others
        .into_iter()
        .partition(|it| it.has_a_word_of(&["exception"]));
    let mut found = Vec::new();
    if let Some(first) = writing.first() {
        found.push(
            Finding::blocker("a trigger writes at each login: on the side that is closed every login fails of it, that of replication included")
                .objects(writing.iter().map(described))
                .fix(format!(
                    "ALTER EVENT TRIGGER {} DISABLE, on both sides, for as long as the migration runs (a superuser comes in past it with PGOPTIONS='-c event_triggers=off'); or let it return where current_setting('transaction_read_only') is on",
                    Ident::new(&first.evtname)
                )),
        );
    }
    if let Some(first) = raising.first() {
        found.push(
            Finding::warning("a trigger may refuse a login: flare's as a superuser are out of its sight, those of db_owner and repl are not")
                .objects(raising.iter().map(described))
                .fix(format!(
                    "nothing, where it lets these accounts in on both sides; else ALTER EVENT TRIGGER {} DISABLE for as long as the migration runs",
                    Ident::new(&first.evtname)
                )),
        );
    }
    if !harmless.is_empty() {
        found.push(
            Finding::note("a trigger fires at each login; by its text it only reads, or minds transaction_read_only before it writes")
                .objects(harmless.iter().map(described)),
        );
    }
    found
}

fn events(side: &SideView, triggers: &[EventTrigger]) -> Vec<Finding> {
    let described =
        |it: &&EventTrigger| format!("{} ({}, on the {})", it.evtname, it.evtevent, side.side);
    // From 17 on a superuser switches all of them off; before, it acts as replication does, which ALWAYS and REPLICA see.
    let meets = |it: &&EventTrigger| match (side.superuser, side.major) {
        (false, _) => true,
        (true, 17..) => false,
        (true, _) => it.evtenabled != 'O',
    };
    let others = triggers.iter().filter(|it| it.evtevent != "login");
    let (met, unmet): (Vec<&EventTrigger>, Vec<&EventTrigger>) = others.partition(meets);
    let (disturbing, harmless): (Vec<&EventTrigger>, Vec<&EventTrigger>) =
        met.into_iter().partition(|it| it.disturbs());
    let mut found = Vec::new();
    if let Some(first) = disturbing.first() {
        found.push(
            Finding::blocker("event triggers fire on flare's own statements and write, or may refuse: one that forbids DDL stops them, one that logs into a published table makes the copy collide")
                .objects(disturbing.iter().map(described))
                .fix(format!("ALTER EVENT TRIGGER {} DISABLE for as long as the migration runs", Ident::new(&first.evtname))),
        );
    }
    if !harmless.is_empty() {
        found.push(
            Finding::warning("event triggers fire on flare's own statements")
                .objects(harmless.iter().map(described))
                .fix("nothing, where they only read"),
        );
    }
    if !unmet.is_empty() && side.side == Side::Publisher {
        found.push(
            Finding::note("event triggers of yours are carried over; flare's own statements are kept out of their sight")
                .objects(unmet.iter().map(described)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;
    use crate::preflight::question::Answers;

    #[test]
    fn a_table_without_its_schema_is_found_in_a_body() {
        let tables = BTreeSet::from(["audit", "Order"]);
        let of = |body| unqualified(body, &tables);
        assert_eq!(of("BEGIN INSERT INTO audit VALUES (1); END"), Some("audit"));
        assert_eq!(of("update Audit set a = 1"), Some("Audit"));
        assert_eq!(of("SELECT 1 FROM \"Order\""), Some("\"Order\""));
        assert_eq!(of("INSERT INTO app.audit VALUES (1)"), None);
        assert_eq!(of("audit := NEW.id; RETURN NEW"), None);
        assert_eq!(of("SELECT 1 FROM order"), None);
    }

    #[test]
    fn a_trigger_on_apply_blocks_when_it_cannot_find_its_tables() {
        let trigger = |body: &str, pinned| Trigger {
            table: "app.t".parse().unwrap(),
            tgname: "log".into(),
            tgenabled: 'A',
            function: "app.log()".into(),
            pinned,
            body: body.into(),
        };
        let tables = BTreeSet::from(["audit"]);
        let severity = |it| on_apply(&[it], &tables)[0].severity;
        assert_eq!(
            severity(trigger("INSERT INTO audit", false)),
            Severity::Blocker
        );
        assert_eq!(
            severity(trigger("INSERT INTO audit", true)),
            Severity::Warning
        );
        assert_eq!(severity(trigger("RETURN NEW", false)), Severity::Warning);
        assert!(on_apply(&[], &tables).is_empty());
    }

    #[test]
    fn event_triggers_matter_to_those_who_cannot_step_aside() {
        let side = |superuser, major| SideView {
            side: Side::Publisher,
            major,
            superuser,
            user: "adm".into(),
            server: Answers::default(),
            database: None,
            refused: None,
        };
        let trigger = |evtevent: &str, evtenabled, body: &str| EventTrigger {
            evtname: "e".into(),
            evtevent: evtevent.into(),
            evtenabled,
            body: body.into(),
        };
        let logs = |enabled| trigger("ddl_command_end", enabled, "INSERT INTO log VALUES (1)");
        let severity = |superuser, major, it| events(&side(superuser, major), &[it])[0].severity;
        assert_eq!(severity(true, 17, logs('A')), Severity::Pass);
        assert_eq!(severity(true, 16, logs('O')), Severity::Pass);
        assert_eq!(severity(true, 16, logs('A')), Severity::Blocker);
        assert_eq!(severity(false, 17, logs('O')), Severity::Blocker);
        let notice = trigger("sql_drop", 'O', "BEGIN RAISE NOTICE 'inserted'; END");
        assert_eq!(severity(false, 10, notice), Severity::Warning);
        let at_logins = |body: &str| {
            let it = trigger("login", 'O', body);
            at_logins(&side(true, 17), &[it])[0].severity
        };
        assert_eq!(at_logins("insert into seen values (1)"), Severity::Blocker);
        assert_eq!(
            at_logins(
                "IF current_setting('transaction_read_only') = 'off' THEN insert into seen values (1); END IF"
            ),
            Severity::Pass
        );
        assert_eq!(at_logins("RAISE EXCEPTION 'no'"), Severity::Warning);
        assert_eq!(
            at_logins("PERFORM set_config('a.b', 'c', false)"),
            Severity::Pass
        );
    }
}
