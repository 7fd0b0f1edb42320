//! The pause is three round trips, however many tables, sequences and databases: counted, not timed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{ready, ready_with, switch_to, switched_to};
use crate::support::Pair;
use crate::support::application::{Side, create_tables};
use crate::support::proxy::{Passed, Proxy, Record, Way};

/// Long enough that all requests of a round are sent before the first answer is there.
const LINE: Duration = Duration::from_millis(40);

/// Groups of requests that are sent without an answer in between, from the REVOKE to the opening.
fn rounds(mut passed: Vec<Passed>) -> usize {
    let sent = |passed: &[Passed], text: &str| {
        passed
            .iter()
            .position(|it| it.way == Way::ToServer && it.text.contains(text))
            .unwrap_or_else(|| panic!("{text:?} was never sent"))
    };
    passed.truncate(1 + sent(&passed, "the fences were not opened"));
    passed.drain(
        ..sent(
            &passed,
            "could still connect, as members of roles that stay",
        ),
    );
    // A session that has its locks is sent on to what becomes the fence while the first round is under way, and another
    // one tells it to commit. Both are there before the second round is, and nothing else waits for them.
    let mut sent_on = BTreeSet::new();
    passed.retain(|it| {
        if it.way == Way::ToServer && it.text.contains("fenced record") {
            sent_on.insert(it.connection);
        }
        let tells = it.text.contains("SELECT pg_advisory_lock(") && !it.text.contains("COMMIT");
        it.way == Way::ToClient || !(sent_on.contains(&it.connection) || tells)
    });
    assert!(!sent_on.is_empty());
    exchanges(&passed)
}

fn counted(pair: &Pair, to: Side) -> usize {
    let record = Record::default();
    let lines = [Side::Publisher, Side::Subscriber]
        .map(|side| Proxy::far(pair, side, LINE, Some(record.clone())));
    let report = switched_to(pair, to);
    let rounds = rounds(record.taken());
    let line = LINE.as_secs_f64() * 1000.0;
    for side in ["from", "to"] {
        let round_trip = report["round_trip_ms"][side].as_f64().expect("a number");
        assert!(round_trip >= line, "{report:#}");
    }
    drop(lines);
    rounds
}

#[test]
fn few_tables_and_many_take_three_round_trips() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    // On a busy machine an answer may come before the last request of its round is sent: more is counted then, never less.
    let mut least = [usize::MAX; 2];
    for _ in 0..4 {
        for (at, to) in [Side::Subscriber, Side::Publisher].into_iter().enumerate() {
            least[at] = least[at].min(counted(&pair, to));
        }
        if least == [3, 3] {
            break;
        }
    }
    assert_eq!(least, [3, 3]);
}

#[test]
#[ignore = "a thousand tables take a while to be made: make soak"]
fn a_thousand_tables_and_sequences_take_three_round_trips() {
    let pair = Pair::new(12, 16).with_accounts(10);
    let pair = ready_with(pair, |pair, server| {
        create_tables(pair, server);
        let many = (0..1000).map(|at| format!("CREATE TABLE many_{at} (id bigserial PRIMARY KEY)"));
        let many: Vec<String> = many.collect();
        let owner = &pair.names().owner;
        server.sql(pair.db(), &format!("SET ROLE {owner}; {}", many.join(";")));
    });
    assert!(counted(&pair, Side::Subscriber) <= 3);
}

/// How often the client spoke after it had heard something, with everything that ran side by side as one.
fn exchanges(passed: &[Passed]) -> usize {
    let changes = passed.windows(2);
    1 + changes
        .filter(|pair| pair[0].way == Way::ToClient && pair[1].way == Way::ToServer)
        .count()
}

/// The same for commands of many sessions, whose threads take their time on a busy machine.
const LONG_LINE: Duration = Duration::from_millis(150);

/// How often a command is run until it takes no more than it has to.
const TRIES: usize = 6;

#[test]
#[ignore = "half a minute over a slow line: make soak"]
fn looking_takes_few_round_trips() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let record = Record::default();
    let _lines = [Side::Publisher, Side::Subscriber]
        .map(|side| Proxy::far(&pair, side, LONG_LINE, Some(record.clone())));
    let dry_run = switch_to(&pair, Side::Subscriber, &["--dry-run"]);
    let dry_run: Vec<&str> = dry_run.iter().map(AsRef::as_ref).collect();
    // Five of them open a session, as all are opened at once, and one says goodbye; a switch on record takes no more.
    for to in [Side::Subscriber, Side::Publisher] {
        switched_to(&pair, to);
    }
    for (command, most) in [
        (vec!["status"], 10),
        (vec!["lag", pair.subname()], 9),
        (vec!["preflight"], 10),
        (dry_run, 74),
    ] {
        // On a busy machine what is asked side by side is sent one after the other: more is counted then, never less.
        let mut taken = Vec::new();
        while taken.len() < TRIES && !taken.iter().any(|it| *it <= most) {
            record.taken();
            pair.flare(&command).ok();
            taken.push(exchanges(&record.taken()));
        }
        println!("{command:?}: {taken:?}");
        assert!(taken.iter().any(|it| *it <= most), "{command:?}: {taken:?}");
    }
}
