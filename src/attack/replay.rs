//! The replay: what the ledger says, held against what a server has.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use postgres::fallible_iterator::FallibleIterator;
use serde::Serialize;
use uuid::Uuid;

use super::dsn::Dsn;
use super::ledger::{Entry, Op, Outcome, Table};
use super::underway;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::server::{SqlError, application_name, connect_unverified};

/// How many differences are named.
const EXAMPLES: usize = 20;

/// A row that is not as the ledger says, or a place where the ledger is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// `lost`, `extra` or `wrong`; `missing` or `doubled` of the ledger's lines.
    pub kind: &'static str,
    /// The table, or `ledger`.
    pub table: &'static str,
    /// The row, or the line.
    pub id: String,
}

/// What the replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Acknowledged rows that are not there.
    pub lost: u64,
    /// Rows that should not be there: deleted ones, and those that the ledger knows nothing of.
    pub extra: u64,
    /// Rows with another value than the acknowledged one.
    pub wrong: u64,
    /// Rows that were compared: those of the ledger, and those of the server.
    pub checked: u64,
    /// Operations of the ledger whose outcome is unknown: either is accepted.
    pub unknown: u64,
    /// Lines of the ledger that were cut off when the generator was killed.
    pub torn: u64,
    /// Lines that are missing in the ledger: what its clients did is numbered.
    pub missing: u64,
    /// Lines that are there twice.
    pub doubled: u64,
    /// Some of the rows that differ, and of the lines.
    pub examples: Vec<Example>,
}

/// An id or a value; most are UUIDs, which take little room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Text {
    Uuid(Uuid),
    Other(Box<str>),
}

impl Text {
    fn of(text: &str) -> Text {
        match Uuid::try_parse(text) {
            // Only what comes back as it was.
            Ok(uuid) if uuid.hyphenated().to_string() == text => Text::Uuid(uuid),
            _ => Text::Other(text.into()),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Text::Uuid(uuid) => write!(f, "{}", uuid.hyphenated()),
            Text::Other(text) => f.write_str(text),
        }
    }
}

/// What a row may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// As acknowledged; none: absent.
    known: Option<Text>,
    /// What operations of unknown outcome may have made of it. They may also have come later than what was acknowledged.
    maybe: Vec<Option<Text>>,
    /// Whatever its value: the heartbeat's.
    moving: bool,
}

impl State {
    fn known(value: Option<Text>) -> State {
        State {
            known: value,
            maybe: Vec::new(),
            moving: false,
        }
    }

    fn may_be(&self, value: Option<&Text>) -> bool {
        let agrees = |state: &Option<Text>| state.as_ref() == value;
        agrees(&self.known) || self.maybe.iter().any(agrees) || self.moving && value.is_some()
    }
}

/// All rows of the ledger; what is surely deleted is not in it.
#[derive(Debug, Default)]
struct Story {
    rows: HashMap<(Table, Text), State>,
    unknown: u64,
    torn: u64,
    missing: u64,
    doubled: u64,
    flaws: Vec<Example>,
}

impl Story {
    /// The rows that were there before; what the generator did to them is told elsewhere, perhaps in another ledger.
    fn existed(&mut self, entry: Entry) {
        let key = (entry.table, Text::of(&entry.id));
        let value = entry.name.as_deref().map(Text::of);
        self.rows.entry(key).or_insert(State::known(value));
    }

    fn happened(&mut self, entry: Entry) {
        let key = (entry.table, Text::of(&entry.id));
        let value = match entry.op {
            Op::Delete => None,
            _ => entry.name.as_deref().map(Text::of),
        };
        let absent = || State::known(None);
        match (entry.op, entry.outcome) {
            (Op::Existing, _) => {}
            (Op::Heartbeat, outcome) => {
                let state = self.rows.entry(key).or_insert_with(absent);
                state.moving = true;
                if outcome == Outcome::Existing {
                    state.known = value;
                }
            }
            (_, Outcome::Unknown) => {
                self.unknown += 1;
                let state = self.rows.entry(key).or_insert_with(absent);
                state.maybe.push(value);
            }
            (_, _) => {
                let state = self.rows.entry(key.clone()).or_insert_with(absent);
                state.known = value;
                if state.known.is_none() && state.maybe.is_empty() && !state.moving {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// Remembers where the ledger is not whole.
    fn note(&mut self, step: Step, entry: &Entry, path: &Path, line: u64) {
        let Entry { client, seq, .. } = entry;
        let (kind, what) = match step {
            Step::Next => return,
            Step::Missing(lines) => {
                self.missing += lines;
                ("missing", format!("{lines} before operation {seq}"))
            }
            Step::Doubled => {
                self.doubled += 1;
                ("doubled", format!("operation {seq}"))
            }
        };
        if self.flaws.len() < EXAMPLES {
            self.flaws.push(Example {
                kind,
                table: "ledger",
                id: format!("{} line {line}: {what} of client {client}", path.display()),
            });
        }
    }

    fn read(paths: &[PathBuf]) -> Result<Story> {
        let mut story = Story::default();
        for path in paths {
            read(path, |_, entry| {
                if entry.op == Op::Existing {
                    story.existed(entry);
                }
            })?;
        }
        for path in paths {
            let mut numbers = Numbers::default();
            story.torn += read(path, |line, entry| {
                let step = numbers.next(&entry);
                story.note(step, &entry, path, line);
                if !matches!(step, Step::Doubled) {
                    story.happened(entry);
                }
            })?;
            for entry in numbers.unheard(underway::left_behind(path)?) {
                story.happened(entry);
            }
        }
        Ok(story)
    }
}

/// What a generator that was killed had sent, and its ledger has not heard the end of.
pub(super) fn unheard_of(ledger: &Path) -> Result<Vec<Entry>> {
    let left_behind = underway::left_behind(ledger)?;
    if left_behind.is_empty() {
        return Ok(left_behind);
    }
    let mut numbers = Numbers::default();
    read(ledger, |_, entry| {
        numbers.next(&entry);
    })?;
    Ok(numbers.unheard(left_behind))
}

/// Where a ledger's clients are: each numbers what it did, from 1 on in each run.
#[derive(Debug, Default)]
struct Numbers(HashMap<usize, u64>);

/// From a client's line to its next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Next,
    Missing(u64),
    Doubled,
}

impl Numbers {
    /// Those that come after what the ledger has. They were noted when they were sent, so their outcome is unknown.
    fn unheard(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut unheard = entries;
        unheard.retain(|entry| {
            self.0
                .get(&entry.client)
                .is_none_or(|last| entry.seq > *last)
        });
        unheard
    }

    fn next(&mut self, entry: &Entry) -> Step {
        match (entry.op, entry.outcome) {
            // Every run begins with this line.
            (Op::Heartbeat, Outcome::Unknown) => {
                self.0.clear();
                return Step::Next;
            }
            (Op::Heartbeat | Op::Existing, _) => return Step::Next,
            _ => {}
        }
        let last = self.0.entry(entry.client).or_insert(0);
        match entry.seq.checked_sub(*last) {
            None | Some(0) => Step::Doubled,
            Some(steps) => {
                *last = entry.seq;
                match steps {
                    1 => Step::Next,
                    _ => Step::Missing(steps - 1),
                }
            }
        }
    }
}

/// Reads a ledger line by line; the number of lines that were cut off.
fn read(path: &Path, mut each: impl FnMut(u64, Entry)) -> Result<u64> {
    let open = || format!("read the ledger {}", path.display());
    let file = File::open(path)
        .wrap_err_with(open)
        .hint(|| "name the file that attack --ledger wrote".into())?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut number, mut torn) = (Vec::new(), 0u64, 0);
    while reader.read_until(b'\n', &mut line).wrap_err_with(open)? > 0 {
        number += 1;
        match serde_json::from_slice::<Entry>(&line) {
            Ok(entry) => each(number, entry),
            Err(error) if error.is_eof() => torn += 1,
            Err(error) => {
                return Err(error).wrap_err_with(|| format!("{}, line {number}", open()));
            }
        }
        line.clear();
    }
    Ok(torn)
}

/// Replays ledgers against a server. Several ledgers are those of generators that wrote to the same tables.
///
/// # Errors
/// When a ledger or the server cannot be read. Differences are no error: [`Replay::verdict`].
pub fn verify(ledgers: &[PathBuf], dsn: &str) -> Result<Replay> {
    let dsn = Dsn::read(dsn)?;
    let mut sql = connect_unverified(dsn.reveal(), &application_name("verify_attack"))
        .wrap_err_with(|| format!("connect to {}", dsn.shown))
        .hint(|| "correct --dsn".into())?;
    let mut story = Story::read(ledgers)?;
    let mut replay = Replay {
        unknown: story.unknown,
        torn: story.torn,
        missing: story.missing,
        doubled: story.doubled,
        examples: std::mem::take(&mut story.flaws),
        ..Replay::default()
    };
    let mut transaction = sql
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .map_err(SqlError::from)
        .wrap_err("begin to read")?;
    for table in [Table::Items, Table::Sessions] {
        let attempt = || format!("read the rows of {} at {}", table.name(), dsn.shown);
        let text = format!(
            "SELECT id, {} FROM public.{}",
            table.as_text(),
            table.name()
        );
        let none: [&str; 0] = [];
        let mut rows = transaction
            .query_raw(&text, none)
            .map_err(SqlError::from)
            .wrap_err_with(attempt)?;
        while let Some(row) = rows.next().map_err(SqlError::from).wrap_err_with(attempt)? {
            replay.found(&mut story, table, row.get(0), row.get(1));
        }
    }
    replay.missing(story);
    Ok(replay)
}

impl Replay {
    /// A row that the server has.
    fn found(&mut self, story: &mut Story, table: Table, id: &str, value: &str) {
        self.checked += 1;
        let kind = match story.rows.remove(&(table, Text::of(id))) {
            None => "extra",
            Some(state) if state.may_be(Some(&Text::of(value))) => return,
            Some(state) if state.known.is_none() && state.maybe.is_empty() => "extra",
            Some(_) => "wrong",
        };
        self.differs(kind, table, id.to_owned());
    }

    /// The rows that the server does not have.
    fn missing(&mut self, story: Story) {
        for ((table, id), state) in story.rows {
            self.checked += 1;
            if !state.may_be(None) {
                self.differs("lost", table, id.to_string());
            }
        }
    }

    fn differs(&mut self, kind: &'static str, table: Table, id: String) {
        match kind {
            "lost" => self.lost += 1,
            "extra" => self.extra += 1,
            _ => self.wrong += 1,
        }
        if self.rows_that_differ() <= EXAMPLES as u64 {
            self.examples.push(Example {
                kind,
                table: table.name(),
                id,
            });
        }
    }

    /// The failure when something differs (exit code 3).
    pub fn verdict(&self) -> Option<Failure> {
        let Replay {
            lost, extra, wrong, ..
        } = self;
        let rows = || {
            Failure::no(format!(
                "verify the attack: {lost} rows lost, {extra} rows that should not be there, {wrong} rows with another value"
            ))
            .hint("look at the examples; a subscriber that has not caught up lacks rows too (flare lag)")
        };
        let lines = || {
            Failure::no(format!(
                "verify the attack: {} lines of the ledger are missing, {} are there twice; the rows agree with the others",
                self.missing, self.doubled
            ))
            .hint("verify with the ledger as attack wrote it")
        };
        match (self.rows_that_differ(), self.missing + self.doubled) {
            (0, 0) => None,
            (0, _) => Some(lines()),
            (_, _) => Some(rows()),
        }
    }

    fn rows_that_differ(&self) -> u64 {
        self.lost + self.extra + self.wrong
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rows checked: {} lost, {} that should not be there, {} with another value ({} operations of unknown outcome)",
            self.checked, self.lost, self.extra, self.wrong, self.unknown
        )?;
        if self.torn > 0 {
            writeln!(f, "{} lines of the ledger are cut off", self.torn)?;
        }
        if self.missing + self.doubled > 0 {
            writeln!(
                f,
                "{} lines of the ledger are missing, {} are there twice",
                self.missing, self.doubled
            )?;
        }
        for Example { kind, table, id } in &self.examples {
            writeln!(f, "  {kind}: {table} {id:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(op: Op, id: &str, name: Option<&str>, outcome: Outcome) -> Entry {
        Entry {
            op,
            table: Table::Items,
            id: id.to_owned(),
            name: name.map(str::to_owned),
            client: 0,
            seq: 1,
            outcome,
        }
    }

    /// What the replay of these entries finds in these rows: lost, extra, wrong.
    fn replayed(entries: &[Entry], rows: &[(&str, &str)]) -> (u64, u64, u64) {
        let mut story = Story::default();
        let (existing, happened): (Vec<Entry>, Vec<Entry>) = entries
            .iter()
            .cloned()
            .partition(|entry| entry.op == Op::Existing);
        existing.into_iter().for_each(|entry| story.existed(entry));
        happened.into_iter().for_each(|entry| story.happened(entry));
        let mut replay = Replay::default();
        for (id, value) in rows {
            replay.found(&mut story, Table::Items, id, value);
        }
        replay.missing(story);
        (replay.lost, replay.extra, replay.wrong)
    }

    #[test]
    fn what_was_acknowledged_has_to_be_there_as_it_was_last() {
        use Outcome::Acknowledged as Ack;
        let uuid = "6f2b1c9e-0c1f-4f0e-9a3e-2f6b5a7d8c90";
        let story = [
            entry(Op::Insert, uuid, Some("1"), Ack),
            entry(Op::Update, uuid, Some("2"), Ack),
            entry(Op::Insert, "b", Some("1"), Ack),
            entry(Op::Delete, "b", None, Ack),
            entry(Op::Insert, "c", Some("1"), Ack),
        ];
        assert_eq!(replayed(&story, &[(uuid, "2"), ("c", "1")]), (0, 0, 0));
        assert_eq!(replayed(&story, &[(uuid, "1"), ("b", "1")]), (1, 1, 1));
        assert_eq!(
            replayed(&story, &[(uuid, "2"), ("c", "1"), ("stray", "x")]),
            (0, 1, 0)
        );
    }

    #[test]
    fn unknown_outcomes_may_have_happened_or_not() {
        use Outcome::{Acknowledged as Ack, Unknown};
        let story = [
            entry(Op::Insert, "a", Some("1"), Unknown),
            entry(Op::Insert, "b", Some("1"), Ack),
            entry(Op::Update, "b", Some("2"), Unknown),
            entry(Op::Insert, "c", Some("1"), Ack),
            entry(Op::Delete, "c", None, Unknown),
        ];
        for rows in [
            &[("a", "1"), ("b", "1"), ("c", "1")][..],
            &[("b", "2")],
            &[("a", "1"), ("b", "2")],
        ] {
            assert_eq!(replayed(&story, rows), (0, 0, 0), "{rows:?}");
        }
        assert_eq!(replayed(&story, &[("a", "9")]), (1, 0, 1));
    }

    #[test]
    fn rows_that_were_there_before_have_to_stay_and_the_heartbeat_moves() {
        let story = [
            entry(Op::Existing, "old", Some("1"), Outcome::Existing),
            entry(Op::Heartbeat, "flare", Some("0"), Outcome::Unknown),
        ];
        assert_eq!(replayed(&story, &[("old", "1")]), (0, 0, 0));
        assert_eq!(replayed(&story, &[("old", "2"), ("flare", "9")]), (0, 0, 1));
        let beaten = entry(Op::Heartbeat, "flare", Some("5"), Outcome::Existing);
        assert_eq!(replayed(&[beaten], &[]), (1, 0, 0));
    }

    #[test]
    fn lines_that_are_missing_or_there_twice_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let begin = entry(Op::Heartbeat, "flare", Some("0"), Outcome::Unknown);
        let numbered = |client, seq| Entry {
            client,
            seq,
            ..entry(
                Op::Insert,
                &format!("{client}-{seq}"),
                Some("1"),
                Outcome::Acknowledged,
            )
        };
        let read = |entries: &[Entry]| {
            let lines = entries
                .iter()
                .map(|e| serde_json::to_string(e).unwrap() + "\n");
            std::fs::write(&path, lines.collect::<String>()).unwrap();
            Story::read(std::slice::from_ref(&path)).unwrap()
        };
        let of = |client, seqs: &[u64]| {
            seqs.iter()
                .map(move |seq| numbered(client, *seq))
                .collect::<Vec<_>>()
        };
        let whole = [
            vec![begin.clone()],
            of(0, &[1, 2]),
            of(1, &[1]),
            vec![begin],
            of(0, &[1, 2]),
        ]
        .concat();
        let story = read(&whole);
        assert_eq!((story.missing, story.doubled, story.flaws), (0, 0, vec![]));
        let story = read(&[of(0, &[1, 2, 5]), of(1, &[2, 2])].concat());
        assert_eq!((story.missing, story.doubled), (3, 1));
        let named: Vec<&str> = story.flaws.iter().map(|flaw| flaw.kind).collect();
        assert_eq!(named, ["missing", "missing", "doubled"]);
        assert!(
            story.flaws[0]
                .id
                .ends_with("line 3: 2 before operation 5 of client 0")
        );
        let replay = Replay {
            doubled: 1,
            ..Replay::default()
        };
        assert_eq!(replay.verdict().map(|failure| failure.exit_code()), Some(3));
    }

    #[test]
    fn half_a_line_is_counted_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let line = serde_json::to_string(&entry(Op::Insert, "a", Some("1"), Outcome::Unknown));
        std::fs::write(&path, format!("{}\n{{\"op\":\"ins", line.unwrap())).unwrap();
        let story = Story::read(std::slice::from_ref(&path)).unwrap();
        assert_eq!((story.rows.len(), story.torn, story.unknown), (1, 1, 1));
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = Story::read(&[path]).unwrap_err();
        assert!(crate::error::message_of(&error).contains("line 1"));
    }
}
