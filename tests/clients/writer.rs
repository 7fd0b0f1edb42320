//! A client that writes in a process of its own, and says on its standard output which rows were acknowledged, and where.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Cluster, Pair, wait};

/// How long a client may take, on a machine that has much else to do.
const WITHIN: Duration = Duration::from_secs(90);

pub struct Writer {
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Writer {
    /// Starts it.
    pub fn start(pair: &Pair, name: &str, mut command: Command) -> Writer {
        let log = pair.dir().join(format!("{name}.log"));
        let output = File::create(&log).expect("make a log");
        let errors = output.try_clone().expect("the same log");
        // SAFETY: prctl is async-signal-safe. A test that is killed leaves nobody behind.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Writer {
            name: name.to_owned(),
            child,
            log,
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("read the log")
    }

    /// Rows that were acknowledged, and by which port.
    fn acknowledged(&self) -> Vec<(u64, u16)> {
        let said = self.said();
        // A last line may be half-written.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let words = whole.lines().filter_map(|line| line.strip_prefix("ack "));
        words
            .map(|words| {
                let (seq, port) = words.split_once(' ').expect("two words");
                (
                    seq.parse().expect("a number"),
                    port.parse().expect("a port"),
                )
            })
            .collect()
    }

    /// Waits until this server has acknowledged a row after `seen` of them.
    #[track_caller]
    pub fn await_on(&self, server: &Cluster, seen: usize, stage: &str) {
        let there = || {
            let acknowledged = self.acknowledged();
            let newer = acknowledged.iter().skip(seen);
            newer.filter(|(_, port)| *port == server.port()).count() >= 3
        };
        assert!(
            wait::until(WITHIN, there),
            "{stage}: {} never wrote on port {} after row {seen}:\n{}",
            self.name,
            server.port(),
            last(&self.said(), 20)
        );
    }

    /// How many rows this server has acknowledged so far.
    pub fn acknowledged_by(&self, server: &Cluster) -> usize {
        let acknowledged = self.acknowledged().into_iter();
        acknowledged
            .filter(|(_, port)| *port == server.port())
            .count()
    }

    /// How many rows were acknowledged so far.
    pub fn seen(&self) -> usize {
        self.acknowledged().len()
    }

    /// Ends it; every row that was acknowledged is there.
    #[track_caller]
    pub fn lost_nothing(mut self, pair: &Pair, server: &Cluster) {
        self.child.kill().expect("end it");
        self.child.wait().expect("its end");
        let sql = format!("SELECT seq FROM moves WHERE client = '{}'", self.name);
        let there: BTreeSet<u64> = server
            .rows(pair.db(), &sql)
            .into_iter()
            .filter_map(|row| row[0].as_deref()?.parse().ok())
            .collect();
        let lost: Vec<u64> = self
            .acknowledged()
            .into_iter()
            .map(|(seq, _)| seq)
            .filter(|seq| !there.contains(seq))
            .collect();
        assert!(lost.is_empty(), "{} lost {lost:?}", self.name);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn last(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// There and back, all clients at once, after the publisher was away: no other side acknowledges than the one that is open,
/// and at the end every acknowledged row is on the publisher.
#[track_caller]
pub fn stay_through_a_restart_and_move_there_and_back(pair: &Pair, writers: Vec<Writer>) {
    for writer in &writers {
        writer.await_on(pair.publisher(), 0, "at the start");
    }
    pair.publisher().stop();
    pair.publisher().start();
    for writer in &writers {
        writer.await_on(pair.publisher(), writer.seen(), "after a restart");
        let elsewhere = writer.acknowledged_by(pair.subscriber());
        assert_eq!(elsewhere, 0, "{} wrote on a closed subscriber", writer.name);
    }
    move_there_and_back(pair, writers);
}

/// There and back, all clients at once; at the end every acknowledged row is on the publisher.
#[track_caller]
pub fn move_there_and_back(pair: &Pair, writers: Vec<Writer>) {
    for writer in &writers {
        writer.await_on(pair.publisher(), 0, "at the start");
    }
    for (command, to, from) in [
        ("cutover", pair.subscriber(), pair.publisher()),
        ("fallback", pair.publisher(), pair.subscriber()),
    ] {
        pair.flare(&[command, pair.subname(), "--yes"]).ok();
        // What was acknowledged until now may have been so before the switch, and what is written is read a moment later.
        let seen: Vec<usize> = writers.iter().map(Writer::seen).collect();
        for (writer, seen) in writers.iter().zip(seen) {
            writer.await_on(to, seen, command);
        }
        let left: Vec<usize> = writers.iter().map(|it| it.acknowledged_by(from)).collect();
        for (writer, seen) in writers.iter().zip(writers.iter().map(Writer::seen)) {
            writer.await_on(to, seen, command);
        }
        for (writer, left) in writers.iter().zip(left) {
            let now = writer.acknowledged_by(from);
            assert_eq!(
                now, left,
                "{} wrote on the side that was left by {command}",
                writer.name
            );
        }
    }
    for writer in writers {
        writer.lost_nothing(pair, pair.publisher());
    }
}
