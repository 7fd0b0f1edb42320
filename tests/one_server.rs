//! A command whose work needs one server goes on, with a warning, while the other is down.

use std::net::TcpListener;

use crate::commands::{self, Needs};
use crate::support::Pair;

/// A port that nobody listens on.
fn dead_port() -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    u64::from(listener.local_addr().expect("its address").port())
}

#[test]
fn one_server_is_enough_for_what_needs_one() {
    let pair = Pair::new(15, 17).with_accounts(10).replicating();
    for (down, enough) in [
        ("subscriber", Needs::Publisher),
        ("publisher", Needs::Subscriber),
    ] {
        let right = std::fs::read_to_string(pair.config_path()).expect("read flare.yml");
        let port = dead_port();
        pair.configure(|config| config["hosts"][down]["conn"]["port"] = port.into());
        for command in commands::of_migrations(&pair) {
            // It asks the subscriber whether the publication is in use.
            if command.name == "drop_publication" {
                continue;
            }
            let run = pair.flare(&command.json());
            let there = format!("{down} 127.0.0.1:{port}");
            let answer = run.json();
            let asked = command.needs == enough || command.needs == Needs::One;
            if !asked {
                assert_ne!(run.status().code(), Some(0), "{run}");
                let told = run.stdout().contains(&there) || run.stderr().contains(&there);
                assert!(told, "{run}");
                assert_eq!(answer["changed"], false, "{run}");
            } else if command.name == "lag" {
                // Half an answer is no answer for whoever is to be woken.
                run.code(3).prints(&there);
                assert_eq!(answer["status"], "unknown", "{run}");
            } else {
                run.ok();
                assert_eq!(answer["ok"], true, "{run}");
                // A sample says itself which side is missing.
                if command.needs != Needs::One {
                    let told = run.stdout().contains(&there) || run.stderr().contains(&there);
                    assert!(told, "{run}");
                }
            }
        }
        pair.write_config(&right);
    }
}
