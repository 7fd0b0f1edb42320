//! What a clone has reached, and the proof of it.

use postgres::Client;

use super::clone::{Clone, OwnRows, STARTED};
use super::counts::{self, SESSIONS, UNCOUNTED};
use super::report::AdoptMeasured;
use super::{not_begun, recorded};
use crate::catalog::slots;
use crate::config::Subscription;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::replicate::{Mode, Run};
use crate::server::{Login, Publisher, SqlError, connect_unverified, params};
use crate::value::{Ident, Literal, Lsn};

/// How far beyond the clone's point the stream is looked at.
const BEYOND_BYTES: u64 = 16 << 20;

/// A transaction of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    /// As the log has it, without its epoch.
    xid: u32,
    lsn: Lsn,
}

/// The number with its epoch, given the next one of the clone.
fn with_epoch(xid: u32, next: i64) -> i64 {
    let (epoch, low) = (next >> 32, next & 0xFFFF_FFFF);
    let xid = i64::from(xid);
    let same = (epoch << 32) + xid;
    // Numbers go round: the nearer of two epochs.
    match xid - low {
        ahead if ahead > 1 << 31 => same - (1 << 32),
        behind if behind < -(1 << 31) => same + (1 << 32),
        _ => same,
    }
}

/// Measures a clone and puts its point on record.
pub(crate) fn measure(
    publisher: &Publisher,
    subname: &str,
    declared: &Subscription,
    clone: &str,
    run: &Run,
) -> Result<AdoptMeasured> {
    let attempt = || format!("measure the clone that is to become subscription {subname:?}");
    let admin = publisher.admin();
    let Some(known) = recorded(admin, subname)?.filter(|it| it.slot_lsn.is_some()) else {
        return not_begun(subname).err();
    };
    let mut client = connect_unverified(clone, "flare/adopt")
        .wrap_err_with(attempt)
        .hint(|| {
            "start the clone alone, and name its host, port, user and database in --clone".into()
        })?;
    let found = Clone::read(&mut client).wrap_err_with(attempt)?;
    let slot = slots::find(admin, &known.slot_name)?.filter(|it| !it.is_lost());
    let Some(confirmed) = slot.and_then(|it| it.confirmed_flush_lsn) else {
        return Failure::new(format!(
            "{}: slot {:?} is gone, or has lost its WAL",
            attempt(),
            known.slot_name
        ))
        .hint("begin again with a new clone: flare drop_subscription, then flare adopt begin")
        .err();
    };
    let timeline: i32 =
        admin.value("SELECT timeline_id FROM pg_control_checkpoint()", params![])?;
    let now: String = admin.value("SELECT pg_current_wal_lsn()::text", params![])?;
    let started: String = admin.value(&format!("SELECT {STARTED}"), params![])?;
    let point = found
        .point(
            (publisher.identifier(), &started),
            timeline,
            confirmed,
            now.parse()?,
        )
        .wrap_err_with(attempt)?;
    let commits = commits(publisher, declared, &known.slot_name, point)?;
    let proven = prove(
        &mut client,
        (&declared.dbname, &commits),
        point,
        found.next_xid,
    )
    .wrap_err_with(attempt)?;
    let mut notes = Vec::new();
    // Where its transactions have other numbers than those of the stream, the proof does not see them.
    if proven.own == 0 {
        notes.extend(
            own_rows(&mut client, &declared.dbname, found.own_rows(timeline))
                .wrap_err_with(attempt)?,
        );
    }
    if proven.own > 0 {
        notes.push(format!(
            "the clone has committed {} transactions of its own, under numbers that the publisher has given to others: no row of a table was written by them (autovacuum analyses); start clones with autovacuum = off",
            proven.own
        ));
    }
    if let (true, false) = clients(&mut client)? {
        notes.push(UNCOUNTED.to_owned());
    }
    if commits.is_empty() {
        notes.push("no transaction was there to prove the point by: nothing was written since the slot was made".to_owned());
    }
    if found.workers > 0 {
        notes.push("the clone runs with logical replication workers: its copied subscriptions may take what is not theirs (max_logical_replication_workers = 0)".to_owned());
    }
    let changed = run.mode == Mode::Apply && Some(point) != known.point;
    if changed {
        admin.execute(
            "UPDATE flare.adopt SET point = $2, measured_at = clock_timestamp() WHERE subname = $1",
            params![subname, point.to_string()],
        )?;
    }
    Ok(AdoptMeasured {
        subname: subname.to_owned(),
        dbname: declared.dbname.clone(),
        changed,
        dry_run: run.mode == Mode::DryRun,
        point,
        transactions: commits.len(),
        before: proven.before,
        after: proven.after,
        statements: leftovers(&mut client)?,
        notes,
    })
}

/// The transactions that the slot would send, up to some way beyond the point.
fn commits(
    publisher: &Publisher,
    declared: &Subscription,
    slot_name: &str,
    point: Lsn,
) -> Result<Vec<Commit>> {
    let session = publisher.connect(Login::Superuser, &declared.dbname)?;
    let until = Lsn(point.0 + BEYOND_BYTES).to_string();
    let session = session.with_timeout(crate::server::Timeout::WhileServerAnswers);
    let rows = session
        .rows(
            "SELECT xid::text, encode(substring(data FROM 3 FOR 8), 'hex')
               FROM pg_logical_slot_peek_binary_changes($1::text::name, $2::text::pg_lsn, NULL, 'proto_version', '1', 'publication_names', $3)
              WHERE get_byte(data, 0) = 67",
            params![slot_name, until, Ident::from(declared.pubname.as_str()).to_string()],
        )
        .wrap_err("look at the slot's transactions")?;
    rows.iter()
        .map(|row| {
            let (xid, lsn): (String, String) = (row.get(0), row.get(1));
            Ok(Commit {
                xid: xid.parse().wrap_err("read a transaction's number")?,
                lsn: Lsn(u64::from_str_radix(&lsn, 16).wrap_err("read a commit's position")?),
            })
        })
        .collect()
}

/// What a proof has looked at.
struct Proven {
    before: usize,
    after: usize,
    /// Those after the point whose numbers the clone has given to transactions of its own.
    own: usize,
}

/// The clone has committed a transaction if and only if its commit is before the point. Numbers above all of those before may
/// be of the clone's own transactions: they pass where no row of a table was written by them.
fn prove(
    client: &mut Client,
    (dbname, commits): (&str, &[Commit]),
    point: Lsn,
    next_xid: i64,
) -> Result<Proven> {
    let known: Vec<i64> = commits
        .iter()
        .map(|it| with_epoch(it.xid, next_xid))
        .filter(|xid| *xid < next_xid)
        .collect();
    let rows = client
        .query(
            "SELECT x FROM unnest($1::int8[]) x WHERE txid_status(x) = 'committed'",
            &[&known],
        )
        .map_err(SqlError::from)?;
    let committed: std::collections::HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let is_there = |commit: &Commit| committed.contains(&with_epoch(commit.xid, next_xid));
    let (before, after): (Vec<&Commit>, Vec<&Commit>) =
        commits.iter().partition(|commit| commit.lsn < point);
    let lacking = before.iter().find(|commit| !is_there(commit));
    let beyond: Vec<&&Commit> = after.iter().filter(|commit| is_there(commit)).collect();
    let wrong = |commit: &Commit, what: &str, hint: &str| {
        Failure::no(format!(
            "transaction {} committed at {} {what} the point {point}, and the clone says otherwise: it is not what the publisher was there",
            commit.xid, commit.lsn
        ))
        .hint(format!("{hint}; nothing was put on record"))
        .err()
    };
    let at_one_moment = "take another clone, with all volumes at one moment";
    if let Some(commit) = lacking {
        return wrong(commit, "before", at_one_moment);
    }
    let Some(first) = beyond.first() else {
        return Ok(Proven {
            before: before.len(),
            after: after.len(),
            own: 0,
        });
    };
    // Its own transactions have numbers that the publisher has given to others.
    let alone = format!(
        "{at_one_moment}, and start it alone, with autovacuum = off: it may have committed a transaction of its own"
    );
    let last_before = before.iter().map(|it| with_epoch(it.xid, next_xid)).max();
    let is_foreign =
        |commit: &Commit| last_before.is_none_or(|last| with_epoch(commit.xid, next_xid) < last);
    if let Some(commit) = beyond.iter().find(|commit| is_foreign(commit)) {
        return wrong(commit, "after", &alone);
    }
    match written(client, dbname)? {
        Some(tables) if tables.is_empty() => Ok(Proven {
            before: before.len(),
            after: after.len(),
            own: beyond.len(),
        }),
        Some(tables) => Failure::no(format!(
            "transaction {} committed at {} after the point {point}, and the clone has committed one of that number: rows were written on the clone itself, in {}",
            first.xid,
            first.lsn,
            tables.join(", ")
        ))
        .hint(format!("{alone}; nothing was put on record"))
        .err(),
        None => wrong(first, "after", &alone),
    }
}

/// Refuses a clone on which rows were written, whatever numbers its transactions have; a note where that is not certain.
fn own_rows(client: &mut Client, dbname: &str, rows: OwnRows) -> Result<Option<String>> {
    if rows == OwnRows::None {
        return Ok(None);
    }
    match (written(client, dbname)?, rows) {
        (Some(tables), _) if tables.is_empty() => Ok(None),
        (Some(tables), OwnRows::Counted) => Failure::no(format!(
            "rows were written on the clone itself, in {}: they would stay there, and the publisher has none of it",
            tables.join(", ")
        ))
        .hint("take another clone, and start it alone; nothing was put on record")
        .err(),
        (Some(tables), _) => Ok(Some(format!(
            "the standby counts rows that were written on it, in {}: where it was a primary once, they may be of that time; where not, take another clone",
            tables.join(", ")
        ))),
        (None, OwnRows::Counted) => Failure::new(format!(
            "the clone has begun transactions of its own, and whether they wrote rows of database {dbname:?} is not known: --clone names another database, or track_counts is off"
        ))
        .hint(format!("name the database in --clone: dbname={dbname}"))
        .err(),
        (None, _) => Ok(Some(format!(
            "whether rows of database {dbname:?} were written on the standby itself is not known: name that database in --clone"
        ))),
    }
}

/// Whether clients are connected to the clone, and report what they have counted although they are idle.
fn clients(client: &mut Client) -> Result<(bool, bool)> {
    let row = client.query_one(SESSIONS, &[]).map_err(SqlError::from)?;
    Ok((row.get(0), row.get(1)))
}

/// Tables in which the clone itself has written rows since it was started: replaying counts none. `None` where that is not
/// known.
fn written(client: &mut Client, dbname: &str) -> Result<Option<Vec<String>>> {
    const SHOWN: i64 = 5;
    let (clients, report_idle) = clients(client)?;
    std::thread::sleep(counts::wait(clients, report_idle));
    let row = client
        .query_one(
            "SELECT current_setting('track_counts')::bool AND current_database() = $1,
                    array(SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
                           WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY 1 LIMIT $2)",
            &[&dbname, &SHOWN],
        )
        .map_err(SqlError::from)?;
    let is_known: bool = row.get(0);
    Ok(is_known.then(|| row.get(1)))
}

/// What came along in the clone and must not be used by two servers.
fn leftovers(client: &mut Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            "SELECT 'slot', slot_name::text, '' FROM pg_replication_slots
             UNION ALL SELECT 'subscription', s.subname::text, d.datname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
             UNION ALL SELECT 'version of columns', '', current_database()::text
                        WHERE EXISTS (SELECT FROM pg_attribute WHERE attoptions::text ~ '[{,]pg_attver=') ORDER BY 1, 2",
            &[],
        )
        .map_err(SqlError::from)?;
    Ok(rows
        .iter()
        .flat_map(|row| {
            let (kind, name, dbname): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let subscription = Ident::new(&name);
            match kind.as_str() {
                // The server of another version refuses what pg_upgrade's dump then says.
                "version of columns" => vec![format!(
                    "/* in each database, as {} */ UPDATE pg_catalog.pg_attribute SET attoptions = nullif(ARRAY(SELECT o FROM unnest(attoptions) o WHERE o !~ '^pg_attver='), '{{}}') WHERE attoptions::text ~ '[{{,]pg_attver='",
                    Ident::new(dbname)
                )],
                "slot" => vec![format!("SELECT pg_drop_replication_slot({})", Literal(&name))],
                _ => vec![format!(
                    "/* in database {} */ ALTER SUBSCRIPTION {subscription} DISABLE; ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE); DROP SUBSCRIPTION {subscription}",
                    Ident::new(dbname)
                )],
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_transactions_go_round() {
        let epoch = 1i64 << 32;
        assert_eq!(with_epoch(5, 100), 5);
        assert_eq!(
            with_epoch(u32::MAX - 1, epoch + 10),
            i64::from(u32::MAX) - 1
        );
        assert_eq!(with_epoch(3, epoch - 5), epoch + 3);
    }
}
