//! What is known beforehand to go wrong, and what a copy would have to do.

use super::{Copy, Restart, reader};
use crate::catalog::{capacity, publications, slots, tables};
use crate::copy::record::{self, Recorded};
use crate::copy::report::InitialCopy;
use crate::copy::{adopt, plan, sources, under_way};
use crate::error::{Failure, Result};
use crate::replicate::schema::Place;
use crate::replicate::{Mode, slot, subscription};
use crate::server::{Pair, Session};
use crate::value::{ShellWord, TableName, counted};

/// Sessions that lead the copy and look after it, on either side.
const BESIDE: i64 = 5;

impl Copy<'_> {
    /// Each job has a session on either side: without room for them a copy would end half-way.
    pub(super) fn check_sessions(&mut self) -> Result<()> {
        let Pair {
            publisher,
            subscriber,
        } = self.pair;
        for (side, session) in [
            (publisher.side(), publisher.admin()),
            (subscriber.side(), subscriber.admin()),
        ] {
            let room = (capacity::free_sessions(session)? - BESIDE).max(1);
            let room = usize::try_from(room).unwrap_or(1);
            match self.options.jobs {
                None => self.jobs = self.jobs.min(room),
                Some(jobs) if jobs > room => {
                    return Failure::new(format!(
                        "{jobs} jobs need as many sessions on the {side}, whose max_connections leaves room for {room}"
                    ))
                    .hint(format!("run it with --jobs {room} or less, or raise max_connections there"))
                    .err();
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn check_publication(&self) -> Result<()> {
        let session = self.look()?;
        let pubname = &self.declared.pubname;
        let Some(found) = publications::find(&session, pubname)? else {
            return Failure::new(format!("the publisher has no publication {pubname:?}"))
                .hint(format!(
                    "run flare create_publication {}",
                    ShellWord(self.dbname())
                ))
                .err();
        };
        if !found.partial.is_empty() {
            return Failure::new(format!(
                "publication {pubname:?} has only some rows or columns of {}",
                tables::listed(&found.partial)
            ))
            .hint("publish whole tables: the copy would bring more than the stream goes on with")
            .err();
        }
        let published = publications::tables(&session, pubname)?;
        let user = self.pair.publisher.credentials(reader(self.pair))?.user();
        let unreadable = tables::unreadable(&session, user, &published)?;
        let hidden: Vec<&TableName> = unreadable
            .denied
            .iter()
            .chain(&unreadable.filtered)
            .collect();
        if hidden.is_empty() {
            Ok(())
        } else {
            Failure::new(format!(
                "{user:?} may not read all of {} on the publisher",
                tables::listed(hidden)
            ))
            .hint("GRANT it SELECT there, and BYPASSRLS where row security is on")
            .err()
        }
    }

    /// All that can be known beforehand to go wrong.
    pub(super) fn check(&mut self, place: Place) -> Result<()> {
        adopt::check_none(self.pair.publisher.admin(), self.subname)?;
        self.halves.check(place, self.subname)?;
        subscription::check_room(self.pair)?;
        match slots::find(self.pair.publisher.admin(), &self.slot_name)? {
            None => Ok(()),
            Some(left)
                if !left.active
                    && left.plugin.as_deref() == Some("pgoutput")
                    && left.database.as_deref() == Some(self.dbname()) =>
            {
                self.run.progress.step(&format!(
                    "replication slot {:?} was left behind, inactive: it is dropped",
                    self.slot_name
                ));
                match self.run.mode {
                    Mode::Apply => slot::drop(&self.pair.publisher, &self.slot_name),
                    Mode::DryRun => Ok(()),
                }
            }
            Some(_) => Failure::new(format!(
                "the publisher has a slot {:?} already, which is in use or of another database",
                self.slot_name
            ))
            .hint("name the subscription otherwise, or drop that slot on the publisher")
            .err(),
        }
    }

    pub(super) fn check_recorded(&self, recorded: &Recorded) -> Result<()> {
        if recorded.subname == self.subname
            && recorded.publisher == self.pair.publisher.identifier().to_string()
        {
            return Ok(());
        }
        Failure::new(format!(
            "an interrupted copy of subscription {:?}, begun {} from the publisher with identifier {}, is on record in the subscriber's database {:?}",
            recorded.subname,
            recorded.began_at,
            recorded.publisher,
            self.dbname()
        ))
        .hint("go on with that one, or drop the database and begin anew")
        .err()
    }

    /// What was written since the slot is gone, or has lost its WAL, would never arrive.
    pub(super) fn check_slot(&self, recorded: &Recorded) -> Result<()> {
        let name = &recorded.slot_name;
        let what = match slots::find(self.pair.publisher.admin(), name)? {
            None => "is gone",
            Some(slot) if slot.is_lost() => {
                "has lost the WAL that the copy is to go on with (max_slot_wal_keep_size)"
            }
            Some(_) => return Ok(()),
        };
        Failure::new(format!("slot {name:?} of the publisher {what}"))
            .hint(format!(
                "begin anew: {}",
                under_way::anew(recorded.phase, self.subname, self.dbname())
            ))
            .err()
    }

    /// What a copy would have to do.
    pub(super) fn foresee(mut self) -> Result<InitialCopy> {
        let session = self.look()?;
        let published = publications::tables(&session, &self.declared.pubname)?;
        let major = self.pair.publisher.major();
        let sources = sources::sources(&session, major, &published)?;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.report.tables = count(sources.len());
        self.report.bytes = sources.iter().map(|it| it.bytes).sum();
        self.report.jobs = count(plan::jobs(&sources, major, None).len());
        self.name_what_is_left_out(&session)?;
        Ok(self.report)
    }

    /// What going on would have to do, or beginning anew.
    pub(super) fn foresee_going_on(
        mut self,
        control: &Session,
        recorded: &Recorded,
    ) -> Result<InitialCopy> {
        if self.options.restart == Restart::No {
            self.tell_finished(control)?;
            return Ok(self.report);
        }
        let emptied = self.check_anew(control, recorded)?;
        let rows = record::finished(control)?.rows;
        let mut report = self.foresee()?;
        if !emptied.is_empty() {
            report.notes.push(format!(
                "it would start over: {} of the subscriber would be emptied, {}: {}",
                counted(emptied.len(), "table"),
                counted(rows, "row"),
                tables::listed(&emptied)
            ));
        }
        Ok(report)
    }

    /// What the publisher has dropped or renamed while the copy was under way is still there.
    pub(super) fn name_what_is_left_over(&mut self, from: &Session, to: &Session) -> Result<()> {
        for table in tables::lacking_in(from, to)? {
            let name = &table.name;
            let holds = if table.empty {
                "and is empty: where the publisher has dropped it, run on the subscriber, after BEGIN READ WRITE: DROP TABLE"
            } else {
                "and may hold rows, which DROP TABLE would lose: where the publisher has dropped it and nobody needs them, run on the subscriber, after BEGIN READ WRITE: DROP TABLE"
            };
            self.report.notes.push(format!(
                "warning: table {} is only on the subscriber {holds} {name}; where it has another name now: flare replicate_schema --missing {} says which",
                name.plain(),
                ShellWord(self.dbname())
            ));
        }
        Ok(())
    }

    pub(super) fn name_what_is_left_out(&mut self, session: &Session) -> Result<()> {
        let objects = sources::large_objects(session)?;
        if objects > 0 {
            self.report.notes.push(format!(
                "{objects} large objects are not copied: nothing replicates them"
            ));
        }
        Ok(())
    }
}
