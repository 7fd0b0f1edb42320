//! How fast the program is beside the programs that its work is made of, and how much memory it takes.
//!
//! The two take turns on the same servers, so that the ratios count and not the machine. `ROUNDS=9` says how often,
//! `PAIRS=14-18` between which versions; a word after `--` (`schema`, `connect`, `attack`, `copy`, `verify`, `memory`) measures that alone.

#[path = "../../support/mod.rs"]
mod support;

mod attack;
mod connect;
mod copy;
mod memory;
mod processor;
mod rounds;
mod schema;
mod verify;

use std::env;

use support::{clients, matrix};

/// One thing that is measured.
struct Part {
    name: &'static str,
    measure: fn(old: u32, new: u32),
}

const PARTS: [Part; 6] = [
    Part {
        name: "connect",
        measure: connect::measure,
    },
    Part {
        name: "schema",
        measure: schema::measure,
    },
    Part {
        name: "attack",
        measure: attack::measure,
    },
    Part {
        name: "copy",
        measure: copy::measure,
    },
    Part {
        name: "verify",
        measure: verify::measure,
    },
    Part {
        name: "memory",
        measure: memory::measure,
    },
];

fn main() {
    let (old, new) = match env::var("PAIRS") {
        Ok(pairs) if !pairs.is_empty() => matrix::pairs()[0],
        _ => (14, 18),
    };
    let asked: Vec<String> = env::args().skip(1).collect();
    let is_asked = |part: &&Part| {
        let mut words = asked
            .iter()
            .filter(|word| !word.starts_with("--"))
            .peekable();
        words.peek().is_none() || words.any(|word| word == part.name)
    };
    println!("PostgreSQL {old} to {new}, client programs of 18\n");
    for part in PARTS.iter().filter(is_asked) {
        (part.measure)(old, new);
    }
}

/// A client program of the version that flare picks.
fn client(program: &str) -> String {
    let bin = clients::bin(18).expect("client programs 18");
    bin.join(program).to_str().expect("UTF-8").to_owned()
}
