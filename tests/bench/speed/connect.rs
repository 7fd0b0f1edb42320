//! Short commands beside two sessions of psql.

use std::time::Duration;

use crate::client;
use crate::rounds::{Goal, compare};
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

pub fn measure(old: u32, new: u32) {
    let pair = Pair::alone(old, new).with_accounts(10).replicating();
    for command in [&["verify_connectivity"][..], &["lag"]] {
        let compared = compare(
            15,
            || ms(pair.flare(command).ok().took()),
            || psql(pair.publisher()) + psql(pair.subscriber()),
        );
        let what = format!("flare {}, beside two psql -c 'select 1'", command[0]);
        compared.report(&what, "ms", Goal::AtMost(1.0));
    }
}

/// One session after the other, as a script would have them.
fn psql(server: &Cluster) -> f64 {
    let conninfo = server.conninfo("postgres", server.admin(), Passwords::ADMIN);
    let output = Invocation::of(client("psql"), &["-X", "-c", "select 1", &conninfo]).run();
    ms(output.ok().took())
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
