//! The measurements behind `make bench`: how long an application cannot write, seen by itself.
//!
//! Three ways to pause and resume, in turn, on the same two servers under the same four writers. Times depend on the
//! machine and on what else runs there; the ratios are what counts.
//! `ROUNDS=20` says how often, `PAIRS=14-18` between which versions.

#[path = "../support/mod.rs"]
mod support;

mod ways;
mod writers;

use std::env;
use std::time::{Duration, Instant};

use support::{Pair, matrix};

use self::ways::Way;
use self::writers::Writers;

fn main() {
    let rounds: usize = match env::var("ROUNDS") {
        Ok(rounds) => rounds.parse().expect("ROUNDS is a number"),
        Err(_) => 10,
    };
    let (old, new) = match env::var("PAIRS") {
        Ok(pairs) if !pairs.is_empty() => matrix::pairs()[0],
        _ => (14, 18),
    };
    let pair = Pair::alone(old, new).with_accounts(1000).replicating();
    let (db, app) = (pair.db(), &pair.names().app);
    pair.publisher().sql(
        db,
        &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {app}"),
    );
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();

    let writers = Writers::start(&pair);
    let mut measured: Vec<(Way, Vec<Duration>)> = Way::ALL.map(|way| (way, Vec::new())).into();
    for round in 0..=rounds {
        for (way, pauses) in &mut measured {
            std::thread::sleep(Duration::from_millis(700));
            let from = Instant::now();
            way.pause_and_resume(&pair);
            writers.await_all_since(Instant::now());
            let pause = writers.longest_gap(from);
            // The first round warms everybody up.
            if round > 0 {
                pauses.push(pause);
            }
        }
    }
    let acknowledged = writers.stop();
    pair.await_caught_up();
    let count = "SELECT count(*) FROM pgbench_history";
    let (there, here) = (
        pair.publisher().value(db, count),
        pair.subscriber().value(db, count),
    );
    assert_eq!(there, here, "rows on both sides");
    report(&measured, old, new);
    println!("{acknowledged} writes acknowledged; {there} rows on both sides");
}

fn report(measured: &[(Way, Vec<Duration>)], old: u32, new: u32) {
    let rounds = measured[0].1.len();
    println!(
        "From the last write acknowledged before the pause to the first after it: PostgreSQL {old} to {new}, 4 writers, {rounds} rounds each\n"
    );
    println!(
        "{:<54} {:>10} {:>10} {:>10} {:>9}",
        "", "median", "best", "worst", "to flare"
    );
    let sorted = |pauses: &[Duration]| {
        let mut pauses: Vec<f64> = pauses.iter().map(|it| it.as_secs_f64() * 1000.0).collect();
        pauses.sort_by(f64::total_cmp);
        pauses
    };
    let flare = median(&sorted(&measured[0].1));
    for (way, pauses) in measured {
        let pauses = sorted(pauses);
        println!(
            "{:<54} {:>7.1} ms {:>7.1} ms {:>7.1} ms {:>8.2}x",
            way.words(),
            median(&pauses),
            pauses[0],
            pauses[pauses.len() - 1],
            median(&pauses) / flare
        );
    }
    println!();
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
