//! A sample for a person.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::age::seconds_in_words;
use super::sample::{Connection, PublisherSample, Sample, SubscriberSample};
use super::side_session::sides;
use super::unanswered::Unanswered;
use crate::journal::Direction;
use crate::server::Side;
use crate::value::Size;

/// More tables than these are only counted.
const SHOWN_TABLES: usize = 10;

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(head);
    table
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn bytes(value: Option<u64>) -> String {
    text(value.map(Size))
}

/// `srsubstate` in words (manual: `pg_subscription_rel`).
pub(crate) fn copy_state(srsubstate: &str) -> &str {
    match srsubstate {
        "i" => "not begun",
        "d" => "copying",
        "f" => "copied",
        "s" => "synchronised",
        "r" => "ready",
        other => other,
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}  database {:?}, subscription {:?}{}",
            self.time,
            self.dbname,
            self.subname,
            match self.direction {
                Direction::Forward => "",
                Direction::Back => ": the way back, from the subscriber to the publisher",
            }
        )?;
        let (from, to) = sides(self.direction);
        let slot = match (self.active, &self.publisher) {
            (Some(true), _) => "active",
            (Some(false), _) => "NOT ACTIVE",
            (None, Some(_)) => "MISSING",
            (None, None) => "unknown",
        };
        writeln!(
            f,
            "lag {}{}, slot {:?} {slot}, retains {}{}",
            bytes(self.lag_bytes),
            self.lag_seconds
                .map(|_| format!(
                    ", {}",
                    seconds_in_words(self.lag_seconds, self.lag_seconds_at_most)
                ))
                .unwrap_or_default(),
            self.slot_name.as_deref().unwrap_or("-"),
            bytes(self.retained_wal_bytes),
            self.wal_status
                .as_ref()
                .map(|status| format!(" ({status})"))
                .unwrap_or_default()
        )?;
        for cause in &self.causes {
            writeln!(f, "why: {cause}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f)?;
        match (&self.publisher, &self.publisher_error) {
            (Some(publisher), _) => publisher.show(f, from)?,
            (None, error) => unreachable(f, from, error.as_ref())?,
        }
        writeln!(f)?;
        match (&self.subscriber, &self.subscriber_error) {
            (Some(subscriber), _) => subscriber.show(f, to),
            (None, error) => unreachable(f, to, error.as_ref()),
        }
    }
}

/// A side as the first word of its part.
fn heading(side: Side) -> &'static str {
    match side {
        Side::Publisher => "Publisher",
        Side::Subscriber => "Subscriber",
    }
}

fn unreachable(f: &mut fmt::Formatter<'_>, side: Side, why: Option<&Unanswered>) -> fmt::Result {
    let what = if why.is_some_and(|why| why.refused) {
        "REFUSES"
    } else {
        "UNREACHABLE"
    };
    let side = heading(side).to_uppercase();
    let words = why.map(Unanswered::advice);
    writeln!(f, "{side} {what}: {}", text(words.as_deref()))
}

impl PublisherSample {
    fn show(&self, f: &mut fmt::Formatter<'_>, side: Side) -> fmt::Result {
        let limit = match self.max_slot_wal_keep_size.as_deref() {
            None | Some("-1") => "no limit on retained WAL".to_owned(),
            Some(limit) => format!("at most {limit} of WAL retained"),
        };
        let side = heading(side);
        writeln!(f, "{side} at {}, {limit}", self.current_wal_lsn)?;
        let mut slots = table(["slot", "active", "lag", "retained", "status", "confirmed"]);
        for slot in &self.slots {
            let lag = slot
                .confirmed_flush_lsn
                .map(|confirmed| self.current_wal_lsn.bytes_since(confirmed));
            slots.add_row([
                slot.slot_name.clone(),
                if slot.active { "yes" } else { "no" }.to_owned(),
                bytes(lag),
                bytes(slot.retained_wal_bytes),
                text(slot.wal_status.as_ref()),
                text(slot.confirmed_flush_lsn),
            ]);
        }
        show(f, "no slots in this database", slots)?;
        let mut walsenders = table([
            "walsender",
            "user",
            "application",
            "from",
            "state",
            "sent",
            "flushed",
        ]);
        for walsender in &self.walsenders {
            walsenders.add_row([
                walsender.pid.to_string(),
                text(walsender.usename.as_ref()),
                text(walsender.application_name.as_ref()),
                text(walsender.client_addr.as_ref()),
                text(walsender.state.as_ref()),
                text(walsender.sent_lsn),
                text(walsender.flush_lsn),
            ]);
        }
        show(f, "no walsenders", walsenders)?;
        connections(f, &self.connections)
    }
}

impl SubscriberSample {
    fn show(&self, f: &mut fmt::Formatter<'_>, side: Side) -> fmt::Result {
        let side = heading(side);
        let Some(subscription) = &self.subscription else {
            writeln!(f, "{side}: there is no such subscription")?;
            return connections(f, &self.connections);
        };
        let enabled = if subscription.subenabled {
            "enabled"
        } else {
            "DISABLED"
        };
        let states: Vec<String> = self
            .table_states
            .iter()
            .map(|(state, count)| format!("{count} {}", copy_state(state)))
            .collect();
        let states = if states.is_empty() {
            "no tables".to_owned()
        } else {
            format!("tables: {}", states.join(", "))
        };
        writeln!(f, "{side}: subscription {enabled}, {states}")?;
        if let Some(errors) = &self.errors {
            writeln!(
                f,
                "errors: {} while applying, {} while copying",
                errors.apply_error_count, errors.sync_error_count
            )?;
        }
        let mut workers = table(["worker", "does", "received", "reported", "last message"]);
        for worker in &self.workers {
            let does = match (&worker.table, &worker.worker_type) {
                (Some(table), _) => format!("copies {table}"),
                (None, Some(kind)) => kind.clone(),
                (None, None) => "apply".to_owned(),
            };
            workers.add_row([
                worker.pid.to_string(),
                does,
                text(worker.received_lsn),
                text(worker.latest_end_lsn),
                text(worker.last_msg_receipt_time.as_ref()),
            ]);
        }
        show(f, "NO WORKERS", workers)?;
        if !self.unready.is_empty() {
            let mut unready = table(["table", "state", "size"]);
            for table in self.unready.iter().take(SHOWN_TABLES) {
                unready.add_row([
                    table.table.clone(),
                    copy_state(&table.srsubstate).to_owned(),
                    bytes(table.bytes),
                ]);
            }
            show(f, "", unready)?;
        }
        connections(f, &self.connections)
    }
}

fn connections(f: &mut fmt::Formatter<'_>, connections: &[Connection]) -> fmt::Result {
    let mut users = table(["user", "sessions", "active"]);
    for connection in connections {
        users.add_row([
            text(connection.usename.as_ref()),
            connection.count.to_string(),
            connection.active.to_string(),
        ]);
    }
    for column in users.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    show(f, "no other sessions", users)
}

fn show(f: &mut fmt::Formatter<'_>, nothing: &str, table: Table) -> fmt::Result {
    if table.is_empty() {
        writeln!(f, "  {nothing}")
    } else {
        table
            .to_string()
            .lines()
            .try_for_each(|line| writeln!(f, " {}", line.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, tests::sample};
    use crate::journal::Direction;
    use crate::observe::Unanswered;

    #[test]
    fn a_person_sees_lag_slots_workers_and_tables() {
        insta::assert_snapshot!(sample());
    }

    #[test]
    fn a_server_that_is_gone_is_shown_as_such() {
        let gone = || Err(Unanswered::silent("connect: refused"));
        let sample = Sample::of(
            "now".into(),
            Direction::Forward,
            "shop",
            "sub",
            Err(Unanswered::silent("frozen")),
            gone(),
        );
        insta::assert_snapshot!(sample);
    }
}
