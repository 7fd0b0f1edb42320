//! What a client does next: pure, so that what is written can be told from what it answers.

use std::time::SystemTime;

use uuid::Uuid;

use super::ledger::{Entry, Op, Outcome, Table};
use crate::value::Literal;

/// How many of its own rows a client keeps for updating and deleting.
const OWN_ROWS: usize = 1000;

/// What the transactions are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// The original's: one new item each.
    Inserts,
    /// Inserts, updates and deletes of own rows in both tables, several in each.
    Everything,
}

/// The rows of one client. It touches only rows that it made itself and whose state it knows.
#[derive(Debug)]
pub(super) struct Generator {
    client: usize,
    mix: Mix,
    seq: u64,
    own: Vec<(Table, String)>,
}

impl Generator {
    pub(super) fn new(client: usize, mix: Mix) -> Generator {
        Generator {
            client,
            mix,
            seq: 0,
            own: Vec::new(),
        }
    }

    /// The next transaction. `dice` makes the choices.
    pub(super) fn next(&mut self, dice: Uuid) -> Vec<Entry> {
        if self.mix == Mix::Inserts {
            return vec![self.insert(Table::Items)];
        }
        let dice = dice.as_bytes();
        let statements = 1 + usize::from(dice[0] % 4);
        (0..statements)
            .map(|at| self.one(dice[1 + at], dice[9 + at]))
            .collect()
    }

    fn one(&mut self, which: u8, row: u8) -> Entry {
        match which {
            _ if self.own.len() < 4 => self.insert(Table::Items),
            0..=115 => self.insert(Table::Items),
            116..=135 => self.insert(Table::Sessions),
            136..=215 => self.touch(Op::Update, row),
            216..=255 => self.touch(Op::Delete, row),
        }
    }

    fn insert(&mut self, table: Table) -> Entry {
        self.entry(Op::Insert, table, Uuid::new_v4().to_string())
    }

    /// Takes a row out: it comes back with [`Generator::applied`] or [`Generator::undone`], and not when its state is unknown.
    fn touch(&mut self, op: Op, row: u8) -> Entry {
        let at = usize::from(row) * self.own.len() / 256;
        let (table, id) = self.own.swap_remove(at);
        self.entry(op, table, id)
    }

    fn entry(&mut self, op: Op, table: Table, id: String) -> Entry {
        self.seq += 1;
        let name = match (op, table) {
            (Op::Delete, _) => None,
            (_, Table::Items) => Some(Uuid::new_v4().to_string()),
            (_, Table::Sessions) => Some(timestamp(SystemTime::now())),
        };
        Entry {
            op,
            table,
            id,
            name,
            client: self.client,
            seq: self.seq,
            outcome: Outcome::Unknown,
        }
    }

    /// The transaction was acknowledged.
    pub(super) fn applied(&mut self, entries: Vec<Entry>) {
        self.keep(entries, |op| op != Op::Delete);
    }

    /// The transaction was rolled back.
    ///
    /// Its numbers are given again: a number that is missing in the ledger is a line that is missing.
    pub(super) fn undone(&mut self, entries: Vec<Entry>) {
        self.seq -= entries.len() as u64;
        self.keep(entries, |op| op != Op::Insert);
    }

    fn keep(&mut self, entries: Vec<Entry>, kept: impl Fn(Op) -> bool) {
        if self.mix == Mix::Inserts {
            return;
        }
        let room = OWN_ROWS.saturating_sub(self.own.len());
        let kept = entries.into_iter().filter(|entry| kept(entry.op));
        self.own
            .extend(kept.take(room).map(|entry| (entry.table, entry.id)));
    }
}

/// A time as the ledger holds it: UTC, with microseconds, as PostgreSQL keeps it.
pub(super) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

/// The transaction in SQL: one message, one answer, and nothing that a pooler would have to remember.
pub(super) fn sql(entries: &[Entry]) -> String {
    let statements: Vec<String> = entries.iter().map(statement).collect();
    match statements.as_slice() {
        [only] => only.clone(),
        several => format!("BEGIN; {}; COMMIT", several.join("; ")),
    }
}

fn statement(entry: &Entry) -> String {
    let (table, column) = (entry.table.name(), entry.table.column());
    let id = Literal(&entry.id);
    let value = Literal(entry.name.as_deref().unwrap_or_default());
    match entry.op {
        Op::Insert | Op::Existing => format!("INSERT INTO public.{table} VALUES ({id}, {value})"),
        Op::Update => format!("UPDATE public.{table} SET {column} = {value} WHERE id = {id}"),
        Op::Delete => format!("DELETE FROM public.{table} WHERE id = {id}"),
        Op::Heartbeat => format!(
            "INSERT INTO public.{table} VALUES ({id}, {value}) ON CONFLICT (id) DO UPDATE SET {column} = EXCLUDED.{column}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_original_inserts_one_item_at_a_time() {
        let mut generator = Generator::new(0, Mix::Inserts);
        for seq in 1..10 {
            let entries = generator.next(Uuid::new_v4());
            assert_eq!((entries.len(), entries[0].seq), (1, seq));
            assert!(sql(&entries).starts_with("INSERT INTO public.items VALUES ('"));
            generator.applied(entries);
        }
        assert!(generator.own.is_empty());
    }

    #[test]
    fn rows_are_touched_only_while_their_state_is_known() {
        let mut generator = Generator::new(3, Mix::Everything);
        let mut alive: HashSet<String> = HashSet::new();
        let mut seen = HashSet::new();
        let mut seq = 0;
        for round in 0..3000 {
            let entries = generator.next(Uuid::new_v4());
            assert_eq!(entries[0].seq, seq + 1);
            if round % 3 != 0 {
                seq += entries.len() as u64;
            }
            for entry in &entries {
                seen.insert((entry.op as u8, entry.table));
                assert_eq!(
                    alive.contains(&entry.id),
                    entry.op != Op::Insert,
                    "{entry:?}"
                );
            }
            match round % 3 {
                0 => generator.undone(entries),
                1 => {
                    for entry in &entries {
                        match entry.op {
                            Op::Delete => alive.remove(&entry.id),
                            _ => alive.insert(entry.id.clone()),
                        };
                    }
                    generator.applied(entries);
                }
                // Unknown: never touched again.
                _ => entries.iter().for_each(|entry| {
                    alive.remove(&entry.id);
                }),
            }
        }
        assert_eq!(seen.len(), 6);
        assert!(generator.own.len() <= OWN_ROWS);
    }

    #[test]
    fn several_statements_are_one_transaction() {
        let entry = |op, table, name: Option<&str>| Entry {
            op,
            table,
            id: "i'd".into(),
            name: name.map(str::to_owned),
            client: 0,
            seq: 1,
            outcome: Outcome::Unknown,
        };
        let entries = [
            entry(Op::Update, Table::Items, Some("n")),
            entry(Op::Delete, Table::Sessions, None),
        ];
        assert_eq!(
            sql(&entries),
            "BEGIN; UPDATE public.items SET name = 'n' WHERE id = 'i''d'; DELETE FROM public.sessions WHERE id = 'i''d'; COMMIT"
        );
    }
}
