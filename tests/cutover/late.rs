//! A session of flare's own that its server lets go on late.

use std::time::Duration;

use super::fixture::{assert_settled, go_on, of_the_run_in, ready, stopped_at};
use crate::support::application::Side;
use crate::support::{Pair, process, wait};

#[test]
fn the_locks_may_have_become_the_fence_before_whoever_clears_their_way_looks() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let (to, publisher) = (Side::Subscriber, pair.publisher());
    let run = stopped_at(&pair, to, "revoke", &["--max-pause", "20s"]);
    let clears = format!(
        "SELECT pid FROM pg_stat_activity session
          WHERE application_name = 'flare/cutover' AND query LIKE '%waiting CONSTANT int[]%' AND {}",
        of_the_run_in(pair.db())
    );
    let clearing: u32 = publisher
        .value("postgres", &clears)
        .parse()
        .expect("one session");
    process::signal(clearing, libc::SIGSTOP);
    go_on(&run);
    // The signal of the fence: "fls" in ASCII, and its number.
    let fenced = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = {}
            AND database = (SELECT oid FROM pg_database WHERE datname = '{}')",
        0x66_6c_73_0a,
        pair.db()
    );
    wait::for_("the fence", Duration::from_secs(15), || {
        publisher.value("postgres", &fenced) != "0"
    });
    process::signal(clearing, libc::SIGCONT);
    let run = run.wait();
    assert_eq!(run.ok().json()["outcome"], "switched", "{run}");
    assert_settled(&pair, to);
}
