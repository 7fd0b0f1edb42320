//! No blocker and no warning on a healthy pair: before anything is set up, and when it is ready to be cut over.

use super::assert_healthy;
use crate::support::{Pair, matrix};

fn is_healthy_all_the_way(old: u32, new: u32) {
    let pair = Pair::alone(old, new).with_accounts(200);
    let args = ["preflight", "--deny-warnings", "--format", "json"];
    assert_healthy(&pair.flare(&args), &format!("{old}-{new}, before anything"));
    pair.flare(&["prepare", pair.subname(), "--yes"]).ok();
    assert_healthy(&pair.flare(&args), &format!("{old}-{new}, prepared"));
    pair.flare(&["preflight"])
        .ok()
        .prints("0 blockers, 0 warnings");
}

#[test]
fn nothing_is_said_of_a_healthy_pair() {
    for (old, new) in [(10, 18), (18, 18)] {
        is_healthy_all_the_way(old, new);
    }
}

#[test]
#[ignore = "long: every pair of versions"]
fn nothing_is_said_of_any_healthy_pair() {
    matrix::for_each_pair(is_healthy_all_the_way);
}
