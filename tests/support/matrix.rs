//! Which pairs of versions tests run on: `PAIRS="10-18 16-17"`, `PAIRS=all`, or a sample.

use std::env;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

/// The versions there are servers for.
pub const VERSIONS: RangeInclusive<u32> = 10..=18;

/// Every version once, and the longest leap.
const SAMPLE: [(u32, u32); 5] = [(10, 18), (11, 12), (13, 14), (15, 16), (17, 18)];

/// The pairs, old version first, that `PAIRS` asks for.
pub fn pairs() -> Vec<(u32, u32)> {
    let asked = env::var("PAIRS").unwrap_or_default();
    parse(&asked).unwrap_or_else(|error| panic!("PAIRS={asked:?}: {error}"))
}

/// Whether it is asked for everything, however long that takes.
pub fn is_all() -> bool {
    env::var("PAIRS").is_ok_and(|asked| asked.trim() == "all")
}

/// All of them where everything is asked for, else a few.
pub fn sample<'a, T>(all: &'a [T], few: &'a [T]) -> &'a [T] {
    if is_all() { all } else { few }
}

/// Between two writes of a client: both servers, flare and other tests share the machine.
pub fn think_time() -> Duration {
    Duration::from_millis(if is_all() { 5 } else { 15 })
}

/// How often a test plays what depends on the moment: `ROUNDS`, or `all` times when everything is asked for.
pub fn rounds(sample: u32, all: u32) -> u32 {
    match env::var("ROUNDS") {
        Ok(asked) => asked.parse().expect("ROUNDS is a number"),
        Err(_) if is_all() => all,
        Err(_) => sample,
    }
}

/// For what differs little between versions: the longest leap or a recent pair.
const SOME: [(u32, u32); 2] = [(10, 18), (15, 17)];

/// One of them, always the same for a test.
fn one_of_some() -> (u32, u32) {
    let thread = thread::current();
    let letters = thread.name().unwrap_or_default().len();
    SOME[letters % SOME.len()]
}

/// Runs a test on every pair and then names all that failed.
#[track_caller]
pub fn for_each_pair(test: impl Fn(u32, u32)) {
    on(pairs(), test);
}

/// The same on one pair, unless others are asked for.
#[track_caller]
pub fn for_some_pairs(test: impl Fn(u32, u32)) {
    if env::var("PAIRS").is_ok_and(|asked| !asked.trim().is_empty()) {
        on(pairs(), test);
    } else {
        on(vec![one_of_some()], test);
    }
}

#[track_caller]
fn on(pairs: Vec<(u32, u32)>, test: impl Fn(u32, u32)) {
    let failed: Vec<String> = pairs
        .into_iter()
        .filter(|(old, new)| catch_unwind(AssertUnwindSafe(|| test(*old, *new))).is_err())
        .map(|(old, new)| format!("{old}-{new}"))
        .collect();
    assert!(failed.is_empty(), "failed on {}", failed.join(" "));
}

/// No pair, `all`, or pairs between blanks or commas.
pub fn parse(asked: &str) -> Result<Vec<(u32, u32)>, String> {
    match asked.trim() {
        "" => Ok(SAMPLE.to_vec()),
        "all" => Ok(all()),
        some => some
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(pair)
            .collect(),
    }
}

fn all() -> Vec<(u32, u32)> {
    VERSIONS
        .flat_map(|old| (old..=*VERSIONS.end()).map(move |new| (old, new)))
        .collect()
}

fn pair(word: &str) -> Result<(u32, u32), String> {
    let version = |text: &str| {
        text.parse()
            .ok()
            .filter(|version| VERSIONS.contains(version))
    };
    word.split_once('-')
        .and_then(|(old, new)| Some((version(old)?, version(new)?)))
        .ok_or_else(|| format!("{word:?} is not a pair such as 10-18"))
}
