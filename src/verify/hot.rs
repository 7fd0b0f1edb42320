//! Rows that change too often for rounds: probes as fast as they go, each between two looks at the publisher's row, while
//! the subscriber's row is read together with the probe that has arrived.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::arbiter::standing_columns;
use super::evidence::{Evidence, Look, Looked, Verdict};
use super::findings::{Kind, RowDifference};
use super::settle::{Work, look};
use super::statement::Key;
use crate::error::{Failure, Report, Result};
use crate::server::{Side, params};

/// How many probes are sent.
const PROBES: usize = 400;
/// And for how long, where each takes its time.
const AT_MOST: Duration = Duration::from_secs(10);
/// How long the subscriber may take for the last of them.
const TRAILING: Duration = Duration::from_secs(5);

/// Decides on a row that rounds could not decide; none: it is equal.
pub(super) fn decide(
    work: &Work<'_>,
    key: &Key,
    evidence: Evidence<Look>,
) -> Result<Option<RowDifference>> {
    if evidence.waits_for_transactions() {
        return undecided(work, key, waits_for(work)?);
    }
    let Some((table, _)) = work.probe.joined() else {
        let reason = "the row changes all the time, and without flare_replication_status in the subscription it cannot be followed closely";
        return undecided(work, key, reason.into());
    };
    match follow(work, key, table, evidence)? {
        Verdict::Equal => Ok(None),
        Verdict::Different => match standing_columns(work, key)? {
            Some(difference) => {
                work.confirmed.fetch_add(1, Ordering::SeqCst);
                Ok(Some(difference))
            }
            None => undecided(
                work,
                key,
                "it was not equal when its probes arrived, and its values change faster than they can be compared".into(),
            ),
        },
        Verdict::Open => undecided(work, key, "the row changes all the time".into()),
    }
}

fn undecided(work: &Work<'_>, key: &Key, reason: String) -> Result<Option<RowDifference>> {
    Ok(Some(RowDifference {
        reason: Some(reason),
        ..work.named(key, Kind::Undecided)
    }))
}

/// Which transaction keeps a row that stands still from being proven.
pub(super) fn waits_for(work: &Work<'_>) -> Result<String> {
    let oldest: Option<String> = work
        .both
        .publisher
        .session()
        .rows(
            "SELECT format('pid %s (user %s, for %s s)', pid, usename, extract(epoch FROM clock_timestamp() - xact_start)::int8)
               FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
              ORDER BY age(backend_xid) DESC LIMIT 1",
            params![],
        )?
        .first()
        .and_then(|row| row.get(0));
    Ok(match oldest {
        Some(who) => {
            format!(
                "a transaction is open on the side that is written that may still change it: {who}"
            )
        }
        None => {
            "a transaction was open on the side that is written that could still change it".into()
        }
    })
}

fn follow(
    work: &Work<'_>,
    key: &Key,
    table: &crate::value::TableName,
    evidence: Evidence<Look>,
) -> Result<Verdict> {
    let had: Mutex<HashSet<Option<i64>>> = Mutex::new(evidence.on_publisher().clone());
    let stop = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    // Marks of an earlier row, which may still be on their way, are not taken for this one's.
    let token = uuid::Uuid::new_v4().to_string();
    let begun = Instant::now();
    let known = |hash: &Option<i64>| had.lock().unwrap_or_else(|e| e.into_inner()).contains(hash);
    let (looks, arrivals) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<Vec<(Option<usize>, Option<i64>)>> {
            let mut arrivals = Vec::new();
            let mut since: Option<Instant> = None;
            loop {
                let Some((_, probe_key)) = work.probe.joined() else {
                    return Ok(arrivals);
                };
                let (sql, arguments) = work
                    .on(Side::Subscriber)
                    .beside_probe(key, table, probe_key);
                let rows = work.both.subscriber.rows(&sql, arguments)?;
                let Some(row) = rows.first() else {
                    return Ok(arrivals);
                };
                let mark: Option<String> = row.get(0);
                let probe: Option<usize> = mark
                    .and_then(|mark| mark.strip_prefix(&token)?.strip_prefix('/')?.parse().ok());
                let hash: Option<i64> = row.get(1);
                let equal = known(&hash);
                arrivals.push((probe, hash));
                if equal {
                    stop.store(true, Ordering::SeqCst);
                    return Ok(arrivals);
                }
                if stop.load(Ordering::SeqCst) {
                    let since = since.get_or_insert_with(Instant::now);
                    if probe.map_or(0, |it| it + 1) == sent.load(Ordering::SeqCst)
                        || since.elapsed() > TRAILING
                    {
                        return Ok(arrivals);
                    }
                }
            }
        });
        let writing = || -> Result<Vec<Look>> {
            let mut looks = Vec::new();
            for number in 0..PROBES {
                if stop.load(Ordering::SeqCst) || begun.elapsed() > AT_MOST {
                    break;
                }
                let look = look(work, Side::Publisher, std::slice::from_ref(key))?.at(1);
                had.lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .insert(look.hash);
                looks.push(look);
                work.probe
                    .write(table, &work.both.publisher, &format!("{token}/{number}"))?;
                sent.store(number + 1, Ordering::SeqCst);
            }
            Ok(looks)
        };
        let looks = writing();
        stop.store(true, Ordering::SeqCst);
        let ended = |_| Report::from(Failure::new("follow a row: a thread has ended"));
        let arrivals = reading.join().map_err(ended).and_then(|outcome| outcome);
        looks.and_then(|looks| Ok((looks, arrivals?)))
    })?;
    Ok(judge(&looks, &arrivals, known))
}

/// A probe was written after the look of its number, and before the next one. What the subscriber shows with it lies
/// between that look and the second next, which sees all that came before the probe between them.
fn judge(
    looks: &[Look],
    arrivals: &[(Option<usize>, Option<i64>)],
    known: impl Fn(&Option<i64>) -> bool,
) -> Verdict {
    if arrivals.iter().any(|(_, hash)| known(hash)) {
        return Verdict::Equal;
    }
    let proves = |(probe, hash): &(Option<usize>, Option<i64>)| {
        let Some(at) = *probe else {
            return false;
        };
        let subscriber = Look {
            hash: *hash,
            ..Look::default()
        };
        match (looks.get(at), looks.get(at + 2)) {
            (Some(before), Some(after)) => Look::brackets(before, &subscriber, after),
            _ => false,
        }
    };
    if arrivals.iter().any(proves) {
        Verdict::Different
    } else {
        Verdict::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(hash: i64, version: &str) -> Look {
        Look {
            hash: Some(hash),
            version: Some(version.into()),
            untouched: true,
        }
    }

    #[test]
    fn only_a_version_on_both_sides_of_the_next_probe_proves() {
        let looks = [
            look(1, "a"),
            look(2, "b"),
            look(2, "b"),
            look(2, "b"),
            look(3, "c"),
        ];
        let had = |hash: &Option<i64>| looks.iter().any(|it| it.hash == *hash);
        assert_eq!(judge(&looks, &[(Some(0), Some(9))], had), Verdict::Open);
        assert_eq!(
            judge(&looks, &[(Some(1), Some(9))], had),
            Verdict::Different
        );
        assert_eq!(judge(&looks, &[(None, Some(9))], had), Verdict::Open);
        assert_eq!(
            judge(&looks, &[(Some(1), Some(9)), (Some(0), Some(3))], had),
            Verdict::Equal
        );
    }
}
