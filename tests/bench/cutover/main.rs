//! How long an application cannot write during a cutover and a fallback, seen by itself: flare beside the same statements
//! from a program that does nothing else.
//!
//! Two databases on the same two servers, one for each way; in turn four writers that know both servers work on one of
//! them, which is then switched, and verified. Times depend on the machine and on what else runs there; the ratio is what
//! counts. `ROUNDS=20` says how often there and back, `PAIRS=14-18` between which versions, `TABLES=1000` how many tables,
//! each with a sequence, there are beside those in use.

#[path = "../../support/mod.rs"]
mod support;

mod by_hand;
mod crowd;
mod stage;
mod table;

use std::env;
use std::time::Duration;

use self::by_hand::ByHand;
use self::crowd::Crowd;
use self::stage::Stage;
use self::table::Measured;
use support::application::Side;
use support::proxy::Proxy;
use support::{Cluster, matrix};

fn main() {
    let number = |name: &str, default: usize| match env::var(name) {
        Ok(number) => number
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    };
    let (rounds, tables) = (number("ROUNDS", 10), number("TABLES", 0));
    let (old, new) = match env::var("PAIRS") {
        Ok(pairs) if !pairs.is_empty() => matrix::pairs()[0],
        _ => (14, 18),
    };
    // Locks of many tables in one transaction.
    let settings = [
        ("max_locks_per_transaction", "2048"),
        ("shared_buffers", "128MB"),
        ("max_connections", "500"),
    ];
    let [publisher, subscriber] = [old, new].map(|version| Cluster::private(version, &settings));
    let for_flare = Stage::new(&publisher, &subscriber, tables);
    let for_hand = Stage::new(&publisher, &subscriber, tables);
    let mut by_hand = ByHand::new(&for_hand.pair);

    let [mut flare, mut hand] = [Measured::default(), Measured::default()];
    let mut acknowledged = 0;
    // The first time there and back warms everybody up.
    for round in 0..=rounds {
        for to in [Side::Subscriber, Side::Publisher] {
            let by_flare = for_flare.switch(to, || for_flare.by_flare(to));
            let by_hand = for_hand.switch(to, || by_hand.switch(to));
            acknowledged += by_flare.acknowledged + by_hand.acknowledged;
            if round > 0 {
                flare.add(by_flare);
                hand.add(by_hand);
            }
        }
    }
    println!(
        "From the last write acknowledged by one server to the first by the other: PostgreSQL {old} to {new} and back, 4 writers, {} times each, {} tables\n",
        2 * rounds,
        for_flare.count_of_tables(),
    );
    table::print(&flare, &hand);
    println!("\n{acknowledged} writes acknowledged, all of them there after each switch");
    over_lines(&for_flare, rounds.min(5));
}

/// The same with flare far from both servers, and the application beside them; then with 300 idle sessions and 24 kept
/// users that reconnect.
fn over_lines(stage: &Stage, rounds: usize) {
    println!(
        "\nflare over a line, its application beside the servers, and among many sessions, {} times each\n",
        2 * rounds
    );
    table::head();
    for milliseconds in [0, 10, 40] {
        let line = Duration::from_millis(milliseconds);
        let lines = [Side::Publisher, Side::Subscriber]
            .map(|side| Proxy::far(&stage.pair, side, line, None));
        let measured = measure(stage, rounds);
        table::row(&format!("a line of {milliseconds} ms"), &measured);
        drop(lines);
    }
    stage.direct();
    let crowd = Crowd::gather(&stage.pair);
    let measured = measure(stage, rounds);
    drop(crowd);
    table::row("300 idle sessions, 24 kept users that reconnect", &measured);
}

fn measure(stage: &Stage, rounds: usize) -> Measured {
    let mut measured = Measured::default();
    for round in 0..=rounds {
        for to in [Side::Subscriber, Side::Publisher] {
            let switched = stage.switch(to, || stage.by_flare(to));
            if round > 0 {
                measured.add(switched);
            }
        }
    }
    measured
}
