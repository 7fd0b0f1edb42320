//! What `adopt` says: what was done, and what to do next.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::value::{Lsn, ShellWord};

/// What `adopt begin` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdoptBegun {
    /// The subscription.
    pub subname: String,
    /// Its database.
    pub dbname: String,
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The slot, which is there before the clone.
    pub slot_name: String,
    /// Where it begins.
    pub slot_lsn: Option<Lsn>,
    /// Whether the program that was given has taken the clone.
    pub cloned: bool,
    #[serde(skip)]
    pub(super) hook: Option<PathBuf>,
    #[serde(skip)]
    pub(super) host: String,
    #[serde(skip)]
    pub(super) port: u16,
}

impl fmt::Display for AdoptBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdoptBegun {
            slot_name,
            host,
            port,
            hook,
            cloned,
            ..
        } = self;
        match (self.dry_run, self.changed, self.slot_lsn) {
            (true, _, None) => writeln!(f, "would create slot {slot_name:?}")?,
            (false, true, Some(lsn)) => writeln!(f, "slot {slot_name:?} begins at {lsn}")?,
            _ => writeln!(f, "slot {slot_name:?} is there already")?,
        }
        if let Some(hook) = hook {
            let would = if *cloned { "has taken" } else { "would take" };
            writeln!(f, "{} {would} the clone.", hook.display())?;
            return self.say_how_to_go_on(f);
        }
        writeln!(f, "Now take the clone, one of:")?;
        writeln!(
            f,
            "  a snapshot of the volumes that hold the data directory, WAL and tablespaces, all at one moment"
        )?;
        writeln!(
            f,
            "  pg_basebackup -h {host} -p {port} -U {{superuser}} -D {{directory}} -X stream -c fast"
        )?;
        writeln!(
            f,
            "  a standby: let it replay beyond the slot's point, cut it off (primary_conninfo = ''), promote it"
        )?;
        writeln!(
            f,
            "  Amazon RDS: a snapshot taken now, restored as an instance of its own"
        )?;
        self.say_how_to_go_on(f)
    }
}

impl AdoptBegun {
    fn say_how_to_go_on(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sub = ShellWord(&self.subname);
        writeln!(
            f,
            "Start it alone (max_logical_replication_workers = 0, autovacuum = off, no clients, no cron), and at this first start:"
        )?;
        writeln!(f, "  flare adopt measure {sub} --clone CONNINFO")?;
        writeln!(
            f,
            "Then upgrade it, put its address and new system_identifier into the configuration, and:"
        )?;
        writeln!(f, "  flare adopt finish {sub}")
    }
}

/// What `adopt measure` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdoptMeasured {
    /// The subscription.
    pub subname: String,
    /// Its database.
    pub dbname: String,
    /// Whether the point was put on record.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// What the clone has reached: the subscription begins here.
    pub point: Lsn,
    /// Transactions of the stream that were looked for on the clone.
    pub transactions: usize,
    /// Those before the point, which the clone has.
    pub before: usize,
    /// Those after it, which it has not.
    pub after: usize,
    /// What to run on the clone before it is upgraded.
    pub statements: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl fmt::Display for AdoptMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the clone has reached {}: of {} transactions of the stream it has exactly the {} before that, and none of the {} after it",
            self.point, self.transactions, self.before, self.after
        )?;
        if !self.statements.is_empty() {
            writeln!(f, "On the clone, before it is upgraded:")?;
        }
        for statement in &self.statements {
            writeln!(f, "  {statement};")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(
            f,
            "Then: upgrade it, put its address and system_identifier into the configuration, flare adopt finish {}",
            ShellWord(&self.subname)
        )
    }
}
