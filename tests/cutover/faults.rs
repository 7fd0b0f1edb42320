//! Every step, with every fault: afterwards one side is open, with everything that was acknowledged.

mod fault;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::support::matrix;

pub use self::fault::Fault;
pub use self::stage::Stage;

pub type Case = (&'static str, Fault);

/// Where the process can be held, fail, or be stopped, in order.
const STEPS: [&str; 15] = [
    "guard",
    "revoke",
    "terminate",
    "lock",
    "drain",
    "sequences",
    "disable",
    "mark",
    "route",
    "switching",
    "open",
    "fence",
    "retire",
    "way_back",
    "close",
];

/// The ones that are played every time.
const ALWAYS_BETWEEN_14_AND_17: [Case; 3] = [
    ("mark", Fault::FlareAndGuardKilled),
    ("sequences", Fault::ToCrashed),
    ("switching", Fault::FromUnheard),
];
const ALWAYS_BETWEEN_10_AND_18: [Case; 2] = [
    ("switching", Fault::FromCrashed),
    ("open", Fault::ToUnheard),
];

/// Every fault that is not in `as_before`, where it matters most; each step at least once between the two.
const BETWEEN_14_AND_17: [Case; 10] = [
    ("guard", Fault::FlareKilled),
    ("revoke", Fault::FromCrashed),
    ("terminate", Fault::FromFrozen),
    ("drain", Fault::ToFrozen),
    ("open", Fault::ToCrashed),
    ("switching", Fault::FromSilent),
    ("open", Fault::FlareKilled),
    ("way_back", Fault::FlareKilled),
    ("switching", Fault::FlareFrozen),
    ("open", Fault::FlareFrozen),
];
const BETWEEN_10_AND_18: [Case; 11] = [
    ("drain", Fault::FromSilent),
    ("revoke", Fault::FlareAndGuardKilled),
    ("lock", Fault::ApplyEnded),
    ("drain", Fault::WalsenderEnded),
    ("retire", Fault::ToCrashed),
    ("disable", Fault::ToSilent),
    ("route", Fault::FromCutOff),
    ("open", Fault::FromFrozen),
    ("switching", Fault::ToCutOff),
    ("fence", Fault::FlareKilled),
    ("close", Fault::FlareKilled),
];

/// Plays the cases one after the other, there and back in turn, on new servers after one that failed; then names those.
fn play(old: u32, new: u32, sample: &[Case]) {
    play_on(|| Stage::new(old, new), sample);
}

/// The same on servers, and with clients, of the caller's choice.
pub fn play_on(new_stage: impl Fn() -> Stage, sample: &[Case]) {
    let mut stage: Option<Stage> = None;
    let mut failed = Vec::new();
    for &(step, fault) in sample {
        let mut on = stage.take().unwrap_or_else(&new_stage);
        let name = format!("{fault:?} at {step}, {}", on.direction());
        let since = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| on.play(step, fault)));
        println!("{name}, in {:?}", since.elapsed());
        match ended {
            Ok(()) => stage = Some(on),
            Err(_) => failed.push(name),
        }
    }
    if let Some(stage) = stage
        && catch_unwind(AssertUnwindSafe(|| stage.end())).is_err()
    {
        failed.push("at the end".into());
    }
    assert!(
        failed.is_empty(),
        "{} cases failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// The sample, or all faults at all steps, or those that `FAULTS` names: `FAULTS="switching ToCrashed revoke=Interrupted"`
/// is every fault at that step, that fault at every step, and one case.
pub fn cases(sample: &[Case]) -> Vec<Case> {
    let asked = std::env::var("FAULTS").unwrap_or_default();
    let words: Vec<&str> = asked.split_whitespace().collect();
    if words.is_empty() && !matrix::is_all() {
        return sample.to_vec();
    }
    let all = STEPS.iter().flat_map(|step| {
        let faults = Fault::ALL.iter().filter(|fault| fault.is_possible_at(step));
        faults.map(|fault| (*step, *fault))
    });
    let is_asked = |(step, fault): &Case| {
        let fault = format!("{fault:?}");
        let names = [(*step).to_owned(), format!("{step}={fault}"), fault];
        words.is_empty()
            || words
                .iter()
                .any(|word| names.iter().any(|name| name == word))
    };
    let all: Vec<Case> = all.filter(is_asked).collect();
    assert!(!all.is_empty(), "FAULTS={asked:?}: no fault at no step");
    // Twice, so that each is played there and back: the second round begins with the other direction.
    let odd = all.len() % 2;
    let again = all.iter().skip(1 - odd).copied();
    all.iter().copied().chain(again).collect()
}

/// The place of a step in the order.
fn place(step: &str) -> usize {
    let place = STEPS.iter().position(|known| *known == step);
    place.unwrap_or_else(|| panic!("there is no step {step}"))
}

#[test]
#[ignore = "make soak"]
fn the_worst_faults_between_14_and_17() {
    play(14, 17, &ALWAYS_BETWEEN_14_AND_17);
}

#[test]
fn the_worst_faults_between_10_and_18() {
    play(10, 18, &ALWAYS_BETWEEN_10_AND_18);
}

#[test]
#[ignore = "it takes many minutes: make soak"]
fn faults_between_14_and_17() {
    play(14, 17, &cases(&BETWEEN_14_AND_17));
}

#[test]
#[ignore = "it takes many minutes: make soak"]
fn faults_between_10_and_18() {
    play(10, 18, &cases(&BETWEEN_10_AND_18));
}
