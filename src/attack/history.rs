//! What ledgers tell: the states that each row may be in, and where the ledgers are not whole.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::ledger::{Entry, Op, Outcome, Table};
use super::replay::{EXAMPLES, Example};
use super::underway;
use crate::error::{Advise, Result, WrapErr};

/// An id or a value; most are UUIDs, which take little room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Text {
    Uuid(Uuid),
    Other(Box<str>),
}

impl Text {
    pub(super) fn of(text: &str) -> Text {
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
pub(super) struct State {
    /// As acknowledged; none: absent.
    pub(super) known: Option<Text>,
    /// What operations of unknown outcome may have made of it. They may also have come later than what was acknowledged.
    pub(super) maybe: Vec<Option<Text>>,
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

    pub(super) fn may_be(&self, value: Option<&Text>) -> bool {
        let agrees = |state: &Option<Text>| state.as_ref() == value;
        agrees(&self.known) || self.maybe.iter().any(agrees) || self.moving && value.is_some()
    }
}

/// All rows of the ledger; what is surely deleted is not in it.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) rows: HashMap<(Table, Text), State>,
    pub(super) unknown: u64,
    pub(super) torn: u64,
    pub(super) missing: u64,
    pub(super) doubled: u64,
    pub(super) flaws: Vec<Example>,
}

impl History {
    /// The rows that were there before; what the generator did to them stands elsewhere, perhaps in another ledger.
    pub(super) fn existed(&mut self, entry: Entry) {
        let key = (entry.table, Text::of(&entry.id));
        let value = entry.name.as_deref().map(Text::of);
        self.rows.entry(key).or_insert(State::known(value));
    }

    pub(super) fn happened(&mut self, entry: Entry) {
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

    /// Reads ledgers; several are those of generators that wrote to the same tables.
    pub(super) fn read(paths: &[PathBuf]) -> Result<History> {
        let mut history = History::default();
        for path in paths {
            read(path, |_, entry| {
                if entry.op == Op::Existing {
                    history.existed(entry);
                }
            })?;
        }
        for path in paths {
            let mut numbers = Numbers::default();
            history.torn += read(path, |line, entry| {
                let step = numbers.next(&entry);
                history.note(step, &entry, path, line);
                if !matches!(step, Step::Doubled) {
                    history.happened(entry);
                }
            })?;
            for entry in numbers.unheard(underway::left_behind(path)?) {
                history.happened(entry);
            }
        }
        Ok(history)
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
        // A line that was cut off within a string has its end from the next run: the string is what lacks one.
        match serde_json::from_slice::<Entry>(line.trim_ascii_end()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_missing_or_there_twice_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let begin = Entry::item(Op::Heartbeat, "flare", Some("0"), Outcome::Unknown);
        let numbered = |client, seq| Entry {
            client,
            seq,
            ..Entry::item(
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
            History::read(std::slice::from_ref(&path)).unwrap()
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
        let history = read(&whole);
        assert_eq!(
            (history.missing, history.doubled, history.flaws),
            (0, 0, vec![])
        );
        let history = read(&[of(0, &[1, 2, 5]), of(1, &[2, 2])].concat());
        assert_eq!((history.missing, history.doubled), (3, 1));
        let named: Vec<&str> = history.flaws.iter().map(|flaw| flaw.kind).collect();
        assert_eq!(named, ["missing", "missing", "doubled"]);
        assert!(
            history.flaws[0]
                .id
                .ends_with("line 3: 2 before operation 5 of client 0")
        );
    }

    #[test]
    fn half_a_line_is_counted_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let line =
            serde_json::to_string(&Entry::item(Op::Insert, "a", Some("1"), Outcome::Unknown));
        let line = line.unwrap();
        for end in ["", "\n"] {
            std::fs::write(&path, format!("{line}\n{{\"op\":\"ins{end}")).unwrap();
            let history = History::read(std::slice::from_ref(&path)).unwrap();
            assert_eq!(
                (history.rows.len(), history.torn, history.unknown),
                (1, 1, 1)
            );
        }
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = History::read(&[path]).unwrap_err();
        assert!(crate::error::message_of(&error).contains("line 1"));
    }
}
