//! Why the workers of a subscription end: the transaction that its slot hands over next, held against what both catalogs
//! show. The server's own words are in its log, which nobody reads from here.

mod copy_slot;
mod on_the_way;
mod pending;
mod roles;
mod rows;
mod tables;

use serde::Serialize;

use self::pending::Pending;
use crate::catalog::foreign_keys::{self, ForeignKey};
use crate::error::{Result, message_of};
use crate::server::{Session, Side};
use crate::value::{ShellWord, TableName};

/// No question is worth more than this to a server whose replication stands, and none waits in a lock queue.
const BRIEFLY: &str = "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '2s'; SET LOCAL lock_timeout = '500ms'";
/// So many tables of a transaction are looked at.
const TABLES: usize = 50;

/// What probably ends the workers, with the statement that mends it where one is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Suspect {
    /// Which kind.
    pub suspect: SuspectKind,
    /// The sentence; it names the object.
    pub message: String,
    /// What mends it, and where.
    pub statement: Option<String>,
    /// Where it is a table's.
    #[serde(skip)]
    pub(crate) table: Option<TableName>,
}

impl Suspect {
    /// Whether it may be what keeps this table, as `regclass` prints it, from being copied.
    pub(crate) fn may_concern(&self, table: &str) -> bool {
        let of = self.table.as_ref();
        of.is_none_or(|it| table.parse().is_ok_and(|table: TableName| table == *it))
    }
}

/// Kinds of reasons, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SuspectKind {
    /// A worker waits for a lock.
    Lock,
    /// A table's copy has ended, and the slot that its worker looks for is gone.
    CopySlot,
    /// A table that is changed is not there.
    MissingTable,
    /// A column that is sent is not there.
    MissingColumn,
    /// A row that is sent has the key of one that is there already.
    KeyCollision,
    /// Row security holds for the role that writes.
    RowSecurity,
    /// A role may not do what it has to.
    Privilege,
    /// A role cannot log in, or there is no room for it.
    Login,
    /// A column that has to have a value is not sent.
    RequiredColumn,
    /// An index, a generated column or a CHECK needs a search_path, which is empty there.
    Expression,
    /// A table that is truncated is referred to by one that is not.
    ForeignKey,
    /// A row is searched for by a column that cannot be compared, or by a key that is not sent.
    Identity,
    /// A constraint stands on the side that takes the rows alone, or was never checked for old ones.
    Constraint,
    /// A copy would meet rows that are there already.
    NotEmpty,
    /// A column is of another type.
    ColumnType,
    /// A trigger fires on apply.
    Trigger,
    /// A timeout ends a statement.
    Timeout,
}

/// A subscription as it is looked at: its session's database is the subscription's.
pub(crate) struct Stopped<'a> {
    pub(crate) from: &'a Session,
    pub(crate) to: &'a Session,
    pub(crate) subname: &'a str,
    /// A session of the databases' owner where the rows arrive: no administrator runs code of theirs.
    pub(crate) as_owner: &'a dyn Fn() -> Result<Session>,
    /// Their owner there.
    pub(crate) db_owner: &'a str,
    /// Who logs in on the publisher for it.
    pub(crate) repl: &'a str,
    /// How the two servers are called in the configuration.
    pub(crate) sides: (Side, Side),
}

/// What explains that the workers end; the surest first, none where the catalogs show nothing. What cannot be asked is
/// left out.
pub(crate) fn suspects(stopped: &Stopped<'_>) -> Vec<Suspect> {
    let Some(subscription) = kept(roles::subscription(stopped.to, stopped.subname)).flatten()
    else {
        return Vec::new();
    };
    let pending = kept(pending::next(stopped.from, &subscription)).flatten();
    let mut found = kept(copy_slot::gone(stopped)).unwrap_or_default();
    let unready = kept(tables::unready(stopped)).unwrap_or_default();
    let mut names: Vec<TableName> = match &pending {
        Some(pending) => pending.tables(),
        None => Vec::new(),
    };
    names.truncate(TABLES);
    let copied = unready.iter().filter(|it| !names.contains(it));
    let copied: Vec<TableName> = copied.take(TABLES).cloned().collect();
    names.extend(copied);
    if pending.is_none() && names.is_empty() {
        names = kept(tables::published(stopped, &subscription)).unwrap_or_default();
    }
    let changes = pending.as_ref().map(|it: &Pending| it.changes.as_slice());
    if let Some(there) = kept(tables::look(stopped, &subscription, &names)) {
        let coming = kept(on_the_way::tables(stopped)).unwrap_or_default();
        for table in &there {
            // What only waits to be copied is changed by nobody yet.
            let copied = unready.contains(&table.name);
            let changes = changes.or(copied.then_some(&[]));
            let mut judged = tables::judge(table, changes, copied, stopped.sides);
            if coming.contains(&table.name) {
                judged.retain(|it| !on_the_way::is_shape(it.suspect));
            }
            for it in &mut judged {
                it.table = Some(table.name.clone());
            }
            found.extend(judged);
        }
        if let Some(pending) = &pending {
            found.extend(kept(rows::collision(stopped, pending, &there)).flatten());
            let keys = kept(foreign_keys::in_the_way(stopped.to, &pending.truncated));
            found.extend(
                keys.unwrap_or_default()
                    .iter()
                    .map(|key| refers(key, stopped)),
            );
        }
        let copying = there.iter().filter(|it| unready.contains(&it.name));
        if found.is_empty() {
            found.extend(kept(tables::expressions(stopped)).unwrap_or_default());
        }
        for table in copying {
            found.extend(kept(rows::not_empty(stopped, table)).flatten());
        }
    }
    found
        .extend(kept(roles::look(stopped, &subscription, !unready.is_empty())).unwrap_or_default());
    found.sort_by_key(|it| it.suspect);
    found.dedup();
    found
}

fn refers(key: &ForeignKey, stopped: &Stopped<'_>) -> Suspect {
    suspect(
        SuspectKind::ForeignKey,
        format!(
            "TRUNCATE of {} is refused because of {key}, which the subscription does not truncate with it",
            key.refers_to.plain()
        ),
        format!("flare ddl {} --retry", ShellWord(stopped.subname)),
    )
}

/// What stands in the way of a TRUNCATE that is handed over next.
pub(crate) fn in_the_way(from: &Session, to: &Session, subname: &str) -> Vec<ForeignKey> {
    let subscription = kept(roles::subscription(to, subname)).flatten();
    let pending = subscription.and_then(|it| kept(pending::next(from, &it)).flatten());
    let keys = pending.and_then(|it| kept(foreign_keys::in_the_way(to, &it.truncated)));
    keys.unwrap_or_default()
}

/// The suspects as one sentence; none where there are none.
pub(crate) fn in_words(suspects: &[Suspect]) -> Option<String> {
    const SHOWN: usize = 3;
    if suspects.is_empty() {
        return None;
    }
    let words: Vec<String> = suspects
        .iter()
        .take(SHOWN)
        .map(Suspect::to_string)
        .collect();
    let more = match suspects.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("; and {more} more"),
        _ => String::new(),
    };
    Some(format!("{}{more}", words.join("; ")))
}

impl std::fmt::Display for Suspect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.statement {
            Some(statement) => write!(f, "{} ({statement})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

fn suspect(suspect: SuspectKind, message: String, statement: impl Into<Option<String>>) -> Suspect {
    Suspect {
        suspect,
        message,
        statement: statement.into(),
        table: None,
    }
}

/// Asks in a transaction of its own, briefly.
fn briefly<T>(session: &Session, ask: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
    session.transaction(|session| {
        session.batch(BRIEFLY)?;
        ask(session)
    })
}

fn kept<T>(found: Result<T>) -> Option<T> {
    found
        .inspect_err(|report| log::debug!("look for what ends the workers: {}", message_of(report)))
        .ok()
}
