//! Real clients, and every fault at every step: one side at a time, nothing lost, and nobody stays behind.

use std::time::Duration;

use super::{installed, languages, orders, programs, url};
use crate::clients::writer::Writer;
use crate::cutover::dice::Dice;
use crate::cutover::faults::{Case, Fault, Stage, cases, play_on};
use crate::support::{Pair, matrix};

/// Where clients are between two servers, and nobody holds the tables of the one that they leave.
const SAMPLE: [Case; 1] = [("open", Fault::FromCrashed)];

/// The clients that every machine has.
fn psqls(pair: &Pair) -> Vec<Writer> {
    let named = ["psql_old_new", "psql_new_old"].into_iter();
    named
        .zip(orders(pair))
        .map(|(name, servers)| programs::psql(pair, name, &url(pair, servers, "")))
        .collect()
}

#[test]
#[ignore = "make soak"]
fn psql_gets_over_a_publisher_that_crashes_when_it_has_been_left() {
    play_on(|| Stage::with_clients(14, 18, psqls), &SAMPLE);
}

/// A few of each kind: all of them would take the machine's two cores for themselves.
fn of_all_kinds(pair: &Pair, old: u32) -> Vec<Writer> {
    let kept = [
        "psycopg2_each_old_new",
        "psycopg2_kept_new_old",
        "psycopg_pool_old_new",
        "asyncpg_each_new_old",
        "asyncpg_pool_new_old",
        "postgresjs_pool_old_new",
        "psycopg2_random",
        "Ruby_each_old_new",
        "Php_kept_new_old",
        "Go_pool_old_new",
        "Java_kept_new_old",
    ];
    let is_kept = |name: &str| kept.contains(&name);
    let mut writers = languages::writers(pair, old, is_kept);
    writers.extend(installed::writers(pair, is_kept));
    writers.extend(languages::shapes(pair));
    writers
}

#[test]
#[ignore = "fetches client libraries, and takes many minutes: make soak"]
fn clients_of_all_kinds_get_over_faults_at_every_step() {
    let sample = [
        ("revoke", Fault::FlareAndGuardKilled),
        ("terminate", Fault::FlareKilled),
        ("lock", Fault::FromFrozen),
        ("drain", Fault::FlareFrozen),
        ("mark", Fault::ToCrashed),
        ("switching", Fault::FromCrashed),
        ("switching", Fault::FlareFrozen),
        ("open", Fault::FlareAndGuardKilled),
        ("open", Fault::FromCrashed),
        ("open", Fault::ToCrashed),
        ("open", Fault::FlareFrozen),
        ("fence", Fault::FromCrashed),
        ("fence", Fault::ToCrashed),
        ("fence", Fault::FlareAndGuardKilled),
        ("way_back", Fault::FlareKilled),
        ("close", Fault::FromFrozen),
    ];
    let stage = || Stage::with_clients(14, 18, |pair| of_all_kinds(pair, 14));
    play_on(stage, &cases(&sample));
}

#[test]
#[ignore = "fetches client libraries, and takes many minutes: make soak"]
fn clients_of_all_kinds_get_over_faults_at_any_moment() {
    let faults = [
        Fault::FlareKilled,
        Fault::FlareAndGuardKilled,
        Fault::FlareFrozen,
        Fault::FromCrashed,
        Fault::ToCrashed,
        Fault::FromFrozen,
        Fault::ToFrozen,
        Fault::FromCutOff,
        Fault::ToCutOff,
    ];
    let mut dice = Dice::new();
    // asyncpg cannot tell that a server of 10 to 13 is read-only, and stays where it has come to while the other one was away.
    let mut stage = Stage::with_clients(15, 17, |pair| of_all_kinds(pair, 15));
    let whole = stage.undisturbed();
    for round in 1..=matrix::rounds(20, 60) {
        let fault = dice.one_of(&faults);
        let moment = Duration::from_micros(dice.below(1 + whole.as_micros() as u64));
        println!(
            "round {round}: {fault:?} after {moment:?}, {}",
            stage.direction()
        );
        stage.play_after(moment, fault);
    }
    stage.end();
}
