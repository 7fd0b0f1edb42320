//! Killed at a moment that nobody chose, again and again, until it is through.

use std::time::Duration;

use crate::support::application::{Application, Side};
use crate::support::{Pair, matrix, process, wait};

use super::dice::Dice;
use super::fixture::{
    assert_fenced, assert_first_line, assert_moved, assert_settled, open_sides, ready, switch_to,
    switched_to,
};

#[test]
#[ignore = "make soak"]
fn killed_at_any_moment_it_is_brought_to_its_end() {
    let rounds = matrix::rounds(2, 60);
    let mut dice = Dice::new();
    let pair = ready(Pair::alone(13, 18).with_accounts(10));
    let mut at = Side::Publisher;
    // How long a run takes that nobody kills, so that most are killed on the way.
    let mut whole = Duration::ZERO;
    for to in [Side::Subscriber, Side::Publisher] {
        let run = pair.flare(&switch_to(&pair, to, &["--format", "json"]));
        run.ok();
        whole = whole.max(run.took());
    }
    for round in 1..=rounds {
        let (from, to) = (at, at.other());
        let application = Application::start(&pair);
        application.await_writes_on(from, 30);
        let after = Duration::from_micros(dice.below(1 + whole.as_micros() as u64));
        let guard_too = dice.below(2) == 1;
        println!("round {round}: killed after {after:?}, the guard too: {guard_too}");
        let run = pair.spawn(&switch_to(&pair, to, &["--max-pause", "2s"]));
        wait::until(after, || run.has_ended());
        if guard_too {
            for guard in process::children_of(run.pid()) {
                process::signal(guard, libc::SIGKILL);
            }
        }
        run.kill_9();
        drop(run);

        wait::until(Duration::from_secs(6), || !open_sides(&pair).is_empty());
        let status = pair.flare(&["status"]);
        if let [side] = open_sides(&pair)[..] {
            assert_first_line(status.ok(), side);
        }
        let again = pair.flare(&switch_to(&pair, to, &["--format", "json"]));
        let outcome = again.ok().json()["outcome"].clone();
        assert!(outcome == "switched" || outcome == "already", "{again}");
        application.await_writes_on(to, 30);
        assert_settled(&pair, to);
        assert_fenced(&pair, from);
        assert_moved(application, &pair, &[from, to]);
        at = to;
    }
    switched_to(&pair, at.other());
}
