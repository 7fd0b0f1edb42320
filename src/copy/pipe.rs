//! One COPY from one session to another: each works on its own thread, with no more than a few blocks between them.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use postgres::Client;

use super::plan::Job;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::server::{Session, SqlError, Timeout};

/// Bytes that travel as one message.
const BLOCK: usize = 64 << 10;
/// Blocks between the two sessions.
const BLOCKS: usize = 4;

/// What passes from one session to the other.
enum Block {
    Rows(Vec<u8>),
    /// Without it the subscriber takes nothing: the publisher's side has failed.
    End,
}

/// What all workers share: the rate, and whether they are to stop.
pub(super) struct Traffic {
    /// No more than so many bytes a second, of all workers together.
    max_rate: Option<u64>,
    /// When the next byte may be sent, at that rate.
    next: Mutex<Instant>,
    stopped: AtomicBool,
}

/// What was not sent in time may be sent faster later, but no more than that of this long.
const BURST: Duration = Duration::from_secs(1);

impl Traffic {
    pub(super) fn new(max_rate: Option<u64>) -> Traffic {
        Traffic {
            max_rate,
            next: Mutex::new(Instant::now()),
            stopped: AtomicBool::new(false),
        }
    }

    /// Another worker has failed, or a signal came.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// When so many bytes may be sent.
    fn due(&self, bytes: usize, now: Instant) -> Instant {
        let Some(rate) = self.max_rate else {
            return now;
        };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *next = (*next).max(earliest) + lasts;
        *next
    }

    /// Waits until bytes may be sent.
    fn pass(&self, bytes: usize) -> std::io::Result<()> {
        let due = self.due(bytes, Instant::now());
        loop {
            if self.is_stopped() {
                return Err(std::io::Error::other(STOPPED));
            }
            let early = due.saturating_duration_since(Instant::now());
            if early.is_zero() {
                return Ok(());
            }
            std::thread::sleep(early.min(Duration::from_millis(200)));
        }
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// What came of one side, or at which job it failed.
type Side<T> = std::result::Result<Vec<T>, (usize, std::io::Error)>;

/// Copies jobs one after the other; `moved` hears of bytes as they pass. The subscriber's transaction is the caller's.
///
/// Each side works through all of them by itself: the publisher sends the next table while the subscriber takes this one.
pub(super) fn copy(
    from: &Session,
    to: &Session,
    jobs: &[Job],
    traffic: &Arc<Traffic>,
    moved: &Arc<AtomicU64>,
) -> Result<Vec<Copied>> {
    let (blocks, arriving) = bounded::<Block>(BLOCKS);
    let out: Vec<String> = jobs.iter().map(Job::copy_out).collect();
    let into: Vec<String> = jobs.iter().map(Job::copy_in).collect();
    let (traffic, moved) = (traffic.clone(), moved.clone());
    let reading =
        from.start(move |client| Ok(read_all(client, &out, &blocks, &traffic, &moved)))?;
    let writing = to.start(move |client| Ok(write_all(client, &into, &arriving)))?;
    let written = to.wait(&writing, Timeout::WhileServerAnswers);
    // A writer that failed no longer takes anything: the reader ends at once, or when its next block does not fit.
    let read = match &written {
        Ok(Ok(_)) => from.wait(&reading, Timeout::WhileServerAnswers),
        _ => from.wait(&reading, Timeout::For(Duration::from_secs(5))),
    };
    let what = |at: usize| {
        let table = jobs.get(at).map(|job| job.table.plain());
        format!("copy {}", table.unwrap_or_default())
    };
    let in_words = |(at, error): (usize, std::io::Error), side: &Session| -> Report {
        let endpoint = side.endpoint().to_string();
        let report = match error
            .into_inner()
            .map(|inner| inner.downcast::<postgres::Error>())
        {
            Some(Ok(inner)) => Report::from(SqlError::from(*inner)).wrap_err(endpoint),
            Some(Err(other)) => Report::from(Failure::new(other.to_string())).wrap_err(endpoint),
            None => Report::from(Failure::new("the copy was cut off")).wrap_err(endpoint),
        };
        report.wrap_err(what(at))
    };
    let written = written.map(|done| done.map_err(|error| in_words(error, to)));
    let read = read.map(|done| done.map_err(|error| in_words(error, from)));
    match (written, read) {
        (Ok(Ok(rows)), Ok(Ok(bytes))) => {
            let each = rows.into_iter().zip(bytes);
            Ok(each.map(|(rows, bytes)| Copied { rows, bytes }).collect())
        }
        // The reader's error is the cause where both have failed, unless it only says that nobody took its rows.
        (_, Ok(Err(report))) if !is_cut_off(&report) => Err(report),
        (Ok(Err(report)), _) | (_, Ok(Err(report))) => Err(report),
        (Err(report), _) | (_, Err(report)) => Err(report).wrap_err_with(|| what(0)),
    }
}

const STOPPED: &str = "the copy was stopped, since another part of it failed";
const NOBODY: &str = "nobody takes the rows any more";
const NO_END: &str = "the rows have no end";

fn is_cut_off(report: &Report) -> bool {
    report.chain().any(|link| link.to_string() == NOBODY)
}

fn read_all(
    client: &mut Client,
    statements: &[String],
    blocks: &Sender<Block>,
    traffic: &Traffic,
    moved: &AtomicU64,
) -> Side<u64> {
    let each = statements.iter().enumerate();
    each.map(|(at, sql)| read(client, sql, blocks, traffic, moved).map_err(|error| (at, error)))
        .collect()
}

fn write_all(client: &mut Client, statements: &[String], arriving: &Receiver<Block>) -> Side<u64> {
    let each = statements.iter().enumerate();
    each.map(|(at, sql)| write(client, sql, arriving).map_err(|error| (at, error)))
        .collect()
}

/// The driver gives one row at a time: they are put together to blocks.
fn read(
    client: &mut Client,
    sql: &str,
    blocks: &Sender<Block>,
    traffic: &Traffic,
    moved: &AtomicU64,
) -> std::io::Result<u64> {
    let mut rows = client.copy_out(sql).map_err(std::io::Error::other)?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut bytes = 0u64;
    let send = |block: Vec<u8>| -> std::io::Result<u64> {
        let length = block.len();
        traffic.pass(length)?;
        moved.fetch_add(length as u64, Ordering::Relaxed);
        blocks
            .send(Block::Rows(block))
            .map_err(|_| std::io::Error::other(NOBODY))?;
        Ok(length as u64)
    };
    loop {
        let row = rows.fill_buf()?;
        if row.is_empty() {
            break;
        }
        let length = row.len();
        block.extend_from_slice(row);
        rows.consume(length);
        if block.len() >= BLOCK {
            bytes += send(std::mem::replace(&mut block, Vec::with_capacity(BLOCK)))?;
        }
    }
    drop(rows);
    bytes += send(block)?;
    blocks
        .send(Block::End)
        .map_err(|_| std::io::Error::other(NOBODY))?;
    Ok(bytes)
}

fn write(client: &mut Client, sql: &str, arriving: &Receiver<Block>) -> std::io::Result<u64> {
    let mut rows = client.copy_in(sql).map_err(std::io::Error::other)?;
    loop {
        match arriving.recv() {
            Ok(Block::Rows(block)) => rows.write_all(&block)?,
            Ok(Block::End) => return rows.finish().map_err(std::io::Error::other),
            // Dropped without its end, the server undoes what has arrived.
            Err(_) => return Err(std::io::Error::other(NO_END)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_not_made_up_for_by_a_faster_copy() {
        let traffic = Traffic::new(Some(1000));
        let begun = Instant::now();
        let after = |bytes, seconds| {
            let now = begun + Duration::from_secs(seconds);
            let early = traffic.due(bytes, now).saturating_duration_since(now);
            early.as_secs_f64().round() as u64
        };
        assert_eq!(after(3000, 0), 3);
        assert_eq!(after(2000, 3), 2);
        // Nothing was sent for a hundred seconds.
        assert_eq!(after(3000, 105), 2);
        assert_eq!(after(1000, 105), 3);
        assert_eq!(Traffic::new(None).due(1 << 40, begun), begun);
    }
}
